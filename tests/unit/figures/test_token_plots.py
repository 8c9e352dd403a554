"""The figures of the tokenizer comparison: what is drawn equals the tables, and no words overlap."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from neuroloom.figures.drawing import CHANCE, SHADE
from neuroloom.figures.style import figure_style
from neuroloom.figures.token_plots import plot_code_usage, plot_rate_distortion, plot_reconstruction
from neuroloom.figures.token_probes import plot_token_probes
from neuroloom.figures.token_spectra import plot_token_atlas, plot_token_examples

TOKENIZERS = ("braintokenizer", "lipcot", "lipcot_plain", "tiny")
DEVICES = tuple(
    f"{study}-{site}-{kind}"
    for study in ("demo", "eegmmidb")
    for site in ("north", "south", "west")
    for kind in ("eeg", "meg")
)


def tokenizers_table(n_tokenizers: int = 2, n_devices: int = 6, folds: tuple[int, ...] = (0,)) -> pd.DataFrame:
    """As `judge_devices` writes it: waveforms for the first tokenizer, spectra alone for the others."""
    rng, lines = np.random.default_rng(1), []
    for tokenizer in TOKENIZERS[:n_tokenizers]:
        wave = tokenizer in ("braintokenizer", "tiny")
        for fold in folds:
            for at, device in enumerate(DEVICES[:n_devices]):
                r = (0.72 if wave else 0.0) + rng.normal(0, 0.05 if wave else 0.004)
                db = (2.6 if wave else 3.2) + rng.normal(0, 0.3)
                levels, sensors = (4, 16) if wave else (1, (19, 64, 32, 102)[at % 4])
                bits = levels * 9 * 16 * 32 if wave else 6 * sensors / 5
                lines.append(
                    {
                        "tokenizer": tokenizer,
                        "fold": fold,
                        "dataset": device.split("-")[0],
                        "device": device,
                        "held_out": device == "demo-north-eeg",
                        "n_recordings": 4,
                        "n_participants": 3,
                        "n_segments": 200,
                        "correlation": r,
                        "correlation_low": r - 0.06,
                        "correlation_high": r + 0.05,
                        "correlation_null": rng.normal(0, 0.004),
                        "spectral_db": db,
                        "spectral_db_low": db - 0.4,
                        "spectral_db_high": db + 0.5,
                        "spectral_db_null": db + 2.2,
                        **{f"perplexity_{level}": 300.0 if level <= levels else np.nan for level in range(1, 5)},
                        "bits_per_second": bits,
                        "entropy_bits_per_second": bits * rng.uniform(0.7, 0.9),
                        "encode_speed": 90.0,
                    }
                )
    return pd.DataFrame(lines)


def usage_table(n_tokenizers: int = 2, folds: tuple[int, ...] = (0,)) -> pd.DataFrame:
    rng, parts = np.random.default_rng(2), []
    for tokenizer in TOKENIZERS[:n_tokenizers]:
        levels, size = (4, 512) if tokenizer in ("braintokenizer", "tiny") else (1, 64)
        for fold in folds:
            for device in DEVICES[:2]:
                for level in range(1, levels + 1):
                    share = np.exp(rng.normal(0, 1.6 / level, size))
                    count = rng.multinomial(20000, share / share.sum())
                    count[: size // (4 * level)] = 0
                    parts.append(
                        pd.DataFrame(
                            {
                                "tokenizer": tokenizer,
                                "fold": fold,
                                "device": device,
                                "level": level,
                                "code": np.arange(size),
                                "count": count,
                            }
                        )
                    )
    return pd.concat(parts, ignore_index=True)


def atlas_table(n_tokenizers: int = 2, n_codes: int = 24, relative: bool = True) -> pd.DataFrame:
    rng, frequency, parts = np.random.default_rng(3), np.arange(1, 45.5, 0.5), []
    for tokenizer in TOKENIZERS[:n_tokenizers]:
        shares = np.sort(rng.dirichlet(np.ones(64)))[::-1]
        for fold in (0, 1):
            for at in rng.permutation(n_codes):
                peak = rng.uniform(4, 30)
                power = rng.normal(0, 1.5) - 0.06 * rng.normal() * frequency
                power = power + rng.uniform(0, 9) * np.exp(-((frequency - peak) ** 2) / 8)
                absolute = 0 if relative else -8 - 14 * np.log10(frequency)
                parts.append(
                    pd.DataFrame(
                        {
                            "tokenizer": tokenizer,
                            "fold": fold,
                            "level": 1,
                            "code": 7 * at + 3,
                            "share": shares[at],
                            "frequency": frequency,
                            "power_db": power + absolute,
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True)


def example_tables(n_tokenizers: int = 2, n_devices: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng, time, frequency = np.random.default_rng(4), np.arange(0, 4, 1 / 128), np.arange(1, 45.5, 0.5)
    signals, spectra = [], []
    for at, device in enumerate(DEVICES[:n_devices]):
        true = np.convolve(rng.normal(size=len(time) + 30), np.hanning(12), "same")[: len(time)]
        true += 2 * np.sin(2 * np.pi * 10 * time) * (1 + np.sin(time))
        true /= true.std()
        true_db = -8 - 14 * np.log10(frequency) + 8 * np.exp(-((frequency - 10) ** 2) / 4)
        for tokenizer in TOKENIZERS[:n_tokenizers]:
            made = 0.8 * true + rng.normal(0, 0.25, len(time)) if "lipcot" not in tokenizer else rng.permutation(true)
            common = {"tokenizer": tokenizer, "fold": 0, "device": device, "channel": ("Cz", "MEG0113")[at % 2]}
            signals.append(
                pd.DataFrame(
                    {**common, "held_out": at == 0, "recording": f"r{at}", "time": time, "true": true, "made": made}
                )
            )
            spectra.append(
                pd.DataFrame(
                    {
                        **common,
                        "frequency": frequency,
                        "true_db": true_db,
                        "made_db": true_db + rng.normal(0, 1.2, len(frequency)),
                    }
                )
            )
    return pd.concat(signals, ignore_index=True), pd.concat(spectra, ignore_index=True)


ASKED = {
    "task": ("subject", 3, 0.74),
    "event": ("subject", 4, 0.41),
    "eyes": ("subject", 2, 0.8),
    "coin": ("subject", 2, 0.5),
    "participant": ("time", 12, 0.62),
    "site": ("site", 3, 0.88),
}


def probes_table(n_tokenizers: int = 2, folds: tuple[int, ...] = (0,)) -> pd.DataFrame:
    rng, lines = np.random.default_rng(5), []
    for tokenizer in TOKENIZERS[:n_tokenizers]:
        for fold in folds:
            for features in ("histogram", "embedding"):
                for target, (split, n_classes, level) in ASKED.items():
                    for kind in (split, "published") if split == "subject" else (split,):
                        score = min(level + rng.normal(0, 0.03) + (0.17 if kind == "published" else 0), 0.99)
                        chance = 1 / n_classes
                        for probe in ("linear", "majority"):
                            for metric in ("balanced_accuracy", "kappa"):
                                value = chance if probe == "majority" else score
                                lines.append(
                                    {
                                        "tokenizer": tokenizer,
                                        "fold": fold,
                                        "features": features,
                                        "split": kind,
                                        "target": target,
                                        "probe": probe,
                                        "metric": metric,
                                        "score": value,
                                        "ci_low": value - 0.06,
                                        "ci_high": min(value + 0.05, 1),
                                        "chance": chance,
                                        "chance_high": chance + 0.07,
                                        "p": 0.01,
                                        "n_windows": 300,
                                        "n_participants": 9,
                                        "n_classes": n_classes,
                                        "note": "",
                                    }
                                )
    return pd.DataFrame(lines)


def panels(figure: Figure) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_visible()]


def drawn(axes: Any, label: str) -> list[Any]:
    return [line for line in axes.lines if line.get_label() == label]


def values(axes: Any, label: str) -> np.ndarray:
    """Finite x of all marks of one label, sorted."""
    x = np.concatenate([np.atleast_1d(line.get_xdata()).astype(float) for line in drawn(axes, label)])
    return np.sort(x[np.isfinite(x)])


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def legend_words(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def seen_texts(figure: Figure) -> list[Any]:
    """Texts that are drawn: not those of hidden panels, nor of ticks beyond the limits."""
    hidden: set[Text] = set()
    for axes in figure.axes:
        if not axes.get_visible():
            hidden |= set(axes.findobj(Text))
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                if not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    texts = [text for text in figure.findobj(Text) if text not in hidden]
    return [text for text in texts if text.get_text().strip() and text.get_visible()]


def assert_readable(figure: Figure) -> None:
    """Words of 7 pt or more, inside of the figure, none over another, on 1,100 px."""
    with figure_style():  # as `save_figure` draws
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        texts = seen_texts(figure)
        boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]
    assert figure.bbox.width == pytest.approx(1100)
    assert min(text.get_fontsize() for text in texts) >= 7
    width, height = figure.bbox.size
    outside = [word for word, box in boxes if min(box.x0, box.y0, width - box.x1, height - box.y1) < -1]
    assert outside == []
    over = [(one, other) for (one, a), (other, b) in combinations(boxes, 2) if a.padded(-1).overlaps(b.padded(-1))]
    assert over == []


SIZES = ((1, 1), (2, 6), (4, 12))


@pytest.mark.parametrize(("n_tokenizers", "n_devices"), SIZES)
def test_reconstruction_draws_each_score_with_its_interval_and_null(n_tokenizers: int, n_devices: int) -> None:
    table = tokenizers_table(n_tokenizers, n_devices)
    figure = plot_reconstruction(table)
    assert_readable(figure)
    for axes, measure in zip(panels(figure), ("correlation", "spectral_db"), strict=True):
        np.testing.assert_allclose(values(axes, "score"), np.sort(table[measure]))
        np.testing.assert_allclose(values(axes, "null"), np.sort(table[f"{measure}_null"]))
        assert all(line.get_markerfacecolor() == "none" for line in drawn(axes, "null"))
        ends = {tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2}
        assert ends >= set(zip(table[f"{measure}_low"], table[f"{measure}_high"], strict=True))
    assert set(legend_words(figure)) >= {*TOKENIZERS[:n_tokenizers], "null: codes of another segment"}


def test_held_out_devices_are_shaded_named_and_last() -> None:
    figure = plot_reconstruction(tokenizers_table(2, 3))
    axes = panels(figure)[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "demo-north-meg\nn = 3",
        "demo-south-eeg\nn = 3",
        "demo-north-eeg\nheld out, n = 3",
    ]
    shaded = [patch for patch in axes.patches if to_hex(patch.get_facecolor()).upper() == SHADE]
    assert [(patch.get_y(), patch.get_height()) for patch in shaded] == [(1.5, 1.0)]
    assert "device never trained on" in legend_words(figure)
    none = tokenizers_table(2, 3).assign(held_out=False)
    assert "device never trained on" not in legend_words(plot_reconstruction(none))
    assert not panels(plot_reconstruction(none))[0].patches


def test_a_device_held_out_in_some_folds_is_marked_so() -> None:
    table = tokenizers_table(1, 2, folds=(0, 1))
    table["held_out"] = (table["device"] == DEVICES[0]) & (table["fold"] == 0)
    table.loc[table.index[table["device"] == DEVICES[1]][0], "n_participants"] = 4
    labels = [label.get_text() for label in panels(plot_reconstruction(table))[0].get_yticklabels()]
    assert labels == [f"{DEVICES[1]}\nn = 3-4", f"{DEVICES[0]}\nheld out in part, n = 3"]


def test_missing_scores_are_written_out_and_folds_stand_apart() -> None:
    table = tokenizers_table(2, 3, folds=(0, 1, 2))
    table.loc[4, ["correlation", "correlation_low", "correlation_high", "correlation_null"]] = np.nan
    figure = plot_reconstruction(table)
    assert_readable(figure)
    left, right = panels(figure)
    assert [text.get_text() for text in left.texts] == ["no value"]
    assert len(values(left, "score")) == len(table) - 1
    places = np.concatenate([line.get_ydata() for line in drawn(right, "score")])
    assert len(np.unique(places)) == len(table)


@pytest.mark.parametrize(("n_tokenizers", "n_devices"), SIZES)
def test_rates_lead_from_entropy_to_what_is_stored(n_tokenizers: int, n_devices: int) -> None:
    table = tokenizers_table(n_tokenizers, n_devices)
    figure = plot_rate_distortion(table)
    assert_readable(figure)
    for axes, measure in zip(panels(figure), ("correlation", "spectral_db"), strict=True):
        np.testing.assert_allclose(values(axes, "score"), np.sort(table["entropy_bits_per_second"]))
        np.testing.assert_allclose(values(axes, "stored"), np.sort(table["bits_per_second"]))
        marks = drawn(axes, "score")
        np.testing.assert_allclose(np.sort([line.get_ydata()[0] for line in marks]), np.sort(table[measure]))
        assert len({line.get_marker() for line in marks}) == n_devices
        assert len({line.get_color() for line in marks}) == n_tokenizers
        heights = np.sort([line.get_ydata()[0] for line in drawn(axes, "null")])
        np.testing.assert_allclose(heights, np.sort(table[f"{measure}_null"]))
    assert "demo-north-eeg (held out, n = 3)" in legend_words(figure)


def test_scores_near_nothing_do_not_look_large() -> None:
    table = tokenizers_table(1, 2)
    numbers = [f"correlation{end}" for end in ("", "_low", "_high", "_null")]
    table[numbers] = table[numbers] * 1e-3
    assert panels(plot_reconstruction(table))[0].get_xlim() == (-0.1, 1.0)
    left, right = panels(plot_rate_distortion(table))
    assert left.get_ylim() == (-0.1, 1.0)
    assert right.get_ylim()[0] == 0
    assert right.get_ylim()[1] > table["spectral_db_null"].max()


def test_a_collapsed_codebook_stays_in_sight() -> None:
    table = tokenizers_table(1, 3)
    table.loc[0, "entropy_bits_per_second"] = 0.0
    axes = panels(plot_rate_distortion(table))[0]
    assert axes.get_xlim()[0] < 0 < table["bits_per_second"].max() < axes.get_xlim()[1]
    assert values(axes, "score")[0] == 0
    assert np.isfinite(axes.transData.transform((0.0, 0.5))).all()


def test_usage_is_ranked_over_all_devices_with_its_perplexity() -> None:
    lines = [
        {"tokenizer": "a", "fold": 0, "device": device, "level": 1, "code": code, "count": count}
        for device, counts in (("x", (4, 0, 2, 0)), ("y", (0, 2, 0, 0)))
        for code, count in enumerate(counts)
    ]
    axes = panels(plot_code_usage(pd.DataFrame(lines)))[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.5, 0.25, 0.25])
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2, 3])
    assert axes.lines[1].get_ydata()[0] == 0.25  # even use
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "level 1: 3 of 4, perplexity 2.83",
        "even use",
    ]


@pytest.mark.parametrize("n_tokenizers", [1, 2, 3, 4])
def test_usage_has_a_panel_for_each_tokenizer_and_a_line_for_each_level_and_fold(n_tokenizers: int) -> None:
    table = usage_table(n_tokenizers, folds=(0, 1))
    figure = plot_code_usage(table)
    assert_readable(figure)
    assert [axes.get_title(loc="left") for axes in panels(figure)] == list(TOKENIZERS[:n_tokenizers])
    for axes, name in zip(panels(figure), TOKENIZERS, strict=False):
        curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
        assert len(curves) == 2 * table.loc[table["tokenizer"] == name, "level"].nunique()
        for line in curves:
            assert line.get_ydata().sum() == pytest.approx(1)
            assert (np.diff(line.get_ydata()) <= 0).all()


def test_a_level_without_tokens_is_told(recwarn: pytest.WarningsRecorder) -> None:
    figure = plot_code_usage(usage_table(1).assign(count=0))
    assert_readable(figure)
    assert "level 1: 0 of 512, no tokens" in [text.get_text() for text in panels(figure)[0].get_legend().get_texts()]
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("n_tokenizers", [1, 3])
def test_the_atlas_shows_the_most_used_codes_first(n_tokenizers: int) -> None:
    table = atlas_table(n_tokenizers, n_codes=8)
    figure = plot_token_atlas(table)
    assert_readable(figure)
    assert len(panels(figure)) == 8 * n_tokenizers
    one = table[(table["tokenizer"] == TOKENIZERS[0]) & (table["fold"] == 0)]
    order = one.drop_duplicates("code").sort_values("share", ascending=False)
    shown = panels(figure)[:8]
    assert [axes.get_title(loc="left") for axes in shown] == [
        f"{code}: {share:.1%}" for code, share in zip(order["code"], order["share"], strict=True)
    ]
    for axes, code in zip(shown, order["code"], strict=True):
        np.testing.assert_allclose(drawn(axes, "code")[0].get_ydata(), one.loc[one["code"] == code, "power_db"])


def test_the_atlas_stops_at_24_codes_of_the_first_level() -> None:
    table = atlas_table(1, n_codes=30)
    table = pd.concat([table, table.assign(level=2, share=0.9)])
    figure = plot_token_atlas(table)
    assert_readable(figure)
    assert len(panels(figure)) == 24
    assert not any("90" in axes.get_title(loc="left") for axes in panels(figure))
    assert "braintokenizer, fold 0: the 24 most used codes (code: share of tokens)" in words(figure)


@pytest.mark.parametrize(("n_tokenizers", "n_devices"), SIZES)
def test_examples_overlay_what_was_measured_and_made(n_tokenizers: int, n_devices: int) -> None:
    signals, spectra = example_tables(n_tokenizers, n_devices)
    figure = plot_token_examples(signals, spectra)
    assert_readable(figure)
    shown = panels(figure)
    assert len(shown) == 2 * n_devices
    assert shown[-2].get_title(loc="left") == f"{DEVICES[0]}, held out: Cz"  # last, as in the other figures
    part = signals[(signals["device"] == DEVICES[0]) & (signals["tokenizer"] == TOKENIZERS[0])]
    np.testing.assert_allclose(drawn(shown[-2], "true")[0].get_ydata(), part["true"])
    np.testing.assert_allclose(drawn(shown[-2], "made")[0].get_ydata(), part["made"])
    for left, right in zip(shown[::2], shown[1::2], strict=True):
        assert len(drawn(left, "made")) == len(drawn(left, "true")) == n_tokenizers
        assert len(drawn(right, "made")) == len(drawn(right, "true")) == n_tokenizers
    part = spectra[(spectra["device"] == DEVICES[0]) & (spectra["tokenizer"] == TOKENIZERS[0])]
    np.testing.assert_allclose(drawn(shown[-1], "made")[0].get_ydata(), part["made_db"])


def test_an_example_that_is_missing_is_told() -> None:
    signals, spectra = example_tables(2, 2)
    gone = (signals["device"] == DEVICES[1]) & (signals["tokenizer"] == "lipcot")
    figure = plot_token_examples(signals[~gone], spectra.iloc[:0])
    assert "lipcot: no value" in words(figure)
    assert words(figure).count("no spectra") == 2


def test_one_fold_recording_and_channel_of_each_tokenizer_is_drawn() -> None:
    signals, spectra = example_tables(2, 1)
    other = signals.assign(fold=1, recording="other")
    spectra = spectra.assign(recording="r0")
    aside = [spectra.assign(channel="Pz", made_db=0.0), spectra.assign(recording="other", made_db=0.0)]
    figure = plot_token_examples(pd.concat([signals, other]), pd.concat([spectra, *aside]))
    left, right = panels(figure)
    assert len(drawn(left, "made")) == 2
    assert len(drawn(left, "made")[0].get_xdata()) == signals["time"].nunique()
    assert all(len(line.get_xdata()) == spectra["frequency"].nunique() for line in drawn(right, "made"))


@pytest.mark.parametrize(("n_tokenizers", "folds"), [(1, (0,)), (2, (0, 1)), (4, (0,))])
def test_probes_stand_beside_chance_and_the_published_split(n_tokenizers: int, folds: tuple[int, ...]) -> None:
    table = probes_table(n_tokenizers, folds)
    figure = plot_token_probes(table)
    assert_readable(figure)
    assert len(panels(figure)) == 2
    table = table[table["metric"] == "balanced_accuracy"]
    for axes, kind in zip(panels(figure), ("histogram", "embedding"), strict=True):
        linear = table[(table["features"] == kind) & (table["probe"] == "linear")]
        shuffled = linear["split"] == "published"
        np.testing.assert_allclose(values(axes, "shuffled"), np.sort(linear.loc[shuffled, "score"]))
        np.testing.assert_allclose(values(axes, "apart"), np.sort(linear.loc[~shuffled, "score"]))
        bars = [patch for patch in axes.patches if to_hex(patch.get_facecolor()).upper() == CHANCE]
        np.testing.assert_allclose(np.sort([bar.get_x() for bar in bars]), np.sort(linear["chance"]))
        np.testing.assert_allclose([bar.get_width() for bar in bars], 0.07)
        assert len(values(axes, "majority")) == len(linear)


def test_probes_are_grouped_by_what_they_ask() -> None:
    axes = panels(plot_token_probes(probes_table()))[0]
    names = [label.get_text().split("\n")[0] for label in axes.get_yticklabels()]
    assert names == ["task", "event", "eyes", "participant", "site", "coin"]
    at = dict(zip(names, axes.get_yticks(), strict=True))
    heads = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heads["what should be there"] < at["task"] < at["eyes"] < heads["what leaks"] < at["participant"]
    assert at["site"] < heads["a label without meaning"] < at["coin"]
    assert "participant\n12 classes, n = 9" in [label.get_text() for label in axes.get_yticklabels()]


def test_a_probe_that_could_not_be_fitted_says_why() -> None:
    table = probes_table()
    gone = (table["target"] == "site") & (table["tokenizer"] == "lipcot") & (table["features"] == "histogram")
    table = table[~(gone & (table["probe"] == "majority"))].copy()
    gone = gone.loc[table.index]
    table.loc[gone, ["score", "ci_low", "ci_high", "chance", "chance_high"]] = np.nan
    table.loc[gone, "note"] = "fewer than two sites have two participants; left out, with one participant: west"
    figure = plot_token_probes(table)
    assert_readable(figure)
    assert "fewer than two sites have two participants" in words(figure)


EMPTY = pd.DataFrame()
NOTICES = {
    "No tokenizer was scored": lambda: plot_reconstruction(EMPTY),
    "no recording is in the test": lambda: plot_rate_distortion(EMPTY),
    "No recording was tokenized": lambda: plot_code_usage(EMPTY),
    "No code has a spectrum": lambda: plot_token_atlas(EMPTY),
    "of the test was made again": lambda: plot_token_examples(EMPTY, EMPTY),
    "No probe was fitted": lambda: plot_token_probes(EMPTY),
    "numbers are in the table": lambda: plot_token_probes(probes_table().assign(metric="r2")),
}


@pytest.mark.parametrize("reason", NOTICES)
def test_a_table_without_rows_gives_a_notice(reason: str) -> None:
    figure = NOTICES[reason]()
    assert any(reason in word for word in words(figure))
    assert not figure.axes


def test_a_column_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="table tokenizers: no column spectral_db_null"):
        plot_reconstruction(tokenizers_table().drop(columns="spectral_db_null"))
    with pytest.raises(ValueError, match="no column entropy_bits_per_second"):
        plot_rate_distortion(tokenizers_table().drop(columns="entropy_bits_per_second"))
    with pytest.raises(ValueError, match="table token_usage: no column count"):
        plot_code_usage(usage_table(1).drop(columns="count"))
    with pytest.raises(ValueError, match="table token_atlas: no column share"):
        plot_token_atlas(atlas_table(1).drop(columns="share"))
    with pytest.raises(ValueError, match="table tokenizer_probes: no column chance_high"):
        plot_token_probes(probes_table().drop(columns="chance_high"))
    signals, spectra = example_tables(1, 1)
    with pytest.raises(ValueError, match="table token_examples: no column made"):
        plot_token_examples(signals.drop(columns="made"), spectra)
    with pytest.raises(ValueError, match="table token_example_spectra: no column true_db"):
        plot_token_examples(signals, spectra.drop(columns="true_db"))


def test_words_that_overlap_are_found() -> None:
    figure = Figure(figsize=(10, 2), dpi=110)
    figure.text(0.5, 0.5, "one word")
    assert_readable(figure)
    figure.text(0.51, 0.5, "another")
    with pytest.raises(AssertionError, match="another"):
        assert_readable(figure)


def test_each_figure_has_a_caption(repository: Any) -> None:
    names = ("reconstruction", "rate_distortion", "code_usage", "atlas", "examples", "probes")
    for name in names:
        assert (repository / "resources" / "captions" / f"tokens_{name}.rst").read_text().strip().endswith(".")
