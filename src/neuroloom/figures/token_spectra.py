"""Figures of what tokens stand for: the spectrum of each code, and signals beside what is made of their tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import SMALL, TEXT, WIDTH, Look, check_columns, finish, large_text, looks_by_name, mark
from neuroloom.figures.style import BEFORE, plot_notice
from neuroloom.figures.token_plots import RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ATLAS_COLUMNS, ATLAS_CODES = 6, 24
FAINT = "#C8C8C8"
TRUE = "#707070"


def plot_token_atlas(token_atlas: pd.DataFrame) -> Figure:
    """The spectra that the most used codes of the first level stand for.

    Parameters
    ----------
    token_atlas : DataFrame
        Rows (tokenizer, fold, level, code, frequency in Hz); share of all tokens, power_db.

    Returns
    -------
    Figure
        For each tokenizer a panel for each code, most used first, titled `code: share`; the other codes in grey. Codes
        of different folds are not the same, so the first fold alone is drawn.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    columns = ["tokenizer", "fold", "level", "code", "share", "frequency", "power_db"]
    if not token_atlas.empty:
        check_columns(token_atlas, "token_atlas", columns, rule=RULE)
        token_atlas = token_atlas[np.isfinite(token_atlas["power_db"])]
    if token_atlas.empty:
        return plot_notice("Token atlas", "No code has a spectrum to draw.")
    parts = {str(name): _first_codes(part) for name, part in token_atlas.groupby("tokenizer", sort=True)}
    looks = looks_by_name(token_atlas["tokenizer"])
    rows = [math.ceil(part["code"].nunique() / ATLAS_COLUMNS) for part in parts.values()]
    heights = [1.15 * count + 0.95 for count in rows]
    with large_text():
        figure = Figure(figsize=(WIDTH, sum(heights)))
        pages = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False).ravel()
        for page, count, (name, part) in zip(pages, rows, parts.items(), strict=True):
            n_codes = part["code"].nunique()
            title = f"{name}, fold {part['fold'].iloc[0]}: the {n_codes} most used codes (code: share of tokens)"
            page.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=TEXT)
            panels = page.subplots(count, ATLAS_COLUMNS, sharex=True, sharey=True, squeeze=False)
            _draw_codes(panels, part, looks[name]["color"])
            page.supxlabel("frequency (Hz)", fontsize=SMALL)
            page.supylabel("power (dB)", fontsize=SMALL)
        return finish(figure)


def _first_codes(table: pd.DataFrame) -> pd.DataFrame:
    """The most used codes of the first fold and level, in the order of their share."""
    table = table[table["fold"] == table["fold"].min()]
    table = table[table["level"] == table["level"].min()]
    shares = table.groupby("code")["share"].max().sort_values(ascending=False, kind="stable")
    rank = {code: at for at, code in enumerate(shares.index[:ATLAS_CODES])}
    table = table[table["code"].isin(rank)]
    return table.assign(rank=table["code"].map(rank)).sort_values(["rank", "frequency"])


def _draw_codes(panels: np.ndarray, part: pd.DataFrame, colour: str) -> None:
    curves = [(code, one) for (_, code), one in part.groupby(["rank", "code"], sort=True)]
    low, high = part["power_db"].min(), part["power_db"].max()
    for axes, (code, one) in zip(panels.ravel(), curves, strict=False):
        _draw_others(axes, [other for _, other in curves])
        if low < 0 < high:
            axes.axhline(0, color=BEFORE, lw=0.7)
        axes.plot(one["frequency"], one["power_db"], color=colour, lw=1.8, label="code")
        axes.set_title(f"{code}: {one['share'].iloc[0]:.1%}", fontsize=SMALL)
        axes.locator_params(axis="both", nbins=3)
    for at, axes in enumerate(panels.ravel()):
        if at >= len(curves):
            axes.set_visible(False)
        elif at + ATLAS_COLUMNS >= len(curves):
            axes.tick_params(labelbottom=True)  # the last of its column where the last row is not full


def _draw_others(axes: Axes, curves: list[pd.DataFrame]) -> None:
    """One broken line: as many lines as there are codes would take seconds in each panel."""
    gap = np.array([np.nan])
    x = np.concatenate([np.concatenate([one["frequency"], gap]) for one in curves])
    y = np.concatenate([np.concatenate([one["power_db"], gap]) for one in curves])
    axes.plot(x, y, color=FAINT, lw=0.5, label="others")


