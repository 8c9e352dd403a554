"""Figures of the tokenizer comparison: what comes back, what it costs, how evenly codes are used.

Scores, intervals and nulls come from the tables. What codes stand for is drawn by `token_spectra`, what they tell by
`token_probes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import (
    COLOURS,
    LINES,
    SHADE,
    WIDTH,
    Look,
    band,
    check_columns,
    finish,
    hollow,
    is_left,
    large_text,
    looks_by_name,
    mark,
    n_of,
    panel_grid,
)
from neuroloom.figures.style import BEFORE, plot_notice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULE = "score_tokenizer"
DEVICE = ("device", "held_out", "n_participants")
DEVICE_MARKERS = "os^DvPX*p<>h"
MEASURES = {
    "correlation": "waveform, Pearson r (1 is perfect)",
    "spectral_db": "spectral error, dB (0 is perfect)",
}


def plot_reconstruction(tokenizers: pd.DataFrame) -> Figure:
    """What comes back of recordings of the test, device by device.

    Parameters
    ----------
    tokenizers : DataFrame
        Rows (tokenizer, fold, device); held_out, n_participants, correlation and spectral_db with `_low`, `_high` and
        `_null`.

    Returns
    -------
    Figure
        Waveform correlation and spectral error; a filled mark with its interval for each tokenizer and fold, a hollow
        one for its null, `no value` where there is none. Devices that no tokenizer was fitted on are shaded.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if tokenizers.empty:
        return plot_notice("Reconstruction", "No tokenizer was scored: no recording is in the test.")
    columns = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high", "_null")]
    check_columns(tokenizers, "tokenizers", ["tokenizer", "fold", *DEVICE, *columns], rule=RULE)
    looks, held = looks_by_name(tokenizers["tokenizer"]), _held_out(tokenizers)
    slots = sorted(set(zip(tokenizers["tokenizer"], tokenizers["fold"], strict=True)))
    slot_inches = 0.24 if len(slots) <= 4 else 0.15
    with large_text():
        figure = Figure(figsize=(WIDTH, 1.9 + len(held) * max(0.62, slot_inches * len(slots) + 0.1)))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, measure in zip(panels, MEASURES, strict=True):
            _draw_devices(axes, held, _facts(tokenizers, held))
            for (tokenizer, fold), offset in zip(slots, _offsets(len(slots)), strict=True):
                part = tokenizers[(tokenizers["tokenizer"] == tokenizer) & (tokenizers["fold"] == fold)]
                place = part["device"].map({device: row + offset for row, device in enumerate(held)})
                _draw_scores(axes, part, place, measure, looks[tokenizer])
            axes.margins(x=0.08)
            axes.set_xlim(*_scale(measure, axes.get_xlim()))
            axes.set_title(MEASURES[measure])
        panels[0].axvline(0, color=BEFORE, lw=0.8, zorder=0)
        return finish(figure, _reconstruction_legend(looks, any(held.values())), columns=2)


def _scale(measure: str, limits: tuple[float, float]) -> tuple[float, float]:
    """Limits that hold what is perfect and what is nothing, so that a difference of nothing does not look large."""
    return (min(limits[0], -0.1), max(limits[1], 1.0)) if measure == "correlation" else (0.0, limits[1])


def _held_out(tokenizers: pd.DataFrame) -> dict[str, str]:
    """Devices with a word on those never trained on; these come last."""
    share = tokenizers.groupby("device")["held_out"].mean()
    words = {
        device: ("held out" if part == 1 else "held out in part" if part else "") for device, part in share.items()
    }
    return {str(device): words[device] for device in sorted(words, key=lambda device: (words[device] != "", device))}


def _facts(tokenizers: pd.DataFrame, held: Mapping[str, str]) -> dict[str, str]:
    """What stands beside the name of each device: whether it was held out, and how many people were tested."""
    people = {device: n_of(part["n_participants"]) for device, part in tokenizers.groupby("device")}
    return {device: ", ".join(filter(None, (word, people[device]))) for device, word in held.items()}


def _offsets(n_slots: int) -> np.ndarray:
    return ((np.arange(n_slots) + 0.5) / n_slots - 0.5) * 0.84


