"""The study in one picture: its stages, with the numbers of what went through them and what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroloom.figures.drawing import (
    REMARK,
    TEXT,
    WIDTH,
    WORDS,
    Look,
    check_columns,
    count_of,
    large_text,
    score_of,
    span_of,
)
from neuroloom.figures.style import AFTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADLINE = ("section", "question", "where", "what", "measure", "score", "ci_low", "ci_high", "null")
WORDS_OF = {  # of each stage, row by row: the lower ones read what the upper ones make
    "recordings": "Recordings",
    "cleaning": "Cleaning",
    "tokenizers": "Tokens",
    "models": "Foundation models",
    "evaluation": "Tasks",
    "federation": "Federation",
    "synthesis": "EEG to fMRI",
}
UPPER = ("recordings", "cleaning", "tokenizers", "models")
MARGIN, GAP, BETWEEN = 0.1, 0.3, 0.75  # inches: at the sides, between boxes, between rows
HEAD, LINE = 0.45, 0.175  # inches of a title, and of a line
LETTER = 0.068  # inches
MOST = 4  # findings in a box
MEASURES = {"balanced accuracy": "acc", "correlation": "r", "validation loss (lower is better)": "loss"}
Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Box:
    """A box from its left and its top, inches, and the lines in it."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]


def plot_study_pipeline(
    recordings: pd.DataFrame, quarantine: pd.DataFrame, headline: pd.DataFrame, **tables: pd.DataFrame
) -> Figure:
    """The stages of the study, with people, recordings, hours, tokens, weights, arms and scores.

    Parameters
    ----------
    recordings, quarantine, headline : DataFrame
    **tables : DataFrame
        `tokenizers`, `models`, `evaluation_summary`, `federation_summary`, `synthesis_summary`: those that there are.

    Returns
    -------
    Figure
        A box for each stage of this study; a score stands with its interval over people and its null.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    from matplotlib.figure import Figure

    check_columns(headline, "headline", HEADLINE, rule="collect_headline")
    counted = dict(_counts(recordings, quarantine, tables))
    rows = [[name for name in counted if (name in UPPER) == upper] for upper in (True, False)]
    boxes: dict[str, Box] = {}
    top = MARGIN
    for names in filter(None, rows):
        width = (WIDTH - 2 * MARGIN - GAP * (len(names) - 1)) / len(names)
        said = {name: _fit([*counted[name], *_findings(headline, name)], width) for name in names}
        height = HEAD + LINE * max(map(len, said.values())) + 0.1
        for at, name in enumerate(names):
            boxes[name] = Box(MARGIN + at * (width + GAP), top, width, height, tuple(said[name]))
        top += height + BETWEEN
    with large_text():
        figure = Figure(figsize=(WIDTH, top - BETWEEN + MARGIN), layout=None)
        figure.set_layout_engine("none")  # places are given in inches
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(figure.get_size_inches()[1], 0))
        axes.set_axis_off()
        for name, box in boxes.items():
            _draw_box(axes, box, WORDS_OF[name])
        _draw_arrows(axes, *([boxes[name] for name in names] for names in rows))
    return figure


def _fit(lines: list[str], width: float) -> list[str]:
    """Lines that a box has room for."""
    most = int(width / LETTER)
    return [line if len(line) <= most else f"{line[: most - 1].rstrip()}…" for line in lines]


def _counts(recordings: pd.DataFrame, quarantine: pd.DataFrame, tables: Tables) -> Iterator[tuple[str, list[str]]]:
    """What each stage of the study was given or made, in words."""
    people = len(recordings[["study", "site", "subject"]].drop_duplicates())
    sites = len(recordings[["study", "site"]].drop_duplicates())
    usable = recordings[recordings["status"] == "artifact"]
    kinds = recordings.groupby("modality").size()
    hours = usable.groupby("modality")["duration"].sum()
    counts = [f"{str(kind).upper()}: {count} recordings" for kind, count in kinds.items()]
    yield "recordings", [f"{people} people at {sites} sites", *counts]
    usable_words = [f"{str(kind).upper()}: {span_of(seconds)} usable" for kind, seconds in hours.items()]
    yield "cleaning", [*usable_words, f"{len(quarantine)} quarantined"]
    if len(tokenizers := tables.get("tokenizers", pd.DataFrame())):
        rates = tokenizers.groupby("tokenizer")["bits_per_second"].median()
        yield "tokenizers", [f"{name}: {_rate(rate)}" for name, rate in rates.items()]
    if len(models := tables.get("models", pd.DataFrame())):
        yield "models", _model_lines(models)
    if len(summary := tables.get("evaluation_summary", pd.DataFrame())):
        readers = len(summary[["model", "regime"]].drop_duplicates())
        yield "evaluation", [f"{summary['task'].nunique()} tasks, {readers} readers"]
    if len(summary := tables.get("federation_summary", pd.DataFrame())):
        arms = len(summary[["strategy", "network"]].drop_duplicates())
        yield "federation", [f"{arms} arms, n = {_most(summary)} people tested"]
    if len(summary := tables.get("synthesis_summary", pd.DataFrame())):
        yield "synthesis", [f"{summary['model'].nunique()} models, n = {_most(summary)} people tested"]


def _rate(bits: float) -> str:
    return f"{bits / 1e3:.3g} kbit/s" if bits >= 1e3 else f"{bits:.0f} bit/s"


def _model_lines(models: pd.DataFrame) -> list[str]:
    sizes = models.reindex(columns=["model", "role", "parameters", "tokens"])  # none where no model could be trained
    known = sizes[sizes["role"] == "model"].dropna(subset=["parameters"]).drop_duplicates("model")
    lines = [
        (f"{row['model']}: {count_of(row['parameters'])} weights", f"  {count_of(row['tokens'])} tokens of training")
        for row in known.to_dict("records")
    ]
    return [line for pair in lines for line in pair]


def _most(summary: pd.DataFrame) -> str:
    most = summary["n_participants"].max()
    return f"{most:.0f}" if pd.notna(most) else "0"


def _findings(headline: pd.DataFrame, section: str) -> list[str]:
    """Scores of a stage with their intervals, and their nulls: two lines each."""
    rows = headline[(headline["section"] == section) & headline["score"].notna()][:MOST]
    # the same model may answer several questions
    alike = rows.duplicated(["where", "what"], keep=False)
    titles = [row["question"] if ask else _about(row) for row, ask in zip(rows.to_dict("records"), alike, strict=True)]
    scores = [_score(row) for row in rows.to_dict("records")]
    return [line for pair in zip(titles, scores, strict=True) for line in pair]


def _about(row: Mapping[Any, Any]) -> str:
    return str(row["where"]) if row["what"] in ("", row["section"]) else f"{row['what']}, {row['where']}"


def _score(row: Mapping[Any, Any]) -> str:
    known = np.isfinite([row["ci_low"], row["ci_high"]]).all()
    interval = f" [{score_of(row['ci_low'])}, {score_of(row['ci_high'])}]" if known else ""
    null = f", null {score_of(row['null'])}" if pd.notna(row["null"]) else ""
    return f"  {MEASURES.get(row['measure'], row['measure'])} {score_of(row['score'])}{interval}{null}"


def _draw_box(axes: Axes, box: Box, title: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((box.x, box.y), box.width, box.height, boxstyle=shape, fc="#F5F8FB", ec=AFTER, lw=1.4)
    )
    axes.text(box.x + 0.1, box.y + 0.1, title, va="top", weight="bold", fontsize=TEXT)
    for at, line in enumerate(box.lines):
        axes.text(box.x + 0.1, box.y + HEAD + LINE * at, line, va="top", fontsize=REMARK, color=WORDS)


def _draw_arrows(axes: Axes, upper: list[Box], lower: list[Box]) -> None:
    """From box to box above, and from there to each box below, which all read cleaned recordings as well."""
    look: Look = {"color": WORDS, "lw": 1.4}
    for left, right in pairwise(upper):
        y = left.y + left.height / 2
        axes.annotate("", (right.x, y), (left.x + left.width, y), arrowprops={"arrowstyle": "-|>", **look})
    if not lower:
        return
    below, bus = upper[-1].y + upper[-1].height, lower[0].y - BETWEEN / 2
    tails = [box.x + box.width / 2 for box in upper[1:]]
    heads = [box.x + box.width / 2 for box in lower]
    axes.vlines(tails, below, bus, **look)
    axes.hlines(bus, min(tails + heads), max(tails + heads), **look)
    for x in heads:
        axes.annotate("", (x, lower[0].y), (x, bus), arrowprops={"arrowstyle": "-|>", "shrinkA": 0, **look})
