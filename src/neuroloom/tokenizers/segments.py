"""Pieces of a preprocessed recording, as tokenizers and models read them.

Two ways to make amplifiers, units and kinds of sensors comparable. `brainomni` (arXiv 2505.18185): each piece around
the average of its sensors and at unit size, EEG, magnetometers and gradiometers apart; positions around their centre.
`reve` (arXiv 2510.21585): each channel at zero mean and unit SD over the recording; positions in metres.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from neuroloom.artifacts import Artifact
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Recording
from neuroloom.windows import WindowReader

SENSOR_TYPES = {"eeg": 0, "mag": 1, "grad": 2}
SMALLEST_SD = {"eeg": 1e-9, "mag": 1e-17, "grad": 1e-16}  # V, T, T/m: below it there was no brain
Preparation = Literal["brainomni", "reve"]
LARGEST_Z = 15.0  # SDs that `reve` clips at
WINDOWS_FOR_SCALE = 60  # that mean and SD of a channel are taken from


def normalize_positions(positions_C6: Array, sensor_type_C: Array) -> Array:
    """Positions around their centre, at unit root mean square along an axis; EEG and MEG each for themselves.

    Parameters
    ----------
    positions_C6 : array
        Position (m) and orientation; the orientation stays as it is.
    sensor_type_C : int array
        0 EEG, 1 magnetometer or axial gradiometer, 2 planar gradiometer.
    """
    placed_C6 = np.array(positions_C6, np.float32)
    for of_kind in (sensor_type_C == 0, sensor_type_C > 0):
        if of_kind.any():
            centred = placed_C6[of_kind, :3] - placed_C6[of_kind, :3].mean(axis=0)
            size = np.sqrt(3 * (centred**2).sum(axis=1).mean())
            placed_C6[of_kind, :3] = centred / (size if size > 0 else 1.0)
    return placed_C6


def normalize_segments(signal_BCT: Array, sensor_type_C: Array) -> Array:
    """Segments around the mean of their sensors, at unit SD; each kind of sensor for itself.

    Parameters
    ----------
    signal_BCT : array
        V, T or T/m.
    sensor_type_C : int array
        As in `normalize_positions`.

    Returns
    -------
    float32 array (B, C, T)
    """
    scaled_BCT = np.empty(signal_BCT.shape, np.float32)
    for name, kind in SENSOR_TYPES.items():
        rows = np.flatnonzero(sensor_type_C == kind)
        if len(rows):
            part = signal_BCT[:, rows].astype(np.float64)
            part -= part.mean(axis=1, keepdims=True)
            sd_B11 = part.std(axis=(1, 2), keepdims=True)
            scaled_BCT[:, rows] = part / np.maximum(sd_B11, SMALLEST_SD[name])
    return scaled_BCT


class Segments:
    """The usable segments of one preprocessed recording.

    A segment is one window of the store, or a piece from a given time on, resampled to `sfreq` where that differs. What
    the cleaning rejected, a shorter rest at the end, and channels that stayed bad are left out.

    Parameters
    ----------
    artifact : Artifact
        A `recording` store of preprocess_meeg.
    sfreq : float, optional
        Hz; default the rate of the store.
    limit : int
        Segments at most, evenly spread over the recording; 0 takes all.
    preparation : {"brainomni", "reve"}
        How signals and positions are made comparable.
    onset_N : array, optional
        Beginning of each segment, s from the start of the recording; default the windows of the store.
    duration : float, optional
        Length of a segment, s; without onsets a window of the store is cut into as many as fit.

    Attributes
    ----------
    recording : str
    ch_names : list of str
    positions_C6, sensor_type_C : arrays
        As tokenizers and models take them.
    sfreq : float
    n_times : int
        Samples of a segment.
    start_N : int array
        First sample of each segment, at the rate of the store.
    kept_N : int array
        Which of the given onsets (or of the pieces of the store) each segment is.

    Raises
    ------
    UnusableRecording
        No good EEG or MEG channel, a channel without a position, or no usable window.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        sfreq: float | None = None,
        limit: int = 0,
        preparation: Preparation = "brainomni",
        onset_N: Array | None = None,
        duration: float | None = None,
    ) -> None:
        recording = Recording.from_artifact(artifact)
        good_C = np.array([not status.startswith("bad") for status in recording.status])
        self._rows = np.flatnonzero(np.isin(recording.ch_types, list(SENSOR_TYPES)) & good_C)
        self._reader = WindowReader(artifact)
        self._file = str(artifact.path)
        self.recording = str(artifact.attrs.get("recording", artifact.path.stem))
        self.digest = artifact.digest
        self.ch_names = [recording.ch_names[row] for row in self._rows]
        self.sfreq = float(sfreq or recording.sfreq)
        self._stored_sfreq = recording.sfreq
        self._length = round(duration * recording.sfreq) if duration else self._reader.shape[-1]
        self.n_times = round(self._length / recording.sfreq * self.sfreq)
        self.sensor_type_C = np.array([SENSOR_TYPES[recording.ch_types[row]] for row in self._rows], np.int64)
        self.positions_C6 = self._positions(recording, preparation)
        self._good_N = self._good_windows(recording.window_status)
        self.start_N, self.kept_N = self._usable(onset_N, limit)
        self._scale = self._channel_scale() if preparation == "reve" else None

    @property
    def n_channels(self) -> int:
        """Sensors."""
        return len(self._rows)

    @property
    def duration(self) -> float:
        """Length of a segment, s."""
        return self.n_times / self.sfreq

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.start_N)

    def sensors(self, count: int) -> tuple[Array, Array]:
        """Positions (count, C, 6) and types (count, C) of the sensors, once for each segment of a batch."""
        return np.repeat(self.positions_C6[None], count, axis=0), np.repeat(self.sensor_type_C[None], count, axis=0)

    def read(self, first: int, count: int = 1) -> Array:
        """Segments `first` to `first + count`, prepared.

        Returns
        -------
        float32 array (count, C, T)
        """
        raw_BCT = np.stack([self._cut(int(start)) for start in self.start_N[first : first + count]])
        if not np.isfinite(raw_BCT).all():
            raise UnusableRecording(self._file, "missing values (NaN) in the cleaned signal", "preprocess it again")
        if self.sfreq != self._stored_sfreq:
            raw_BCT = self._resampled(raw_BCT)
        if self._scale is None:
            return normalize_segments(raw_BCT, self.sensor_type_C)
        mean_C1, sd_C1 = self._scale
        return np.clip((raw_BCT - mean_C1) / sd_C1, -LARGEST_Z, LARGEST_Z).astype(np.float32)

    def _cut(self, start: int) -> Array:
        """Samples of the good channels, from as many windows of the store as they lie in."""
        size = self._reader.shape[-1]
        first, last = start // size, (start + self._length - 1) // size
        windows_WCT = self._reader.read(first, last - first + 1)[:, self._rows]
        whole_CT = windows_WCT[0] if first == last else np.concatenate(list(windows_WCT), axis=1)
        return whole_CT[:, start - first * size :][:, : self._length]

    def _channel_scale(self) -> tuple[Array, Array]:
        """Mean and SD of each channel over good windows of the recording, (C, 1)."""
        chosen = np.linspace(0, len(self._good_N) - 1, min(len(self._good_N), WINDOWS_FOR_SCALE)).round().astype(int)
        sums_3C = np.zeros((3, self.n_channels, 1))
        for window in self._good_N[chosen]:
            x_CT = self._reader.read(int(window))[0, self._rows].astype(np.float64)
            sums_3C += [np.full((self.n_channels, 1), x_CT.shape[1]), x_CT.sum(1, keepdims=True), _squares(x_CT)]
        mean_C1 = sums_3C[1] / sums_3C[0]
        smallest_C1 = np.array([list(SMALLEST_SD.values())[kind] for kind in self.sensor_type_C])[:, None]
        return mean_C1, np.maximum(np.sqrt(np.maximum(sums_3C[2] / sums_3C[0] - mean_C1**2, 0)), smallest_C1)

    def _resampled(self, signal_BCT: Array) -> Array:
        from fractions import Fraction

        from scipy.signal import resample_poly

        ratio = Fraction(self.sfreq / self._stored_sfreq).limit_denominator(1000)
        return resample_poly(signal_BCT, ratio.numerator, ratio.denominator, axis=-1, padtype="line")[
            ..., : self.n_times
        ]

    def _positions(self, recording: Recording, preparation: Preparation) -> Array:
        if not len(self._rows):
            raise UnusableRecording(self._file, "no good EEG or MEG channel", "name the types in sources.<study>.types")
        positions_C6 = np.concatenate([recording.position_C3, recording.orientation_C3], axis=1)[self._rows]
        lost = [name for name, row in zip(self.ch_names, positions_C6, strict=True) if not np.isfinite(row).all()]
        if lost:
            raise UnusableRecording(
                self._file, f"no position of {', '.join(lost[:5])}", "give a montage in sources.<study>.montage"
            )
        if preparation == "reve":
            return positions_C6.astype(np.float32)
        return normalize_positions(positions_C6, self.sensor_type_C)

    def _good_windows(self, window_status: Any) -> Array:
        status = list(window_status[: len(self._reader)]) or ["good"] * len(self._reader)
        good_N = np.array([window for window, word in enumerate(status) if word == "good"], np.int64)
        if not len(good_N):
            length = self._reader.shape[-1] / self._stored_sfreq
            raise UnusableRecording(
                self._file,
                f"no usable window of {length:g} s: {len(status)} windows, all rejected, or shorter than one",
                "lower ingest.window, or raise preprocess.meeg.burst_z",
            )
        return good_N

    def _usable(self, onset_N: Array | None, limit: int) -> tuple[Array, Array]:
        """First sample of each segment that lies in good windows, and which one it is."""
        size = self._reader.shape[-1]
        if onset_N is None:
            per_window = max(size // self._length, 1)
            kept_N = (self._good_N[:, None] * per_window + np.arange(per_window)).ravel()
            start_N = kept_N // per_window * size + kept_N % per_window * self._length
        else:
            start_N = np.round(np.asarray(onset_N, float) * self._stored_sfreq).astype(np.int64)
            inside_N = (start_N >= 0) & (start_N + self._length <= len(self._reader) * size)
            bad_N = np.ones(len(self._reader), bool)
            bad_N[self._good_N] = False
            bad_before_N = np.concatenate([[0], np.cumsum(bad_N)])
            first_N, last_N = (
                np.clip(at_N // size, 0, len(bad_N) - 1) for at_N in (start_N, start_N + self._length - 1)
            )
            kept_N = np.flatnonzero(inside_N & (bad_before_N[last_N + 1] == bad_before_N[first_N]))
            start_N = start_N[kept_N]
        if limit and len(kept_N) > limit:
            chosen = np.linspace(0, len(kept_N) - 1, limit).round().astype(int)
            start_N, kept_N = start_N[chosen], kept_N[chosen]
        return start_N, kept_N


def _squares(x_CT: Array) -> Array:
    return np.asarray((x_CT**2).sum(axis=1, keepdims=True))
