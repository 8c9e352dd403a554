"""What was found, in words: whether what was hoped for holds, and differences on the same people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import pandas as pd

Answer = Literal["yes", "open", "in part", "no", "unknown"]
DIFFERENCE = ("difference", "ci_low", "ci_high", "n_participants")


@dataclass(frozen=True)
class Verdict:
    """What was found, in words, and whether what was hoped for holds; `open` where chance may have made it so."""

    answer: Answer
    text: str


@dataclass(frozen=True)
class Difference:
    """How much better one is than another on the same people (n), with its interval: NaN where there is one person."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Self:
        """That of a row of differences, or of gains."""
        return cls(*(row[name] for name in DIFFERENCE))

    def __str__(self) -> str:
        """In words, without a sign before nothing."""
        if pd.isna(self.low):
            return _signed(self.mean)
        return f"{_signed(self.mean)} (95 % {_signed(self.low)} to {_signed(self.high)})"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-0.00", "0").replace("+0.00", "0")


def answer_of(above: Sequence[bool], differences: Iterable[Difference | None]) -> Answer:
    """Yes only where all are above, and no difference on the same people may be chance."""
    if all(above):
        return "yes" if all(one is not None and one.low > 0 for one in differences) else "open"
    return "in part" if any(above) else "no"


def but(answer: Answer) -> str:
    """What is added to a lead that has no proof."""
    return ", but that may be chance" if answer == "open" else ""


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
