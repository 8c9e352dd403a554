"""What preprocessing of EEG and MEG found and did: one row of the QC table."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from neuroloom.records import Recording
from neuroloom.signals.rejection import GOOD


@dataclass(frozen=True)
class MeegQc:
    """What preprocessing found and did: one row of the QC table.

    Attributes
    ----------
    bads : dict
        Channel -> reason.
    interpolated : list of str
        Bad channels that were given values from their neighbours; the others stay bad.
    left_behind : list of str
        Channels of other types (reference coils, misc), which are in the ingested store only.
    ocular : list of float
        Correlation of each removed component with its eye channel.
    notes : str
        What was done, what could not be done, and why.
    line_freq : float or None
        Hz, declared or detected; None where no mains stands out.
    line_db_before, line_db_after : float
        Mains above its surroundings, median channel.
    h_freq : float
        Low-pass that was applied, Hz.
    edge_fraction : float
        Share of samples within half a filter kernel of an end.
    sd_before, sd_after : dict
        Median SD in 1 s by channel type, SI units.
    n_windows, n_rejected : int
        Windows of the store, and those that hold a burst.
    muscle : list of str
        Electrode where each removed component of muscle is strongest, and for how much of the time it was removed.
    """

    n_channels: int
    duration: float
    sfreq_in: float
    sfreq_out: float
    bads: dict[str, str]
    interpolated: list[str]
    left_behind: list[str]
    ocular: list[float]
    notes: str
    line_freq: float | None
    line_source: str
    line_db_before: float
    line_db_after: float
    l_freq: float
    h_freq: float
    edge_fraction: float
    nan_fraction: float
    n_events: int
    sd_before: dict[str, float]
    sd_after: dict[str, float]
    n_windows: int = 0
    n_rejected: int = 0
    muscle: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Scalars of a table row; mappings as JSON."""
        values = dict(vars(self))
        values |= {"n_bads": len(self.bads), "n_ocular": len(self.ocular), "n_muscle": len(self.muscle)}
        for name in ("bads", "interpolated", "left_behind", "ocular", "muscle", "sd_before", "sd_after"):
            values[name] = json.dumps(values[name], ensure_ascii=False)
        return values

    def with_windows(self, recording: Recording) -> MeegQc:
        """The same after the windows have been judged, which is when they have been written."""
        rejected = [status for status in recording.window_status if status != GOOD]
        return replace(self, n_windows=len(recording.window_status), n_rejected=len(rejected))
