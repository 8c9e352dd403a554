"""The figures of the evaluation: what is drawn equals the tables, nothing vanishes, and no words overlap."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from neuroloom.evaluation.tables import main_rows, summary_table, variance_table, with_q
from neuroloom.figures.drawing import CHANCE
from neuroloom.figures.evaluation_audits import SOURCES, plot_audits, plot_variance
from neuroloom.figures.evaluation_plots import plot_downstream, plot_few_shot

from .test_token_plots import assert_readable, drawn, legend_words, panels, values, words

LEVELS = {
    ("majority", "baseline"): 0.0,
    ("band_power_lda", "baseline"): 0.36,
    ("csp_lda", "baseline"): 0.44,
    ("riemann", "baseline"): 0.48,
    ("eegnet", "baseline"): 0.3,
    ("shallow", "baseline"): 0.26,
    ("reve", "linear"): 0.3,
    ("reve", "attentive"): 0.34,
    ("reve", "lora"): 0.46,
    ("reve", "full"): 0.5,
    ("reve", "scratch"): 0.1,
    ("brainomni", "linear"): 0.22,
    ("brainomni", "attentive"): 0.2,
    ("brainomni", "lora"): 0.3,
    ("brainomni", "full"): 0.26,
    ("brainomni", "scratch"): 0.06,
}
TASKS = {"eyes": 2, "imagery": 2, "stages": 5}
SHARES = (0.25, 1.0)
UNKNOWN = ["score", "ci_low", "ci_high", "chance", "chance_high", "p"]


@cache
def evaluation_table(
    tasks: tuple[str, ...] = ("eyes", "imagery"),
    *,
    folds: tuple[int, ...] = (0,),
    shares: tuple[float, ...] = SHARES,
    models: tuple[str, ...] = ("reve", "brainomni"),
    seeds: int = 3,
) -> pd.DataFrame:
    """As `judge_model` and `judge_baselines` write it."""
    rng, lines = np.random.default_rng(8), []
    for task in tasks:
        chance = 1 / TASKS[task]
        for (model, regime), level in LEVELS.items():
            if regime != "baseline" and model not in models:
                continue
            for share in shares:
                for fold in folds:
                    for seed in range(seeds):
                        gain = level * (0.6 if share < 1 else 1) * (1.4 if task == "eyes" else 1)
                        true = chance + (1 - chance) * gain
                        for metric in ("balanced_accuracy", "kappa", "auroc", "auprc"):
                            score = true + (rng.normal(0, 0.03) if level else 0.0)
                            lines.append(
                                {
                                    "metric": metric,
                                    "score": score,
                                    "ci_low": score - 0.11,
                                    "ci_high": score + 0.1,
                                    "chance": chance,
                                    "chance_high": chance + 0.09,
                                    "p": 0.005 if gain > 0.3 else 0.4,
                                    "n_windows": 144,
                                    "n_participants": 6,
                                    "n_classes": TASKS[task],
                                    "rule": "by validation",
                                    "note": "",
                                    "n_parameters": 431_000,
                                    "n_trainable": 97,
                                    "n_fits": 4,
                                    "n_epochs": 16,
                                    "seen": False,
                                    "task": task,
                                    "model": model,
                                    "regime": regime,
                                    "share": share,
                                    "fold": fold,
                                    "seed": seed,
                                    "split": "subject",
                                }
                            )
    return with_q(pd.DataFrame(lines))


def subjects_table(evaluation: pd.DataFrame, n_people: int = 6) -> pd.DataFrame:
    """Scores of the participants of each run."""
    rng = np.random.default_rng(9)
    person = rng.normal(0, 0.08, n_people)
    runs = evaluation[(evaluation["metric"] == "balanced_accuracy") & evaluation["score"].notna()]
    kept = runs.loc[runs.index.repeat(n_people)].drop(columns=["n_windows"])
    at = np.tile(np.arange(n_people), len(runs))
    names = [f"demo/south/{fold}{k}" for fold, k in zip(kept["fold"], at, strict=True)]
    score = kept["score"] + person[at] + rng.normal(0, 0.03, len(kept))
    keys = ["task", "model", "regime", "share", "fold", "seed", "metric"]
    return kept[keys].assign(participant=names, score=score.where(kept["model"] != "majority", 0.5), n_windows=24)


AUDITS = (
    "none",
    "identity",
    "site",
    "no 1/f of recordings",
    "no 1/f of windows",
    "delta only",
    "theta only",
    "alpha only",
    "beta only",
    "low gamma only",
    "frontal only",
    "without frontal",
)


def audits_table(
    tasks: tuple[str, ...] = ("eyes", "imagery"),
    *,
    models: tuple[str, ...] = ("band_power", "brainomni", "reve"),
    folds: tuple[int, ...] = (0,),
) -> pd.DataFrame:
    """As `audit_table` and `signal_audit_table` write it."""
    rng, lines = np.random.default_rng(10), []
    for task in tasks:
        for model in models:
            for fold in folds:
                for audit in AUDITS:
                    n_classes = {"identity": 12, "site": 3}.get(audit, TASKS[task])
                    for probe in ("linear", "majority"):
                        chance = 1 / n_classes
                        level = {"identity": 0.6, "site": 0.85}.get(audit, chance + rng.uniform(0, 0.3))
                        score = chance if probe == "majority" else level + rng.normal(0, 0.02)
                        for metric in ("balanced_accuracy", "kappa"):
                            lines.append(
                                {
                                    "target": audit if n_classes != TASKS[task] else task,
                                    "probe": probe,
                                    "metric": metric,
                                    "score": score,
                                    "ci_low": score - 0.1,
                                    "ci_high": score + 0.08,
                                    "chance": chance,
                                    "chance_high": chance + 0.08,
                                    "p": 0.01,
                                    "n_windows": 144,
                                    "n_participants": 12 if audit == "identity" else 6,
                                    "n_classes": n_classes,
                                    "rule": "penalty",
                                    "note": "",
                                    "audit": audit,
                                    "task": task,
                                    "model": model,
                                    "fold": fold,
                                }
                            )
    return pd.DataFrame(lines)


def downstream(evaluation: pd.DataFrame) -> Any:
    return plot_downstream(evaluation, summary_table(evaluation))


def full_main(table: pd.DataFrame, **facts: Any) -> pd.DataFrame:
    """Rows that are judged, all training people used, with these facts."""
    rows = main_rows(table)
    rows = rows[rows["share"] == 1.0]
    return rows[np.logical_and.reduce([rows[name] == value for name, value in facts.items()])]


def failing(evaluation: pd.DataFrame, note: str = "one class in training", **facts: Any) -> pd.DataFrame:
    """The same table, with rows that have no score."""
    table = evaluation.copy()
    lost = np.logical_and.reduce([np.full(len(table), True), *(table[name] == value for name, value in facts.items())])
    table.loc[lost, UNKNOWN] = np.nan
    table.loc[lost, "note"] = note
    return table


def chance_bars(axes: Any) -> list[Any]:
    return [patch for patch in axes.patches if to_hex(patch.get_facecolor()).upper() == CHANCE]


@pytest.mark.parametrize(
    ("tasks", "folds", "models"),
    [
        (("eyes",), (0,), ("reve",)),
        (("eyes", "imagery", "stages"), (0, 1), ("reve", "brainomni")),
        (("eyes",), (0,), ()),
    ],
)
def test_every_reader_stands_beside_chance_with_all_its_runs(
    tasks: tuple[str, ...], folds: tuple[int, ...], models: tuple[str, ...]
) -> None:
    table = evaluation_table(tasks, folds=folds, models=models)
    summary = summary_table(table)
    figure = plot_downstream(table, summary)
    assert_readable(figure)
    for axes, task in zip(panels(figure), tasks, strict=True):
        means = full_main(summary, task=task)
        assert len(means) == 6 + 5 * len(models)
        np.testing.assert_allclose(values(axes, "mean"), np.sort(means["score"]))
        np.testing.assert_allclose(values(axes, "run"), np.sort(full_main(table, task=task)["score"]))
        ends = {tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2}
        assert ends >= set(zip(means["ci_low"], means["ci_high"], strict=True))
        np.testing.assert_allclose([bar.get_x() for bar in chance_bars(axes)], 1 / TASKS[task])
        np.testing.assert_allclose([bar.get_width() for bar in chance_bars(axes)], 0.09)
        assert len(drawn(axes, "found")) == (means["q"] <= 0.05).sum() > 0
        counts = f"n = {6 * len(folds)} people, {144 * len(folds)} windows"
        assert axes.get_title(loc="left") == f"{task}\n{counts}"
    assert set(legend_words(figure)) >= {*models, "baseline", "frozen, mean of runs", "from scratch", "fine-tuned"}


def test_baselines_stand_apart_and_regimes_are_told_from_each_other() -> None:
    (axes,) = panels(downstream(evaluation_table(("eyes",))))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:6] == ["majority", "band power + LDA", "CSP + LDA", "Riemann", "EEGNet", "ShallowFBCSP"]
    assert labels[6:] == 2 * ["linear, frozen", "attentive, frozen", "LoRA", "all fine-tuned", "from scratch"]
    heads = {text.get_text().strip(): text.get_position()[1] for text in axes.texts}
    assert list(heads) == ["baselines", "brainomni", "reve"]
    places = axes.get_yticks()
    assert places[5] < heads["brainomni"] < places[6] < places[10] < heads["reve"] < places[11]
    marks = {round(float(line.get_ydata()[0]), 3): line for line in drawn(axes, "mean")}
    looks = [marks[round(float(place), 3)] for place in places]
    assert {line.get_color() for line in looks[:6]} == {"#000000"}
    assert len({line.get_color() for line in looks}) == 3
    assert [line.get_marker() for line in looks[6:11]] == ["o", "o", "s", "s", "o"]
    assert looks[10].get_markerfacecolor() == "white"


def test_the_upper_axis_is_corrected_for_chance() -> None:
    for task, chance in (("eyes", 0.5), ("stages", 0.2)):
        (axes,) = panels(downstream(evaluation_table((task,))))
        (upper,) = axes.child_axes
        low, high = axes.get_xlim()
        assert upper.get_xlabel() == "chance-corrected"
        assert axes.figure.draw_without_rendering() is None
        expected = [(end - chance) / (1 - chance) for end in (low, high)]
        np.testing.assert_allclose(upper.get_xlim(), expected)


def test_a_reader_without_a_score_says_why_and_lost_runs_are_counted() -> None:
    table = failing(evaluation_table(), task="eyes", model="reve", regime="full")
    table = failing(table, task="imagery", model="riemann", seed=1)
    table.loc[(table["task"] == "imagery") & (table["model"] == "brainomni"), "seen"] = True
    figure = downstream(table)
    assert_readable(figure)
    eyes, imagery = panels(figure)
    assert "no value: one class in training" in [text.get_text() for text in eyes.texts]
    assert len(values(eyes, "mean")) == 15
    remarks = [text.get_text() for text in imagery.texts if text.get_text()]
    assert remarks.count("2 of 3 runs") == 1
    assert remarks.count("people seen") == 5
    left = imagery.get_xlim()[0]
    assert min(full_main(summary_table(table), task="imagery")["ci_low"]) > left + 0.15 * (1 - left), "room for words"


def test_nobody_could_be_asked() -> None:
    table = failing(evaluation_table(("eyes",)), note="no window of any class").assign(n_participants=0, n_windows=0)
    figure = downstream(table.assign(n_classes=0))
    assert_readable(figure)
    assert panels(figure)[0].get_title(loc="left") == "eyes\nnobody was tested"
    assert len([word for word in words(figure) if word == "no value: no window of any class"]) == 16


def test_a_task_of_numbers_has_no_corrected_axis_and_one_within_people_says_so() -> None:
    table = evaluation_table(("eyes",), models=("reve",))
    table = table[table["metric"] == "balanced_accuracy"].assign(metric="r2", n_classes=0, split="session", chance=-0.1)
    figure = downstream(table)
    assert_readable(figure)
    (axes,) = panels(figure)
    assert axes.child_axes == []
    assert axes.get_xlabel() == "R²"
    assert "other sessions of known people" in axes.get_title(loc="left")


@pytest.mark.parametrize(
    ("tasks", "shares", "models"),
    [
        (("eyes",), (0.25, 1.0), ("reve",)),
        (("eyes", "stages"), (0.01, 0.05, 0.25, 1.0), ("reve", "brainomni")),
    ],
)
def test_few_people_draw_each_regime_beside_the_baselines(
    tasks: tuple[str, ...], shares: tuple[float, ...], models: tuple[str, ...]
) -> None:
    summary = summary_table(evaluation_table(tasks, shares=shares, models=models))
    figure = plot_few_shot(summary)
    assert_readable(figure)
    shown = panels(figure)
    assert [axes.get_title(loc="left") for axes in shown] == [
        f"{task}: {model}\nn = 6 people" for task in tasks for model in sorted(models)
    ]
    for axes, (task, model) in zip(shown, [(t, m) for t in tasks for m in sorted(models)], strict=True):
        means = main_rows(summary)
        means = means[means["task"] == task]
        lines = drawn(axes, "line")
        assert len(lines) == 5 + 2
        reference, best = lines[-1], lines[-2]
        own = means[means["model"] == "band_power_lda"].sort_values("share")
        np.testing.assert_allclose(reference.get_ydata(), own["score"])
        classical = means[means["regime"] == "baseline"]
        np.testing.assert_allclose(best.get_ydata(), classical.groupby("share")["score"].max())
        own = means[(means["model"] == model) & (means["regime"] == "linear")].sort_values("share")
        np.testing.assert_allclose(lines[0].get_ydata(), own["score"])
        np.testing.assert_allclose(np.log(lines[0].get_xdata() / own["share"]).std(), 0, atol=1e-9)
        assert len({line.get_xdata()[0] for line in lines}) == len(lines), "none hides another"
    assert [label.get_text() for label in shown[-1].get_xticklabels()] == [f"{100 * share:g} %" for share in shares]
    assert any(word.startswith("best baseline: ") for word in legend_words(figure))


def test_few_people_name_what_is_missing() -> None:
    table = failing(evaluation_table(), task="eyes", model="reve", regime="lora", share=0.25)
    figure = plot_few_shot(summary_table(failing(table, task="imagery", model="reve", regime="lora")))
    assert_readable(figure)
    assert words(figure).count("no value: LoRA, 25 %") == 1
    assert words(figure).count("no value: LoRA, 25, 100 %") == 1


@pytest.mark.parametrize(("tasks", "folds"), [(("eyes",), (0,)), (("eyes", "stages"), (0, 1))])
def test_audits_stand_beside_chance(tasks: tuple[str, ...], folds: tuple[int, ...]) -> None:
    table = audits_table(tasks, folds=folds)
    figure = plot_audits(table)
    assert_readable(figure)
    judged = table[(table["metric"] == "balanced_accuracy") & (table["probe"] == "linear")]
    for axes, task in zip(panels(figure), tasks, strict=True):
        part = judged[judged["task"] == task]
        np.testing.assert_allclose(values(axes, "score"), np.sort(part["score"]))
        np.testing.assert_allclose(np.sort([bar.get_x() for bar in chance_bars(axes)]), np.sort(part["chance"]))
        assert len({float(line.get_ydata()[0]) for line in drawn(axes, "score")}) == len(part)
        assert axes.get_title(loc="left") == f"{task}\nn = 6 people, 12 for what leaks"
    labels = [label.get_text() for label in panels(figure)[0].get_yticklabels()]
    assert labels[:4] == ["who it is", "where it was", "signal as it is", "no 1/f of recordings"]
    assert legend_words(figure)[:3] == ["band power", "brainomni", "reve"]


def test_models_have_one_colour_in_all_figures() -> None:
    (few,) = panels(plot_audits(audits_table(("eyes",))))
    colours = {line.get_color() for line in drawn(few, "score")}
    (axes,) = panels(downstream(evaluation_table(("eyes",))))
    assert {line.get_color() for line in drawn(axes, "mean")} == colours


def test_an_audit_that_could_not_be_made_says_why() -> None:
    table = audits_table()
    lost = (table["audit"] == "site") & (table["model"] == "reve")
    table = table[~(lost & ((table["probe"] == "majority") | (table["metric"] == "kappa")))].copy()
    lost = lost.loc[table.index]
    table.loc[lost, UNKNOWN] = np.nan
    table.loc[lost, "note"] = "fewer than two sites have two participants"
    figure = plot_audits(table)
    assert_readable(figure)
    assert words(figure).count("no value: fewer than two sites have two participants") == 2


def test_audits_of_a_task_of_numbers_are_judged_by_r2() -> None:
    table = audits_table(("eyes",))
    leak = table["audit"].isin(["identity", "site"])
    table.loc[~leak & (table["metric"] == "balanced_accuracy"), "metric"] = "r2"
    figure = plot_audits(table)
    (axes,) = panels(figure)
    judged = table[table["metric"].isin(["balanced_accuracy", "r2"]) & (table["probe"] == "linear")]
    np.testing.assert_allclose(values(axes, "score"), np.sort(judged["score"]))
    assert axes.get_xlabel() == "balanced accuracy or R²"


@pytest.mark.parametrize("folds", [(0,), (0, 1)])
def test_the_variance_is_divided(folds: tuple[int, ...]) -> None:
    table = variance_table(subjects_table(evaluation_table(folds=folds, shares=(1.0,))))
    figure = plot_variance(table)
    assert_readable(figure)
    for axes, task in zip(panels(figure), ("eyes", "imagery"), strict=True):
        part = table[(table["task"] == task) & (table["share"] == 1.0)]
        for source, colour in SOURCES.items():
            bars = [bar for bar in axes.patches if to_hex(bar.get_facecolor()).upper() == colour]
            expected = part.loc[part["source"] == source, "part"].dropna()
            np.testing.assert_allclose(np.sort([bar.get_width() for bar in bars]), np.sort(expected))
        ends: dict[float, float] = {}
        for bar in axes.patches:
            ends[bar.get_y()] = max(ends.get(bar.get_y(), 0.0), bar.get_x() + bar.get_width())
        np.testing.assert_allclose(list(ends.values()), 1.0)
        assert len(ends) == 15
        assert [text.get_text() for text in axes.texts].count("no value: scores do not vary") == 1, "the majority"
        people = 6 * len(folds)
        assert f"n = {people} people, {len(folds)} fold" in axes.get_title(loc="left")
    assert ("split (fold): not told apart" in legend_words(figure)) == (len(folds) == 1)


def test_one_run_of_each_tells_nothing_apart() -> None:
    table = variance_table(subjects_table(evaluation_table(("eyes",), seeds=1)))
    figure = plot_variance(table)
    assert_readable(figure)
    assert words(figure).count("no value: sources are not told apart in so few runs") == 16


EMPTY = pd.DataFrame()
NOTICES = {
    "No task was asked": lambda: plot_downstream(EMPTY, EMPTY),
    "No task was asked.": lambda: plot_few_shot(EMPTY),
    "One share of the training people": lambda: plot_few_shot(summary_table(evaluation_table(shares=(1.0,)))),
    "No audit was made": lambda: plot_audits(EMPTY),
    "No reader was scored": lambda: plot_variance(variance_table(EMPTY)),
}


@pytest.mark.parametrize("reason", NOTICES)
def test_a_table_without_rows_gives_a_notice(reason: str) -> None:
    figure = NOTICES[reason]()
    assert any(reason in word for word in words(figure))
    assert not figure.axes


def test_a_column_that_is_missing_is_named_with_its_rule() -> None:
    table = evaluation_table(("eyes",))
    summary = summary_table(table)
    with pytest.raises(ValueError, match=r"table evaluation_summary: no column chance_high .*collect_evaluation"):
        plot_downstream(table, summary.drop(columns="chance_high"))
    with pytest.raises(ValueError, match="table evaluation: no column seed"):
        plot_downstream(table.drop(columns="seed"), summary)
    with pytest.raises(ValueError, match="table evaluation_summary: no column n_classes"):
        plot_few_shot(summary.drop(columns="n_classes"))
    with pytest.raises(ValueError, match="table evaluation_audits: no column audit"):
        plot_audits(audits_table().drop(columns="audit"))
    with pytest.raises(ValueError, match="table evaluation_variance: no column part"):
        plot_variance(variance_table(subjects_table(table)).drop(columns="part"))


def test_each_figure_has_a_caption(repository: Any) -> None:
    for name in ("downstream", "few_shot", "audits", "variance"):
        assert (repository / "resources" / "captions" / f"evaluation_{name}.rst").read_text().strip().endswith(".")
