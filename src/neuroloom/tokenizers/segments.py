"""Pieces of a preprocessed recording, as tokenizers and models read them.

Each piece is brought to the average of its sensors and to unit size, EEG, magnetometers and gradiometers apart, as
BrainOmni does (arXiv 2505.18185): what is left is comparable between amplifiers, units and kinds of sensors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neuroloom.artifacts import Artifact
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Recording
from neuroloom.windows import WindowReader

SENSOR_TYPES = {"eeg": 0, "mag": 1, "grad": 2}
SMALLEST_SD = {"eeg": 1e-9, "mag": 1e-17, "grad": 1e-16}  # V, T, T/m: below it there was no brain


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

    A segment is one window of the store, resampled to `sfreq` where that differs. Windows that the cleaning rejected, a
    shorter rest at the end, and channels that stayed bad are left out.

    Parameters
    ----------
    artifact : Artifact
        A `recording` store of preprocess_meeg.
    sfreq : float, optional
        Hz; default the rate of the store.
    limit : int
        Segments at most, evenly spread over the recording; 0 takes all.

    Attributes
    ----------
    recording : str
    ch_names : list of str
    positions_C6, sensor_type_C : arrays
        As tokenizers take them.
    sfreq : float
    n_times : int
        Samples of a segment.
    window_N : int array
        Window of the store of each segment.

    Raises
    ------
    UnusableRecording
        No good EEG or MEG channel, a channel without a position, or no usable window.
    """

    def __init__(self, artifact: Artifact, *, sfreq: float | None = None, limit: int = 0) -> None:
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
        self.n_times = round(self._reader.shape[-1] / recording.sfreq * self.sfreq)
        self.sensor_type_C = np.array([SENSOR_TYPES[recording.ch_types[row]] for row in self._rows], np.int64)
        self.positions_C6 = self._positions(recording)
        self.window_N = self._usable(recording.window_status, limit)

    @property
    def n_channels(self) -> int:
        """Sensors."""
        return len(self._rows)

    @property
    def duration(self) -> float:
        """Length of a segment, s."""
        return self.n_times / self.sfreq

    @property
    def start_N(self) -> Array:
        """First sample of each segment, at the rate of the store."""
        return self.window_N * self._reader.shape[-1]

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.window_N)

    def sensors(self, count: int) -> tuple[Array, Array]:
        """Positions (count, C, 6) and types (count, C) of the sensors, once for each segment of a batch."""
        return np.repeat(self.positions_C6[None], count, axis=0), np.repeat(self.sensor_type_C[None], count, axis=0)

    def read(self, first: int, count: int = 1) -> Array:
        """Segments `first` to `first + count`, prepared.

        Returns
        -------
        float32 array (count, C, T)
        """
        windows = self.window_N[first : first + count]
        raw_BCT = np.concatenate([self._reader.read(int(window)) for window in windows])[:, self._rows]
        if not np.isfinite(raw_BCT).all():
            raise UnusableRecording(self._file, "missing values (NaN) in the cleaned signal", "preprocess it again")
        if self.sfreq != self._stored_sfreq:
            raw_BCT = self._resampled(raw_BCT)
        return normalize_segments(raw_BCT, self.sensor_type_C)

    def _resampled(self, signal_BCT: Array) -> Array:
        from fractions import Fraction

        from scipy.signal import resample_poly

        ratio = Fraction(self.sfreq / self._stored_sfreq).limit_denominator(1000)
        return resample_poly(signal_BCT, ratio.numerator, ratio.denominator, axis=-1, padtype="line")[
            ..., : self.n_times
        ]

    def _positions(self, recording: Recording) -> Array:
        if not len(self._rows):
            raise UnusableRecording(self._file, "no good EEG or MEG channel", "name the types in sources.<study>.types")
        positions_C6 = np.concatenate([recording.position_C3, recording.orientation_C3], axis=1)[self._rows]
        lost = [name for name, row in zip(self.ch_names, positions_C6, strict=True) if not np.isfinite(row).all()]
        if lost:
            raise UnusableRecording(
                self._file, f"no position of {', '.join(lost[:5])}", "give a montage in sources.<study>.montage"
            )
        return normalize_positions(positions_C6, self.sensor_type_C)

    def _usable(self, window_status: Any, limit: int) -> Array:
        status = list(window_status[: len(self._reader)]) or ["good"] * len(self._reader)
        good = np.array([window for window, word in enumerate(status) if word == "good"], np.int64)
        if not len(good):
            length = self._reader.shape[-1] / self._stored_sfreq
            raise UnusableRecording(
                self._file,
                f"no usable window of {length:g} s: {len(status)} windows, all rejected, or shorter than one",
                "lower ingest.window, or raise preprocess.meeg.burst_z",
            )
        if limit and len(good) > limit:
            good = good[np.linspace(0, len(good) - 1, limit).round().astype(int)]
        return good