def _draw_devices(axes: Axes, held: Mapping[str, str], facts: Mapping[str, str]) -> None:
    for row, word in enumerate(held.values()):
        if word:
            axes.axhspan(row - 0.5, row + 0.5, color=SHADE, lw=0, zorder=0)
        if row:
            axes.axhline(row - 0.5, color=SHADE, lw=0.8, zorder=0)
    axes.set(ylim=(len(held) - 0.5, -0.5), yticks=range(len(held)))
    axes.set_yticklabels([f"{name}\n{facts[name]}" for name in held])
    axes.tick_params(axis="y", length=0)


def _draw_scores(axes: Axes, part: pd.DataFrame, place: pd.Series, measure: str, look: Look) -> None:
    """The null is larger than the score, so that both are seen where they agree."""
    for low, high, y in zip(part[f"{measure}_low"], part[f"{measure}_high"], place, strict=True):
        axes.plot([low, high], [y, y], color=look["color"], lw=1.8, solid_capstyle="butt", zorder=2)
    axes.plot(part[measure], place, **look, ls="", ms=6.5, zorder=3, label="score")
    axes.plot(part[f"{measure}_null"], place, **hollow(look, 10), zorder=2, label="null")
    for y in place[part[measure].isna()]:
        words = axes.text(0.01, y, "no value", transform=axes.get_yaxis_transform(), va="center", color=look["color"])
        words.set(fontsize=10, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})


def _reconstruction_legend(looks: dict[str, Look], any_held_out: bool) -> list[Any]:
    grey = {"color": "#666666", "marker": "o"}
    return [
        *(mark(name, **look) for name, look in looks.items()),
        mark("null: codes of another segment", **hollow(grey, 10)),
        mark("interval over participants", color="#666666", ls="-", lw=1.8),
        *([band("device never trained on")] if any_held_out else []),
    ]


def plot_rate_distortion(tokenizers: pd.DataFrame) -> Figure:
    """What the tokens of a recording cost, against what comes back of it.

    Parameters
    ----------
    tokenizers : DataFrame
        Rows (tokenizer, fold, device); held_out, n_participants, bits_per_second, entropy_bits_per_second (of all
        sensors together), correlation, spectral_db and their nulls.

    Returns
    -------
    Figure
        One mark for each tokenizer, fold and device: colours are tokenizers, shapes are devices. A line leads from the
        entropy to the stored rate; a short dash is the null.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if tokenizers.empty:
        return plot_notice("Rate and distortion", "No tokenizer was scored: no recording is in the test.")
    rates = ["bits_per_second", "entropy_bits_per_second"]
    columns = ["tokenizer", *DEVICE, *rates, *MEASURES, *(f"{name}_null" for name in MEASURES)]
    check_columns(tokenizers, "tokenizers", columns, rule=RULE)
    looks, held = looks_by_name(tokenizers["tokenizer"]), _held_out(tokenizers)
    shapes = {device: DEVICE_MARKERS[at % len(DEVICE_MARKERS)] for at, device in enumerate(held)}
    with large_text():
        figure = Figure(figsize=(WIDTH, 5.4 + 0.24 * math.ceil((len(held) + len(looks)) / 3)))
        for axes, measure in zip(figure.subplots(1, 2), MEASURES, strict=True):
            for row in tokenizers.to_dict("records"):
                _draw_rate(axes, row, measure, looks[row["tokenizer"]]["color"], shapes[row["device"]])
            # A collapsed codebook has no entropy: below one bit the scale is linear.
            axes.set_xscale("symlog", linthresh=1)
            axes.set(title=MEASURES[measure], xlabel="bits per second, all sensors")
            axes.margins(y=0.08)
            axes.set(xlim=_decades(tokenizers[rates]), ylim=_scale(measure, axes.get_ylim()))
        facts = _facts(tokenizers, held)
        devices = [mark(f"{name} ({facts[name]})", marker=shape, color="#666666") for name, shape in shapes.items()]
        lines = [
            mark("mark: entropy, tick: as stored", color="#666666", ls="-", lw=1.2, marker="|", mew=1.4),
            mark("null: codes of another segment", color="#666666", marker="_", mew=1.6, ms=11),
        ]
        colours = [mark(name, color=look["color"], marker="o") for name, look in looks.items()]
        return finish(figure, [*colours, *devices, *lines], columns=3 if len(held) > 3 else 2)


def _decades(rates: pd.DataFrame) -> tuple[float, float]:
    """Whole decades around all rates, from below zero where one is zero."""
    known = rates.to_numpy(float)
    known = known[np.isfinite(known)]
    positive = known[known > 0]
    if not positive.size:
        return -0.3, 10.0
    low, high = 10 ** np.floor(np.log10(positive.min())), 10 ** np.ceil(np.log10(positive.max()))
    return (-0.3 if (known <= 0).any() else 0.8 * low), 1.2 * high


def _draw_rate(axes: Axes, row: dict[Any, Any], measure: str, colour: str, shape: str) -> None:
    entropy, stored, score = row["entropy_bits_per_second"], row["bits_per_second"], row[measure]
    axes.plot([entropy, stored], [score, score], color=colour, lw=1.0, alpha=0.6, label="rates")
    axes.plot(stored, score, color=colour, marker="|", ms=8, mew=1.4, label="stored")
    axes.plot(entropy, row[f"{measure}_null"], color=colour, marker="_", ms=11, mew=1.6, alpha=0.7, label="null")
    axes.plot(entropy, score, color=colour, marker=shape, ms=8, mec="white", mew=0.6, ls="", label="score")


def plot_code_usage(token_usage: pd.DataFrame) -> Figure:
    """How evenly the codes of each level are used, all devices together.

    Parameters
    ----------
    token_usage : DataFrame
        Rows (tokenizer, fold, device, level, code); count.

    Returns
    -------
    Figure
        A panel for each tokenizer: share of each code by rank, a line for each level and fold; the legend gives codes
        in use and perplexity.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if token_usage.empty:
        return plot_notice("Use of codes", "No recording was tokenized.")
    check_columns(token_usage, "token_usage", ["tokenizer", "fold", "device", "level", "code", "count"], rule=RULE)
    names = sorted(token_usage["tokenizer"].unique())
    with large_text():
        figure, panels = panel_grid(len(names), margin=0.3, row=4.8)
        for axes, name in zip(panels, names, strict=True):
            axes.set(title=name, xscale="log", yscale="log", xlabel="rank of the code")
            _draw_usage(axes, token_usage[token_usage["tokenizer"] == name])
            if is_left(axes):
                axes.set_ylabel("share of tokens")
        return finish(figure)


