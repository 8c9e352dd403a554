"""Figures of pretraining: what a model learns beside what needs no learning, and what size and data are worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import (
    COLOURS,
    LINES,
    MARKERS,
    WIDTH,
    Look,
    check_columns,
    count_of,
    finish,
    hollow,
    large_text,
    looks_by_name,
    mark,
    panel_grid,
)
from neuroloom.figures.style import BEFORE, plot_notice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VALIDATION = "validation_"
NULLS = {
    f"{VALIDATION}mean_value": "null: mean value",
    f"{VALIDATION}mean_patch": "null: mean patch",
    f"{VALIDATION}last_value": "null: last value",
    f"{VALIDATION}unigram": "null: code frequencies",
    f"{VALIDATION}unigram_latent": "null: frequencies in each latent",
}
NULL_LINES: dict[str, Any] = dict(zip(NULLS, ((0, (8, 2)), "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1))), strict=True))
RECONSTRUCTION = f"{VALIDATION}reconstruction"  # of a loss that has further terms
MEASURES = {
    "reve": "error of hidden patches, L1 in SD",
    "brainomni": "cross-entropy of hidden codes, nats",
}
RULE = "collect_pretraining"
CURVES = ("model", "fold", "step", "tokens", "loss")
CARDS = ("model", "fold", "architecture", "role", "n_train", "n_validation", "n_people")


def loss_of(curve: pd.DataFrame) -> str:
    """The validation column of a model that its nulls are comparable with."""
    own = RECONSTRUCTION in curve and curve[RECONSTRUCTION].notna().any()
    return RECONSTRUCTION if own else f"{VALIDATION}loss"


def nulls_of(curve: pd.DataFrame) -> list[str]:
    """The null columns that a model has values of."""
    return [name for name in NULLS if name in curve and curve[name].notna().any()]


def validated(curve: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of the steps at which a column was measured, by step; none where there is no such column."""
    return curve.dropna(subset=[column]).sort_values("step") if column in curve else curve.iloc[:0]


