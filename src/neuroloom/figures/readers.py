"""Who reads a task, in the words and the order of all figures and tables of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from neuroloom.evaluation.tables import BASELINE
from neuroloom.figures.model_plots import looks_of_models
from neuroloom.figures.style import BEFORE
from neuroloom.figures.token_plots import TEXT, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINES = {
    "majority": "majority",
    "band_power_lda": "band power + LDA",
    "csp_lda": "CSP + LDA",
    "riemann": "Riemann",
    "eegnet": "EEGNet",
    "shallow": "ShallowFBCSP",
}
REGIMES = {
    "linear": "linear, frozen",
    "attentive": "attentive, frozen",
    "lora": "LoRA",
    "full": "all fine-tuned",
    "scratch": "from scratch",
}
KINDS = {"linear": "frozen", "attentive": "frozen", "lora": "fine-tuned", "full": "fine-tuned", "scratch": "scratch"}
KIND_MARKS: dict[str, Look] = {
    "frozen": {"marker": "o"},
    "fine-tuned": {"marker": "s"},
    "scratch": {"marker": "o", "mfc": "white", "mew": 1.5},
    BASELINE: {"marker": "D"},
}
BASELINE_COLOUR = "#000000"
MEASURES = {"balanced_accuracy": "balanced accuracy", "r2": "R²"}
HEADING, GAP = 1.2, 0.4  # slots
Reader = tuple[str, str]  # model, or name of the baseline, and regime


@dataclass(frozen=True)
class Rows:
    """Where readers stand, from the top, in slots.

    Attributes
    ----------
    slots : dict
        Place of each (model, regime).
    headings : dict
        Place of the name of each group.
    height : float
    """

    slots: dict[Reader, float]
    headings: dict[str, float]
    height: float


def readers_of(table: pd.DataFrame) -> list[Reader]:
    """Readers of a table, baselines first, then models by name; each group in the order of effort."""
    pairs = table[["model", "regime"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(((str(model), str(regime)) for model, regime in pairs), key=_rank)


def _rank(reader: Reader) -> tuple[Any, ...]:
    model, regime = reader
    if regime == BASELINE:
        return 0, "", _place(model, list(BASELINES)), model
    return 1, model, _place(regime, list(REGIMES)), regime


def _place(name: str, known: Sequence[str]) -> int:
    return known.index(name) if name in known else len(known)


def name_of(reader: Reader) -> str:
    """A reader in words, without the name of its model."""
    model, regime = reader
    return BASELINES.get(model, model) if regime == BASELINE else REGIMES.get(regime, regime)


def full_name(reader: Reader) -> str:
    """A reader in words: `reve (linear, frozen)`."""
    return name_of(reader) if reader[1] == BASELINE else f"{reader[0]} ({name_of(reader)})"


def kind_of(reader: Reader) -> str:
    """What a reader is: a baseline, frozen, fine-tuned or from scratch."""
    return BASELINE if reader[1] == BASELINE else KINDS.get(reader[1], "fine-tuned")


def look_of(reader: Reader, models: Sequence[str]) -> Look:
    """Colour by model, mark by kind."""
    colour = BASELINE_COLOUR if reader[1] == BASELINE else looks_of_models(models)[reader[0]]["color"]
    return {"color": colour, **KIND_MARKS[kind_of(reader)]}


def models_of(table: pd.DataFrame) -> list[str]:
    """Names of the models of a table, baselines aside."""
    return sorted(table.loc[table["regime"] != BASELINE, "model"].unique())


def rows_of(readers: Sequence[Reader]) -> Rows:
    """Places of the readers, with a heading above each group."""
    slots: dict[Reader, float] = {}
    headings: dict[str, float] = {}
    y = 0.0
    for reader in readers:
        group = "baselines" if reader[1] == BASELINE else reader[0]
        if group not in headings:
            y += GAP if headings else 0.0
            headings[group], y = y + HEADING / 2, y + HEADING
        slots[reader], y = y + 0.5, y + 1.0
    return Rows(slots, headings, y)


def draw_rows(axes: Axes, rows: Rows, *, labels: bool) -> None:
    """Limits, names at the left, headings and lines between groups."""
    axes.set(ylim=(rows.height + 0.2, 0.0))
    axes.set_yticks(list(rows.slots.values()), labels=[name_of(reader) for reader in rows.slots])
    axes.tick_params(axis="y", length=0, labelleft=labels)
    for at, (name, y) in enumerate(rows.headings.items()):
        if at:
            axes.axhline(y - HEADING / 2 - GAP / 2, color=BEFORE, lw=0.8)
        if labels:
            place = axes.get_yaxis_transform()
            axes.text(0.0, y, f"{name}  ", transform=place, weight="bold", ha="right", va="center", fontsize=TEXT)