def _draw_usage(axes: Axes, table: pd.DataFrame) -> None:
    for at, (level, part) in enumerate(table.groupby("level", sort=True)):
        curves = [_shares(fold) for _, fold in part.groupby("fold", sort=True)]
        look: dict[str, Any] = {"color": COLOURS[at % len(COLOURS)], "ls": LINES[at % len(LINES)], "lw": 1.8}
        size = part["code"].nunique()
        for share_K in curves:
            used_K = share_K[share_K > 0]
            axes.plot(np.arange(1, len(used_K) + 1), used_K, **look, marker="o" if len(used_K) == 1 else None)
        axes.lines[-1].set_label(f"level {level}: {_described(curves, size)}")
        even = axes.axhline(1 / size, color=BEFORE, lw=0.8, zorder=1)
    even.set_label("even use")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.18), borderaxespad=0, handlelength=1.9, handletextpad=0.5)
    axes.set_ylim(top=1.5)


def _shares(table: pd.DataFrame) -> np.ndarray:
    count_K = table.groupby("code")["count"].sum().sort_values(ascending=False).to_numpy(float)
    return count_K / max(count_K.sum(), 1)


def _described(curves: Sequence[np.ndarray], size: int) -> str:
    """Codes in use and perplexity, with the range over folds."""
    used = [int((share_K > 0).sum()) for share_K in curves]
    if not max(used):
        return f"0 of {size}, no tokens"
    perplexity = [float(np.exp(-(part_K * np.log(part_K)).sum())) for part_K in (one[one > 0] for one in curves)]
    low, high = (f"{limit(perplexity):.3g}" for limit in (min, max))
    counted = f"{min(used)}" if min(used) == max(used) else f"{min(used)}-{max(used)}"
    return f"{counted} of {size}, perplexity {low if low == high else f'{low}-{high}'}"