def plot_pretraining(pretraining: pd.DataFrame, models: pd.DataFrame) -> Figure:
    """What each model learns without labels, beside what needs no learning.

    Parameters
    ----------
    pretraining : DataFrame
        Rows (model, fold, step); tokens (seen until then), loss, `validation_*` on the steps that were validated.
    models : DataFrame
        Rows (model, fold); architecture, role, n_train, n_people, parameters.

    Returns
    -------
    Figure
        A panel for each model (not those of the sweep): training loss thin, validation with marks, a line for each
        fold; nulls of the same hidden patches or codes dashed. A model without a curve says why.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    if models.empty:
        return plot_notice("Pretraining", "No model was pretrained.")
    check_columns(models, "models", CARDS, rule=RULE)
    pretraining = _checked(pretraining)
    cards = models[models["role"] == "model"]
    if cards.empty:
        return plot_notice("Pretraining", "All models of the study are those of the sweep.")
    looks = looks_by_name(cards["model"])
    with large_text():
        figure, panels = panel_grid(len(looks), margin=0.9, row=4.1, sharey=False)
        for axes, name in zip(panels, looks, strict=True):
            _draw_curves(axes, pretraining[pretraining["model"] == name], cards[cards["model"] == name], looks[name])
        used = [name for name in NULLS if any(name in nulls_of(curve) for _, curve in pretraining.groupby("model"))]
        grey = {"color": "#666666"}
        legend = [
            mark("training", **grey, ls="-", lw=1.0, alpha=0.6),
            mark("validation, other people", **grey, marker="o", ls="-", lw=1.8),
            *(mark(NULLS[name], color="black", ls=NULL_LINES[name], lw=1.5) for name in used),
        ]
        return finish(figure, legend, columns=3)


def _checked(pretraining: pd.DataFrame) -> pd.DataFrame:
    """Curves with all columns; where nothing was trained there are none."""
    if pretraining.empty:
        return pd.DataFrame(columns=list(CURVES))
    check_columns(pretraining, "pretraining", CURVES, rule=RULE)
    return pretraining


def _draw_curves(axes: Axes, curve: pd.DataFrame, cards: pd.DataFrame, look: Look) -> None:
    axes.set_title(_title(cards))
    if curve.empty:
        axes.text(0.5, 0.5, reason_of(cards), transform=axes.transAxes, ha="center", va="center", wrap=True)
        axes.set(xticks=[], yticks=[])
        return
    loss = loss_of(curve)
    for _, part in curve.groupby("fold", sort=True):
        trained = part.dropna(subset=[_training(curve)]).sort_values("step")
        axes.plot(
            trained["tokens"], trained[_training(curve)], color=look["color"], lw=1.0, alpha=0.5, label="training"
        )
        judged = validated(part, loss)
        axes.plot(judged["tokens"], judged[loss], **look, ms=6, lw=1.8, label="validation")
        for name in nulls_of(part):
            level = validated(part, name)
            axes.plot(level["tokens"], level[name], color="black", ls=NULL_LINES[name], lw=1.5, label=name)
    measure = MEASURES.get(str(cards["architecture"].iloc[0]), "loss")
    axes.set(xlabel="tokens seen", ylabel=measure, ylim=_limits(curve, loss))
    _count_ticks(axes)


def _training(curve: pd.DataFrame) -> str:
    """The training column that is the same measure as the validated one."""
    name = loss_of(curve).removeprefix(VALIDATION)
    return name if name in curve else "loss"


def _limits(curve: pd.DataFrame, loss: str) -> tuple[float, float]:
    """Limits that hold validation and nulls; the first steps of training may leave the panel."""
    shown = [curve[name].dropna().to_numpy(float) for name in (loss, *nulls_of(curve)) if name in curve]
    trained = curve[_training(curve)].dropna().to_numpy(float)
    if len(trained):
        shown.append(np.quantile(trained, (0.0, 0.95)))
    values = np.concatenate(shown)
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin


def _count_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_of(value)))


def _title(cards: pd.DataFrame) -> str:
    """Name, size and data (training + validation) of a model, ranges over folds."""
    name = str(cards["model"].iloc[0])
    size = f": {count_of(cards['parameters'].max())} weights" if _known(cards, "parameters") else ""
    if not cards["n_train"].max() > 0:
        return f"{name}{size}"
    counts = f"{_range(cards['n_train'])} + {_range(cards['n_validation'])} recordings"
    return f"{name}{size}\n{counts}, n = {_range(cards['n_people'])} people"


def _known(cards: pd.DataFrame, name: str) -> bool:
    return name in cards and bool(cards[name].notna().any())


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"


def reason_of(cards: pd.DataFrame) -> str:
    """Why a model has no curve."""
    if _known(cards, "unusable") and (reasons := [str(text) for text in cards["unusable"].dropna() if text]):
        return f"no model: {reasons[0]}"
    if not cards["architecture"].any():
        return "no model: see the log of pretrain_model"
    return "no curve: its weights were imported"


def plot_scaling(pretraining: pd.DataFrame, models: pd.DataFrame) -> Figure:
    """What size and data are worth: the models of the sweep beside the one that they are sizes of.

    Parameters
    ----------
    pretraining, models : DataFrame
        As for `plot_pretraining`; names of a sweep start with the name of its model.

    Returns
    -------
    Figure
        Left: validation loss over tokens. Right: the last one over the number of weights; a hollow mark had fewer
        recordings. Nulls dashed.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    if models.empty or not (models["role"] == "sweep").any():
        return plot_notice("Scaling", "No sweep over sizes was asked for: name the sizes under pretrain.sweep.")
    check_columns(models, "models", [*CARDS, "parameters"], rule=RULE)
    pretraining = _checked(pretraining)
    cards = family(models)
    if not len(validated(pretraining, loss_of(pretraining))):
        return plot_notice("Scaling", "No model of the sweep was validated: nobody is left to validate on.")
    looks = {name: _scaled_look(at) for at, name in enumerate(cards["model"].unique())}
    with large_text():
        figure = Figure(figsize=(WIDTH, 4.9 + 0.25 * math.ceil(len(looks) / 2)))
        left, right = figure.subplots(1, 2, sharey=True)
        for name, look in looks.items():
            _draw_size(left, right, pretraining[pretraining["model"] == name], cards[cards["model"] == name], look)
        _draw_trend(right, pretraining, cards)
        base = pretraining[pretraining["model"].isin(cards["model"])]
        _draw_null_levels((left, right), base)
        left.set(xlabel="tokens seen", ylabel=MEASURES.get(str(cards["architecture"].iloc[0]), "loss"))
        left.set_title("validation, other people")
        right.set_title("at the end of training")
        right.set(xscale="log", xlabel="weights")
        _count_ticks(left)
        _weight_ticks(right, cards["parameters"].dropna().unique())
        return finish(figure, _scaling_legend(cards, looks, nulls_of(base)), columns=2)


