"""The figures of pretraining: what is drawn equals the tables, nulls stand beside, and no words overlap."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuroloom.figures.drawing import count_of
from neuroloom.figures.model_plots import (
    NULLS,
    family,
    last_losses,
    loss_of,
    plot_pretraining,
    plot_scaling,
)
from neuroloom.models.curves import pretraining_tables

from .test_token_plots import assert_readable, drawn, legend_words, panels, values, words

SIZES = {
    "reve": (431_000, 12),
    "brainomni": (310_000, 20),
    "revenarrow": (41_000, 12),
    "revequarter": (431_000, 3),
    "revewide": (1_310_000, 12),
}
SWEEP = ("revenarrow", "revequarter", "revewide")


def models_table(names: tuple[str, ...] = tuple(SIZES), folds: tuple[int, ...] = (0,)) -> pd.DataFrame:
    """As `pretraining_tables` writes it."""
    return pd.DataFrame(
        [
            {
                "model": name,
                "fold": fold,
                "architecture": "brainomni" if "brainomni" in name else "reve",
                "role": "sweep" if name in SWEEP else "model",
                "unusable": "",
                "n_train": SIZES[name][1],
                "n_validation": 6,
                "n_people": 9 + fold,
                "parameters": SIZES[name][0],
                "steps": 300,
            }
            for name in names
            for fold in folds
        ]
    )


def pretraining_table(
    names: tuple[str, ...] = tuple(SIZES), folds: tuple[int, ...] = (0,), steps: int = 300
) -> pd.DataFrame:
    """As the training loop writes curves: validation on every thirtieth step."""
    rng, parts = np.random.default_rng(6), []
    for name in names:
        reve = "brainomni" not in name
        floor = 0.62 - 0.03 * np.log10(SIZES[name][0] / 4e5) + (0.05 if "quarter" in name else 0) if reve else 4.2
        start, tokens = (1.1, 2816) if reve else (5.6, 5120)
        for fold in folds:
            step = np.arange(1, steps + 1)
            ideal = floor + 0.01 * fold + (start - floor) * np.exp(-step / 60)
            checked = step % 30 == 0
            table = pd.DataFrame({"model": name, "fold": fold, "step": step, "tokens": tokens * step})
            table["loss"] = 1.1 * ideal * (1 + rng.normal(0, 0.02, steps))
            table["reconstruction" if reve else "accuracy"] = ideal * (1 + rng.normal(0, 0.02, steps)) if reve else 0.2
            table["validation_loss"] = np.where(checked, 1.1 * ideal + 0.02, np.nan)
            if reve:
                table["validation_reconstruction"] = np.where(checked, ideal + 0.02, np.nan)
                table["validation_mean_patch"] = np.where(checked, 0.79 + 0.01 * fold, np.nan)
                table["validation_last_value"] = np.where(checked, 1.02, np.nan)
            else:
                table["validation_unigram"] = np.where(checked, 5.1, np.nan)
                table["validation_unigram_latent"] = np.where(checked, 4.9, np.nan)
            parts.append(table)
    return pd.concat(parts, ignore_index=True)


def heights(axes: Any, label: str) -> list[float]:
    """Finite y of all lines of one label."""
    return sorted(float(y) for line in drawn(axes, label) for y in np.atleast_1d(line.get_ydata()) if np.isfinite(y))


@pytest.mark.parametrize("folds", [(0,), (0, 1)])
def test_curves_stand_beside_their_nulls(folds: tuple[int, ...]) -> None:
    table = pretraining_table(folds=folds)
    table["validation_mean_value"] = table["validation_mean_patch"] - 0.02
    figure = plot_pretraining(table, models_table(folds=folds))
    assert_readable(figure)
    brainomni, reve = panels(figure)
    own = table[table["model"] == "reve"]
    assert heights(reve, "validation") == sorted(own["validation_reconstruction"].dropna())
    assert heights(reve, "training") == sorted(own["reconstruction"])
    assert heights(reve, "validation_mean_patch") == sorted(own["validation_mean_patch"].dropna())
    assert heights(reve, "validation_mean_value") == sorted(own["validation_mean_value"].dropna())
    assert heights(reve, "validation_last_value") == sorted(own["validation_last_value"].dropna())
    assert drawn(reve, "validation_unigram") == []
    own = table[table["model"] == "brainomni"]
    assert heights(brainomni, "validation") == sorted(own["validation_loss"].dropna())
    assert heights(brainomni, "validation_unigram") == sorted(own["validation_unigram"].dropna())
    assert heights(brainomni, "validation_unigram_latent") == sorted(own["validation_unigram_latent"].dropna())
    assert set(legend_words(figure)) == {"training", "validation, other people", *NULLS.values()}
    assert "nats" in brainomni.get_ylabel()
    assert "SD" in reve.get_ylabel()


def test_nulls_and_validation_are_inside_of_the_panel() -> None:
    table = pretraining_table(("reve",))
    (axes,) = panels(plot_pretraining(table, models_table(("reve",))))
    low, high = axes.get_ylim()
    for name in ("validation_reconstruction", "validation_mean_patch", "validation_last_value"):
        assert low < table[name].min() <= table[name].max() < high
    # a start a hundred times as high must not flatten the rest
    table.loc[0, "reconstruction"] = 100.0
    assert panels(plot_pretraining(table, models_table(("reve",))))[0].get_ylim()[1] < 2


def test_panels_say_how_large_a_model_is_and_what_it_saw() -> None:
    titles = [axes.get_title(loc="left") for axes in panels(plot_pretraining(pretraining_table(), models_table()))]
    assert titles == [
        "brainomni: 310 k weights\n20 + 6 recordings, n = 9 people",
        "reve: 431 k weights\n12 + 6 recordings, n = 9 people",
    ]


def test_a_model_without_a_curve_says_why() -> None:
    table = pretraining_table(("brainomni",))
    models = models_table(("brainomni", "reve"))
    assert "no curve: its weights were imported" in words(plot_pretraining(table, models))
    blank = models.assign(architecture="").drop(columns="unusable")
    assert "no model: see the log of pretrain_model" in words(plot_pretraining(table, blank))
    models.loc[models["model"] == "reve", "unusable"] = "no EEG recording is left"
    figure = plot_pretraining(table, models)
    assert_readable(figure)
    assert "no model: no EEG recording is left" in words(figure)
    untrained = plot_pretraining(pretraining_tables([], [], sweep=())[0], models)
    assert_readable(untrained)
    assert len(panels(untrained)) == 2


def test_without_a_loss_of_its_own_the_whole_loss_is_compared() -> None:
    table = pretraining_table(("reve",)).drop(columns=["reconstruction", "validation_reconstruction"])
    assert loss_of(table) == "validation_loss"
    (axes,) = panels(plot_pretraining(table, models_table(("reve",))))
    assert heights(axes, "training") == sorted(table["loss"])
    assert loss_of(pretraining_table(("reve",)).assign(validation_reconstruction=np.nan)) == "validation_loss"


@pytest.mark.parametrize("folds", [(0,), (0, 1)])
def test_sizes_of_the_sweep_stand_beside_the_model_that_they_are_of(folds: tuple[int, ...]) -> None:
    table, models = pretraining_table(folds=folds), models_table(folds=folds)
    figure = plot_scaling(table, models)
    assert_readable(figure)
    left, right = panels(figure)
    drawn_here = table[table["model"] != "brainomni"]
    assert heights(left, "size") == sorted(drawn_here["validation_reconstruction"].dropna())
    lasts = (
        drawn_here.dropna(subset=["validation_reconstruction"])
        .groupby(["model", "fold"])["validation_reconstruction"]
        .last()
    )
    assert heights(right, "last") == sorted(lasts)
    np.testing.assert_array_equal(np.unique(values(right, "last")), [41_000, 431_000, 1_310_000])
    white = [line for line in drawn(right, "last") if line.get_markerfacecolor() == "white"]
    assert len(white) == len(folds), "the one with a quarter of the data"
    assert heights(right, "trend") == sorted(lasts.drop("revequarter", level="model"))
    assert "revewide: 1.31 M weights, 12 recordings" in legend_words(figure)
    assert "revequarter: 431 k weights, 3 recordings" in legend_words(figure)
    assert "null: mean patch" in legend_words(figure)
    assert "null: code frequencies" not in legend_words(figure)


def test_the_last_loss_is_that_of_the_last_validation() -> None:
    table, models = pretraining_table(), models_table()
    cards = last_losses(table, family(models)).set_index("model")
    assert list(cards.index) == ["revenarrow", "revequarter", "reve", "revewide"]
    assert list(cards["less"]) == [False, True, False, False]
    curve = table[table["model"] == "revewide"].set_index("step")
    assert cards["last"]["revewide"] == curve["validation_reconstruction"][300]


def test_a_size_without_a_model_keeps_its_line_in_the_legend() -> None:
    models = models_table()
    models.loc[models["model"] == "revewide", ["parameters", "unusable"]] = [np.nan, "nothing to train on"]
    figure = plot_scaling(pretraining_table(tuple(set(SIZES) - {"revewide"})), models)
    assert_readable(figure)
    assert "revewide: no model: nothing to train on" in legend_words(figure)


def test_counts_are_short() -> None:
    assert [count_of(n) for n in (12, 4321, 431_000, 69_200_000, np.nan)] == ["12", "4.32 k", "431 k", "69.2 M", "?"]


NOTICES = {
    "nobody is left to validate on.": lambda: plot_scaling(pd.DataFrame(), models_table()),
    "No model was pretrained": lambda: plot_pretraining(pd.DataFrame(), pd.DataFrame()),
    "those of the sweep": lambda: plot_pretraining(pretraining_table(SWEEP), models_table(SWEEP)),
    "No sweep over sizes": lambda: plot_scaling(pretraining_table(("reve",)), models_table(("reve",))),
    "nobody is left to validate on": lambda: plot_scaling(
        pretraining_table().assign(validation_reconstruction=np.nan, validation_loss=np.nan), models_table()
    ),
}


@pytest.mark.parametrize("reason", NOTICES)
def test_a_table_without_rows_gives_a_notice(reason: str) -> None:
    figure = NOTICES[reason]()
    assert any(reason in word for word in words(figure))
    assert not figure.axes


def test_a_column_that_is_missing_is_named_with_its_rule() -> None:
    with pytest.raises(ValueError, match=r"table models: no column role .*collect_pretraining"):
        plot_pretraining(pretraining_table(), models_table().drop(columns="role"))
    with pytest.raises(ValueError, match="table pretraining: no column tokens"):
        plot_scaling(pretraining_table().drop(columns="tokens"), models_table())


def test_each_figure_has_a_caption(repository: Any) -> None:
    for name in ("pretraining", "scaling"):
        assert (repository / "resources" / "captions" / f"models_{name}.rst").read_text().strip().endswith(".")