def plot_token_examples(token_examples: pd.DataFrame, token_example_spectra: pd.DataFrame) -> Figure:
    """A few seconds of one test recording of each device, beside what is made of their tokens.

    Parameters
    ----------
    token_examples : DataFrame
        Rows (tokenizer, fold, device, recording, channel, time in s); held_out, true and made in SD.
    token_example_spectra : DataFrame
        Rows (tokenizer, fold, device, channel, frequency in Hz); true_db, made_db.

    Returns
    -------
    Figure
        A row for each device: at the left signals, one trace for each tokenizer, with a bar of some SD; at the right
        their spectra, in dB of SD²/Hz. Grey is what was measured. One channel is drawn for each tokenizer, of the
        first fold.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if token_examples.empty:
        return plot_notice("Examples", "No recording of the test was made again from its tokens.")
    keys = ["tokenizer", "fold", "device", "channel"]
    check_columns(token_examples, "token_examples", [*keys, "held_out", "recording", "time", "true", "made"], rule=RULE)
    if not token_example_spectra.empty:
        check_columns(
            token_example_spectra, "token_example_spectra", [*keys, "frequency", "true_db", "made_db"], rule=RULE
        )
    looks, held = looks_by_name(token_examples["tokenizer"]), token_examples.groupby("device")["held_out"].any()
    devices = sorted(held.index, key=lambda device: (held[device], device))
    row_height = 0.75 + 0.55 * len(looks)
    with large_text():
        figure = Figure(figsize=(WIDTH, 1.0 + row_height * len(devices)))
        panels = figure.subplots(len(devices), 2, squeeze=False, width_ratios=(2.3, 1))
        for (left, right), device in zip(panels, devices, strict=True):
            signals = _first_example(token_examples[token_examples["device"] == device])
            _draw_signals(left, signals, looks)
            spectra = token_example_spectra
            if not spectra.empty:
                spectra = spectra.merge(signals[[*keys, "recording"]].drop_duplicates())
            _draw_spectra(right, spectra, looks)
        panels[-1, 0].set_xlabel("time (s)")
        panels[-1, 1].set_xlabel("frequency (Hz)")
        return finish(figure, _legend(looks), columns=3)


def _first_example(table: pd.DataFrame) -> pd.DataFrame:
    """One fold, recording and channel of each tokenizer."""
    first = table.groupby("tokenizer", sort=True).head(1)
    return table.merge(first[["tokenizer", "fold", "recording", "channel"]])


def _draw_signals(axes: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    values = table[["true", "made"]].to_numpy(float)
    known = np.abs(values[np.isfinite(values)])
    reach = float(np.quantile(known, 0.999)) * 1.1 if known.size else 1.0
    step = 2 * (reach or 1.0)
    for row, (name, look) in enumerate(looks.items()):
        part = table[table["tokenizer"] == name].sort_values("time")
        if part["made"].isna().all():
            words = axes.text(0.5, -row * step, f"{name}: no value", transform=axes.get_yaxis_transform())
            words.set(ha="center", va="center", fontsize=SMALL, color=look["color"])
            continue
        axes.plot(part["time"], part["true"] - row * step, color=TRUE, lw=2.8, alpha=0.5, label="true")
        axes.plot(part["time"], part["made"] - row * step, color=look["color"], lw=1.2, label="made")
    device, channels = table["device"].iloc[0], ", ".join(table["channel"].unique())
    held = ", held out" if table["held_out"].any() else ""
    axes.set_title(f"{device}{held}: {channels}", weight="bold")
    _draw_scale(axes, step)
    axes.set(ylim=(step * (0.5 - len(looks)), step * 0.5), yticks=[])
    axes.margins(x=0)
    axes.spines["left"].set_visible(False)


def _draw_scale(axes: Axes, step: float) -> None:
    """A bar for the unit of the traces, which have no axis: one is above the other."""
    unit = float(f"{step / 4:.0e}")  # one digit
    axes.plot([-0.01, -0.01], [0, unit], color="black", lw=1.8, transform=axes.get_yaxis_transform(), clip_on=False)
    words = axes.text(-0.02, unit / 2, f"{unit:g} SD", transform=axes.get_yaxis_transform(), rotation=90)
    words.set(ha="right", va="center", fontsize=SMALL)


def _draw_spectra(axes: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    if table.empty:
        axes.text(0.5, 0.5, "no spectra", ha="center", va="center", transform=axes.transAxes, fontsize=SMALL)
        axes.set(xticks=[], yticks=[])
        return
    table = table.sort_values("frequency")
    for name, look in looks.items():
        part = table[table["tokenizer"] == name]
        axes.plot(part["frequency"], part["true_db"], color=TRUE, lw=2.8, alpha=0.5, label="true")
        axes.plot(part["frequency"], part["made_db"], color=look["color"], lw=1.4, label="made")
    axes.set_ylabel("power (dB)")
    axes.locator_params(axis="both", nbins=4)


def _legend(looks: dict[str, Look]) -> list[Any]:
    made = [mark(f"made by {name}", color=look["color"], ls="-", lw=2) for name, look in looks.items()]
    return [mark("measured", color=TRUE, ls="-", lw=2.8, alpha=0.5), *made]