def family(models: pd.DataFrame) -> pd.DataFrame:
    """The models of the sweep and the one whose name theirs start with, by size; `less` where one had less data."""
    sweep = models[models["role"] == "sweep"]
    bases = [
        name
        for name in models.loc[models["role"] == "model", "model"].unique()
        if sweep["model"].str.startswith(name).all()
    ]
    cards = models[models["model"].isin([*sweep["model"], *bases])]
    most = cards.groupby("fold")["n_train"].transform("max")
    return cards.assign(less=cards["n_train"] < most).sort_values(["parameters", "n_train"], kind="stable")


def curve_of(pretraining: pd.DataFrame, card: Mapping[Any, Any]) -> pd.DataFrame:
    """The curve of one model and fold; an empty table has no columns."""
    if pretraining.empty:
        return pretraining
    return pretraining[(pretraining["model"] == card["model"]) & (pretraining["fold"] == card["fold"])]


def nulls_at_end(curve: pd.DataFrame) -> dict[str, float]:
    """The nulls of a model, as they were when it was validated last."""
    return {name: float(validated(curve, name)[name].iloc[-1]) for name in nulls_of(curve)}


def last_losses(pretraining: pd.DataFrame, cards: pd.DataFrame) -> pd.DataFrame:
    """Cards with `last`, the last validated loss of each model and fold; NaN where there is none."""
    lasts = []
    for card in cards.to_dict("records"):
        curve = curve_of(pretraining, card)
        known = validated(curve, loss_of(curve))
        lasts.append(float(known[loss_of(curve)].iloc[-1]) if len(known) else np.nan)
    return cards.assign(last=lasts)


def _scaled_look(at: int) -> Look:
    return {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[at % len(MARKERS)], "ls": LINES[at % len(LINES)]}


def _draw_size(left: Axes, right: Axes, curve: pd.DataFrame, cards: pd.DataFrame, look: Look) -> None:
    loss = loss_of(curve)
    fill: Look = {"mfc": "white"} if cards["less"].any() else {}
    for _, part in curve.groupby("fold", sort=True):
        judged = validated(part, loss)
        left.plot(judged["tokens"], judged[loss], **look, **fill, ms=6, lw=1.6, label="size")
    for last in _finite(last_losses(curve, cards)):
        right.plot(
            last["parameters"], last["last"], **{**look, **fill, "ls": ""}, ms=9, mew=1.5, zorder=3, label="last"
        )


def _finite(table: pd.DataFrame) -> Iterator[dict[Any, Any]]:
    yield from table.dropna(subset=["last", "parameters"]).to_dict("records")


def _draw_trend(axes: Axes, pretraining: pd.DataFrame, cards: pd.DataFrame) -> None:
    """A line through the sizes with all data, for each fold."""
    for _, part in last_losses(pretraining, cards[~cards["less"]]).dropna(subset=["last"]).groupby("fold"):
        axes.plot(part["parameters"], part["last"], color=BEFORE, lw=1.2, zorder=1, label="trend")


def _draw_null_levels(panels: Sequence[Axes], curves: pd.DataFrame) -> None:
    """Nulls do not change with training; folds have their own."""
    for name in nulls_of(curves):
        for level in curves.groupby("fold")[name].mean().dropna():
            for axes in panels:
                axes.axhline(level, color="black", ls=NULL_LINES[name], lw=1.3, zorder=0)


def _weight_ticks(axes: Axes, counts: np.ndarray) -> None:
    from matplotlib.ticker import NullLocator

    axes.xaxis.set_minor_locator(NullLocator())
    sizes = np.sort(counts)
    # neighbours closer than a fifth of the axis would write over each other
    span = np.log10(sizes[-1] / sizes[0]) if len(sizes) > 1 else 1.0
    kept = [sizes[0]] if len(sizes) else []
    for size in sizes[1:]:
        if np.log10(size / kept[-1]) > 0.18 * span:
            kept.append(size)
    axes.set_xticks(kept, labels=[count_of(size) for size in kept])
    axes.margins(x=0.15)


def _scaling_legend(cards: pd.DataFrame, looks: dict[str, Look], nulls: Sequence[str]) -> list[Any]:
    marks = []
    for name, look in looks.items():
        part = cards[cards["model"] == name]
        words = f"{name}: {count_of(part['parameters'].max())} weights, {_range(part['n_train'])} recordings"
        if not _known(part, "parameters"):
            words = f"{name}: {reason_of(part)}"
        less = bool(part["less"].any())
        marks.append(mark(words, **({**hollow(look, 8), "ls": look["ls"], "mfc": "white"} if less else look), lw=1.6))
    return [*marks, *(mark(NULLS[name], color="black", ls=NULL_LINES[name], lw=1.3) for name in nulls)]
