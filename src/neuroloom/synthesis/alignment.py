"""EEG and BOLD of one scan on one clock: when each volume was measured, counted by the clock of the EEG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from neuroloom.artifacts import Artifact
from neuroloom.bold.scrubbing import kept_volumes
from neuroloom.manifest import ArtifactError
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Confounds, Events, ParcelSeries, Recording
from neuroloom.signals.triggers import MIN_VOLUMES, volume_onsets

MAX_T_R_OFF = 0.01  # of the repetition time, between the triggers and what the BOLD file says
MAX_DUMMIES = 20  # more triggers without a volume than this are no dummy volumes, unless the config says so
REGULAR = 0.01  # of a step, within which events count as regular


@dataclass(frozen=True)
class Alignment:
    """The volumes of a BOLD series on the clock of the EEG.

    Attributes
    ----------
    onset_V : float64 array
        The moment that the values of each volume stand for, s from the first sample of the EEG.
    kept_V : bool array
        False where a volume is censored, or there is no EEG at its moment.
    start : float
        Beginning of the first volume, s.
    drift : float
        The scanner's second over that of the EEG, less 1; NaN where the start was given.
    jitter : float
        RMS distance of the triggers from a regular clock, s; NaN where the start was given.
    n_dummies : int
        Triggers before the first volume.
    notes : tuple of str
        What was found and assumed.
    """

    onset_V: Array
    kept_V: Array
    start: float
    drift: float
    jitter: float
    n_dummies: int
    notes: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """For the QC table."""
        return {
            "n_volumes": len(self.onset_V),
            "n_kept": int(self.kept_V.sum()),
            "n_dummies": self.n_dummies,
            "start": self.start,
            "drift_ppm": self.drift * 1e6,
            "jitter_ms": self.jitter * 1e3,
            "notes": "; ".join(self.notes),
        }


@dataclass(frozen=True)
class AlignedSeries:
    """BOLD of one scan before trend, filters and confounds, on the clock of its EEG: what the `pair` artifact holds.

    Attributes
    ----------
    bold_PV : float32 array
        In `unit`; a parcel that was not measured is NaN.
    onset_V, kept_V : array
        As in `Alignment`.
    parcels : list of str
    centroid_P3 : array
        mm in `space`.
    confounds : Confounds
    t_r : float
        s.
    unit : str
        `%` (change from the parcel's mean) or `as stored`.
    atlas, atlas_sha256, space : str
    facts : mapping
        `start` (s), `drift`, `jitter` (s) and `n_dummies` of the alignment; None where unknown.
    """

    bold_PV: Array
    onset_V: Array
    kept_V: Array
    parcels: list[str]
    centroid_P3: Array
    confounds: Confounds
    t_r: float
    unit: str
    atlas: str
    atlas_sha256: str
    space: str
    facts: Mapping[str, float | None]

    @classmethod
    def of(cls, series: ParcelSeries, alignment: Alignment, *, file: str) -> Self:
        """The series as its alignment places it.

        Raises
        ------
        ArtifactError
            If the series was preprocessed before it kept its values from before cleaning.
        """
        if series.change_PV is None:
            raise ArtifactError(f"{file}: no array 'change' (values before cleaning); run preprocess_bold on it again")
        numbers = {"start": alignment.start, "drift": alignment.drift, "jitter": alignment.jitter}
        known = {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}
        return cls(
            bold_PV=series.change_PV,
            onset_V=alignment.onset_V,
            kept_V=alignment.kept_V,
            parcels=series.parcels,
            centroid_P3=series.centroid_P3,
            confounds=series.confounds,
            t_r=float(series.t_r),
            unit=series.unit,
            atlas=series.atlas,
            atlas_sha256=series.atlas_sha256,
            space=series.space,
            facts={**known, "n_dummies": alignment.n_dummies},
        )

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Back from an opened artifact."""
        attrs = artifact.attrs
        texts = {name: attrs[name] for name in ("t_r", "unit", "atlas", "atlas_sha256", "space")}
        return cls(
            bold_PV=artifact.read("bold"),
            onset_V=artifact.read("onset"),
            kept_V=artifact.read("kept").astype(bool),
            parcels=list(artifact.read("parcel")),
            centroid_P3=artifact.read("centroid"),
            confounds=Confounds.from_artifact(artifact),
            facts={name: attrs[name] for name in ("start", "drift", "jitter", "n_dummies")},
            **texts,
        )

    def arrays(self) -> dict[str, Any]:
        """Arrays of the artifact, by name."""
        return {
            "bold": self.bold_PV,
            "onset": self.onset_V,
            "kept": self.kept_V,
            "parcel": self.parcels,
            "centroid": self.centroid_P3,
            **self.confounds.arrays(),
        }

    def attrs(self) -> dict[str, Any]:
        """Root attributes of the artifact."""
        atlas = {"atlas": self.atlas, "atlas_sha256": self.atlas_sha256, "space": self.space}
        return {"t_r": self.t_r, "unit": self.unit, **atlas, **self.facts}


@dataclass(frozen=True)
class _Clock:
    """Where the volumes of the file lie: beginning of the first and distance of two, s."""

    start: float
    period: float
    jitter: float
    n_dummies: int
    notes: tuple[str, ...]


def align(
    recording: Recording,
    series: ParcelSeries,
    *,
    file: str,
    start: Literal["triggers"] | float = "triggers",
    dummy_volumes: Literal["auto"] | int = "auto",
    window: float = 16.0,
    min_volumes: int = 10,
) -> Alignment:
    """Place the volumes of a BOLD series on the clock of the EEG that was recorded with it.

    The scanner's clock is regular: its start and its second are a line through all triggers, which is closer to the
    truth than each trigger by itself, because an amplifier notes them on its own samples. Drift is known to about one
    sample of the amplifier over the length of the scan.

    Parameters
    ----------
    recording : Recording
        EEG, preprocessed; its events hold the scanner's triggers, one a volume or one a slice.
    series : ParcelSeries
        BOLD of the same scan; its `start_time` is added, because values stand for that moment of a volume.
    file : str
        The pair, named in errors.
    start : `triggers` or float
        Beginning of the first volume of the file on the clock of the EEG, s, where there are no triggers to take it
        from; the two clocks are then taken to be the same.
    dummy_volumes : `auto` or int
        Triggers before the first volume of the file; auto: as many as there are triggers too many.
    window : float
        EEG before a volume that a model reads, s; only for the count of volumes that can be used.
    min_volumes : int
        Fewer usable volumes than this are too few.

    Raises
    ------
    UnusableRecording
        If there are no triggers, fewer triggers than volumes or far more, another repetition time than that of the
        BOLD, the EEG ends before the scan, or too few volumes can be used.
    """
    n_volumes, duration = series.bold_PV.shape[1], recording.signal_CT.shape[1] / recording.sfreq
    if isinstance(start, str):
        clock = _clock_of_triggers(recording, series, dummy_volumes, duration, file)
    else:
        note = f"the scan was said to start at {start:g} s of the EEG: drift of the clocks is not known"
        clock = _Clock(start, series.t_r, np.nan, 0, (note,))
    begin_V = clock.start + clock.period * np.arange(n_volumes)
    onset_V = begin_V + series.start_time * clock.period / series.t_r
    _check_end(float(onset_V[-1]), duration, file)
    there_V = (onset_V >= 0) & (onset_V <= duration)
    kept_V = kept_volumes(series.confounds) & there_V
    _check_usable(kept_V, onset_V - window >= 0, window, min_volumes, file)
    drift = np.nan if np.isnan(clock.jitter) else clock.period / series.t_r - 1
    lost = [f"{int((~there_V).sum())} volumes have no EEG"] if not there_V.all() else []
    notes = (*clock.notes, *lost)
    return Alignment(onset_V, kept_V, float(clock.start), float(drift), float(clock.jitter), clock.n_dummies, notes)


def _clock_of_triggers(
    recording: Recording, series: ParcelSeries, dummy_volumes: Literal["auto"] | int, duration: float, file: str
) -> _Clock:
    """A line through the triggers, past those of the dummy volumes."""
    t_r, n_volumes = series.t_r, series.bold_PV.shape[1]
    _check_t_r(recording.scanner_t_r, t_r, "the sheet's scanner_t_r", file)
    try:
        onset_E, found = volume_onsets(recording.events, t_r=t_r, file=file)
    except UnusableRecording:
        _check_t_r(_other_period(recording.events, t_r), t_r, "the distance of the triggers", file)
        raise
    period, first = np.polyfit(np.arange(len(onset_E)), onset_E, 1)
    _check_t_r(float(period), t_r, "the distance of the triggers", file)
    jitter = float(np.sqrt(np.mean((onset_E - first - period * np.arange(len(onset_E))) ** 2)))
    n_dummies, notes = _dummies(
        len(onset_E), n_volumes, dummy_volumes, first + period * (n_volumes - 1), duration, file
    )
    start = float(first + period * n_dummies)
    clock = f"scan starts at {start:.3f} s, drift {1e6 * (period / t_r - 1):.1f} ppm, jitter {1e3 * jitter:.2f} ms"
    return _Clock(start, float(period), jitter, n_dummies, (found, *notes, clock))


def _check_t_r(found: float | None, t_r: float, what: str, file: str) -> None:
    if found is not None and abs(found / t_r - 1) > MAX_T_R_OFF:
        reason = f"{what} is {found:.6g} s, the repetition time of the BOLD {t_r:.6g} s"
        remedy = "Pair the EEG with its own BOLD, or correct RepetitionTime (sources.<study>.t_r or scanner_t_r)"
        raise UnusableRecording(file, reason, remedy)


def _other_period(events: Events, t_r: float) -> float | None:
    """Distance (s) of the most frequent events, if they are as regular as a scanner and come about once a volume."""
    labels = sorted(set(events.label), key=lambda label: -events.label.count(label))
    onsets = [np.sort(events.onset[np.array(events.label) == label]) for label in labels[:1]]
    if not onsets or len(onsets[0]) <= MIN_VOLUMES:
        return None
    step_E = np.diff(onsets[0])
    period = float(np.median(step_E))
    regular = np.abs(step_E - period) <= REGULAR * period
    return period if regular.mean() >= 0.9 and 0.5 < period / t_r < 2 else None


def _dummies(
    n_triggers: int, n_volumes: int, wanted: Literal["auto"] | int, last: float, duration: float, file: str
) -> tuple[int, list[str]]:
    """Triggers before the first volume, and notes; `last` is where the last volume would begin without any, s."""
    surplus = n_triggers - n_volumes
    if surplus < 0 and last > duration:
        reason = f"the EEG ends at {duration:.1f} s, {n_triggers} volumes into a scan of {n_volumes}"
        raise UnusableRecording(file, reason, "Bring the whole EEG, or cut the BOLD to the volumes that it covers")
    known = 0 if wanted == "auto" else wanted
    if surplus < known:
        dummies = f" ({known} of them of dummy volumes)" if known else ""
        reason = f"{n_triggers} volume triggers{dummies} for {n_volumes} volumes"
        remedy = "Triggers are lost at an end, or EEG and BOLD are of two runs: pair the right ones, or give the start"
        raise UnusableRecording(file, reason, remedy)
    if wanted == "auto" and surplus > MAX_DUMMIES:
        reason = f"{n_triggers} volume triggers for {n_volumes} volumes: {surplus} too many to be dummy volumes"
        remedy = "Pair the right recordings, or say how many are dummies in dummy_volumes (0: the BOLD ends early)"
        raise UnusableRecording(file, reason, remedy)
    if wanted == "auto":
        return surplus, [f"{surplus} triggers too many: the first are taken for dummy volumes"] if surplus else []
    notes = [f"the first {known} triggers are of dummy volumes"] if known else []
    left = surplus - known
    return known, [*notes, f"{left} triggers after the last volume left out"] if left else notes


def _check_end(last: float, duration: float, file: str) -> None:
    if last > duration:
        reason = f"the EEG ends at {duration:.1f} s, the last volume is at {last:.1f} s"
        raise UnusableRecording(file, reason, "Bring the whole EEG, or cut the BOLD to the volumes that it covers")


def _check_usable(kept_V: Array, begun_V: Array, window: float, min_volumes: int, file: str) -> None:
    usable = int((kept_V & begun_V).sum())
    if usable < min_volumes:
        lost, early = int((~kept_V).sum()), int((kept_V & ~begun_V).sum())
        reason = (
            f"{usable} of {len(kept_V)} volumes can be used ({lost} censored or without EEG, {early} with less than "
            f"{window:g} s of EEG before them), {min_volumes} are needed"
        )
        raise UnusableRecording(file, reason, "Bring a longer scan, or shorten the window of EEG")
