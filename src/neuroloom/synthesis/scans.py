"""One scan as models see it: EEG and BOLD on one clock, and the window of EEG before a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from neuroloom.artifacts import Artifact, open_artifact
from neuroloom.evaluation.splits import participant_of
from neuroloom.manifest import ArtifactError
from neuroloom.records import Array, Confounds, Recording, Signal
from neuroloom.signals.rejection import GOOD
from neuroloom.signals.streams import pick
from neuroloom.synthesis.alignment import AlignedSeries
from neuroloom.synthesis.pairs import Pair


@dataclass(frozen=True)
class Scan:
    """EEG and BOLD of one person, task and run.

    Attributes
    ----------
    name : str
        Of the pair.
    study, site, task : str
    participant : str
        study/site/subject.
    session, run : str or None
    signal_CT : array or store
        EEG, V; bad channels are interpolated or as preprocessing left them.
    sfreq : float
        Hz.
    ch_names : list of str
    position_C3 : array
        m in the head frame.
    onset_V : float64 array
        The moment of each volume, s from the first sample of the EEG.
    bold_PV : float32 array
        In `unit`, before trend, filters and confounds; a parcel that this scan did not measure is NaN.
    kept_V : bool array
        False where a volume is censored or has no EEG.
    t_r : float
        s.
    parcels : list of str
    centroid_P3 : array
        mm.
    confounds : Confounds
    rejected_N2 : array
        Spans of EEG that preprocessing rejected, N of them: begin and end, s.
    unit : str
        `%` or `as stored`.
    """

    name: str
    study: str
    participant: str
    site: str
    session: str | None
    task: str
    run: str | None
    signal_CT: Signal
    sfreq: float
    ch_names: list[str]
    position_C3: Array
    onset_V: Array
    bold_PV: Array
    kept_V: Array
    t_r: float
    parcels: list[str]
    centroid_P3: Array
    confounds: Confounds
    rejected_N2: Array
    unit: str = "%"

    @property
    def filled_P(self) -> Array:
        """Parcels that this scan measured, (P,) bool."""
        return np.isfinite(self.bold_PV).all(axis=1)

    def load(self) -> Self:
        """The scan with its EEG in memory."""
        return replace(self, signal_CT=np.asarray(self.signal_CT[:, :]))

    def stops(self) -> Array:
        """Sample of the EEG at which the window of each volume ends, (V,)."""
        return np.rint(self.onset_V * self.sfreq).astype(np.int64)


def open_scan(pair_manifest: Path | str, eeg_manifest: Path | str, pair: Pair) -> Scan:
    """A scan from its `pair` artifact and the preprocessed EEG; the EEG stays in its store.

    Parameters
    ----------
    pair_manifest, eeg_manifest : path
    pair : Pair
        Rows of the sheet.

    Raises
    ------
    ArtifactError
        If a store is not whole, or BOLD was aligned to another version of the EEG.
    Quarantined
        If EEG, BOLD or pair cannot be used.
    ValueError
        If the recording holds no EEG.
    """
    aligned_store = open_artifact(pair_manifest, kind="pair")
    eeg_store = open_artifact(eeg_manifest, kind="recording")
    _check_version(aligned_store, eeg_store)
    aligned, recording = AlignedSeries.from_artifact(aligned_store), Recording.from_artifact(eeg_store)
    window = eeg_store["signal"].chunks[1] / recording.sfreq
    eeg = pick(recording, "eeg")
    if not eeg.ch_names:
        raise ValueError(f"{eeg_store.path}: no channel of type eeg among {len(recording.ch_names)}; name another pair")
    return Scan(
        name=pair.name,
        study=pair.eeg.study,
        participant=participant_of(pair.eeg),
        site=pair.eeg.site,
        session=pair.eeg.session,
        task=pair.eeg.task,
        run=pair.eeg.run,
        signal_CT=eeg.signal_CT,
        sfreq=eeg.sfreq,
        ch_names=eeg.ch_names,
        position_C3=eeg.position_C3,
        onset_V=aligned.onset_V,
        bold_PV=aligned.bold_PV,
        kept_V=aligned.kept_V,
        t_r=aligned.t_r,
        parcels=aligned.parcels,
        centroid_P3=aligned.centroid_P3,
        confounds=aligned.confounds,
        rejected_N2=rejected_spans(recording.window_status, window),
        unit=aligned.unit,
    )


def _check_version(aligned: Artifact, eeg: Artifact) -> None:
    expected = aligned.attrs.get("upstream", {}).get("eeg", eeg.digest)
    if expected != eeg.digest:
        raise ArtifactError(
            f"{aligned.path}: was aligned to EEG {expected[:12]}, {eeg.path} is {eeg.digest[:12]}; run align_pair again"
        )


def rejected_spans(window_status: Sequence[str], window: float) -> Array:
    """Begin and end (N, 2), s, of the windows that were rejected; `window` is their length in s."""
    begin_N = window * np.flatnonzero([status != GOOD for status in window_status])
    return np.stack([begin_N, begin_N + window], axis=1)


def usable_volumes(scan: Scan, length: float, *, clean: bool = False) -> Array:
    """Volumes that count and have a whole window of EEG before them, (V,) bool.

    Parameters
    ----------
    scan : Scan
    length : float
        Of the window, s.
    clean : bool
        Without volumes whose window touches EEG that was rejected.
    """
    stop_V, n_times = scan.stops(), round(length * scan.sfreq)
    whole_V = scan.kept_V & (stop_V >= n_times) & (stop_V <= scan.signal_CT.shape[1])
    return whole_V & ~touched(scan, length) if clean else whole_V


def touched(scan: Scan, length: float) -> Array:
    """Volumes whose window of EEG shares time with a span that was rejected, (V,) bool."""
    before_VN = scan.onset_V[:, None] - length < scan.rejected_N2[:, 1]
    after_VN = scan.onset_V[:, None] > scan.rejected_N2[:, 0]
    return np.asarray((before_VN & after_VN).any(axis=1))


def window(scan: Scan, volume: int, length: float) -> Array:
    """EEG before one volume, (C, T) float32; see `windows_at`."""
    return np.asarray(windows_at(scan, [volume], length)[0])


def windows_at(scan: Scan, volumes: Sequence[int] | Array, length: float) -> Array:
    """Windows of EEG that end when a volume was measured, (N, C, T) float32, V; the store is read once.

    Parameters
    ----------
    scan : Scan
    volumes : sequence of int
        N of them, in any order.
    length : float
        s.

    Raises
    ------
    ValueError
        If a window would begin before the EEG or end after it, or holds no sample.
    """
    volume_N, n_times = np.asarray(volumes, dtype=np.int64), round(length * scan.sfreq)
    stop_N = scan.stops()[volume_N]
    _check_inside(scan, volume_N, stop_N, n_times)
    windows_NCT = np.empty((len(volume_N), len(scan.ch_names), n_times), np.float32)
    if len(volume_N):
        first = int(stop_N.min()) - n_times
        signal_CT = np.asarray(scan.signal_CT[:, first : int(stop_N.max())])
        for window_CT, stop in zip(windows_NCT, (stop_N - first).tolist(), strict=True):
            window_CT[:] = signal_CT[:, stop - n_times : stop]
    return windows_NCT


def _check_inside(scan: Scan, volume_N: Array, stop_N: Array, n_times: int) -> None:
    if n_times < 1:
        raise ValueError(f"{scan.name}: a window without a sample; give at least {1 / scan.sfreq:g} s")
    outside = np.flatnonzero((stop_N < n_times) | (stop_N > scan.signal_CT.shape[1]))
    if len(outside):
        at, duration = int(outside[0]), scan.signal_CT.shape[1] / scan.sfreq
        raise ValueError(
            f"{scan.name}: {n_times / scan.sfreq:g} s of EEG before volume {int(volume_N[at])} at "
            f"{stop_N[at] / scan.sfreq:.2f} s are not in a recording of {duration:.2f} s ({len(outside)} such "
            "volumes). Take those of usable_volumes"
        )
