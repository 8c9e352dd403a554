"""Which volumes train, validate and test, and what BOLD goes through before it is learned.

A piece is a stretch of one scan. Each is filtered by itself and scaled by what training knows, so that nothing of the
test is in the target of training: filters run forward and back, and one over the whole scan carries the test part into
the end of the training part. `published` is that chain all the same, to be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from neuroloom.bold.cleaning import clean_series, usable_band
from neuroloom.records import Array
from neuroloom.schema import ConfigError
from neuroloom.synthesis.config import SynthesizeConfig, TargetConfig
from neuroloom.synthesis.scans import Scan, usable_volumes

PUBLISHED_LOW_PASS, PUBLISHED_QUANTILE = 0.15, 0.95  # Hz; of the absolute values, which becomes 1
FEWEST = 10  # volumes of a part of a scan


@dataclass(frozen=True)
class Piece:
    """A stretch of one scan with its target.

    Attributes
    ----------
    scan : Scan
    first, last : int
        Volumes of the stretch, `last` not included; it is filtered as a whole.
    volumes_N : int array
        Those of them that count: not censored, and with EEG before them.
    target_PN : array
        Filtered, in units of training once it is scaled; NaN in a parcel that was not measured.
    target : TargetConfig
    """

    scan: Scan
    first: int
    last: int
    volumes_N: Array
    target_PN: Array
    target: TargetConfig

    @property
    def onset_N(self) -> Array:
        """Moments of the volumes that count, s on the clock of the EEG."""
        return self.scan.onset_V[self.volumes_N]

    def filtered(self, series_KN: Array) -> Array:
        """A prediction, or a feature, brought to the band of the target, (K, N)."""
        # what never changes has nothing in the band, and rounding would look like a course of time
        changes_K1 = np.ptp(series_KN, axis=1, keepdims=True) > 0
        return np.where(changes_K1, series_KN @ self._chain_NN, 0.0)

    @cached_property
    def _chain_NN(self) -> Array:
        """The chain of the target is linear: what it makes of each single volume; between volumes by straight lines."""
        single_NN = np.eye(len(self.volumes_N))
        if self.target.chain == "published":
            return single_NN - 1 / len(single_NN)
        whole_V = np.arange(self.volumes_N[0], self.volumes_N[-1] + 1)
        series_NV = np.stack([np.interp(whole_V, self.volumes_N, one_N) for one_N in single_NN])
        return _in_band(series_NV, self.target, self.scan)[:, self.volumes_N - self.volumes_N[0]]


def whole_scan(scan: Scan, config: SynthesizeConfig) -> Piece:
    """All of a scan as one piece, not scaled yet."""
    return piece_of(scan, 0, len(scan.onset_V), config)


def piece_of(scan: Scan, first: int, last: int, config: SynthesizeConfig) -> Piece:
    """Volumes `first` to `last` (not included) of a scan, filtered by themselves; see `Piece`."""
    usable_V = usable_volumes(scan, config.window)
    usable_V[:first] = usable_V[last:] = False
    volumes_N = np.flatnonzero(usable_V)
    if config.target.chain == "published":
        bold_PV = _published(scan.bold_PV, scan.t_r)
        return Piece(scan, first, last, volumes_N, bold_PV[:, volumes_N], config.target)
    bold_PV = np.full((len(scan.parcels), last - first), np.nan)
    kept_V, filled_P = scan.kept_V[first:last], scan.filled_P
    bold_PV[filled_P] = _in_band(scan.bold_PV[filled_P, first:last], config.target, scan, kept_V)
    return Piece(scan, first, last, volumes_N, bold_PV[:, volumes_N - first], config.target)


def parts_of_scan(scan: Scan, config: SynthesizeConfig) -> dict[str, Piece]:
    """Beginning, middle and end of a scan, with a gap between them that no EEG window and no response spans.

    Raises
    ------
    ConfigError
        If a part is left with too few volumes.
    """
    gap = config.least_gap if config.gap is None else config.gap
    usable = np.flatnonzero(usable_volumes(scan, config.window))
    first, n_gap = int(usable[0]), int(np.ceil(gap / scan.t_r))
    n_volumes = int(usable[-1]) + 1 - first - 2 * n_gap
    ends = first + np.cumsum(np.round(np.array(config.parts) * max(n_volumes, 0))).astype(int) + n_gap * np.arange(3)
    starts = [first, *(ends[:2] + n_gap).tolist()]
    named = zip(("train", "validation", "test"), starts, ends.tolist(), strict=True)
    pieces = {name: piece_of(scan, start, end, config) for name, start, end in named if end - start >= FEWEST}
    short = {"train", "validation", "test"} - {name for name, piece in pieces.items() if len(piece.volumes_N) >= FEWEST}
    if short:
        raise ConfigError(
            f"{scan.name}: {len(usable)} volumes with gaps of {gap:g} s leave fewer than {FEWEST} for "
            f"{', '.join(sorted(short))}; longer scans, other synthesize.parts, or synthesize.splits without scan"
        )
    return pieces


def target_scale(pieces: Sequence[Piece]) -> Array:
    """RMS of the target of each parcel over the pieces of training, (P,); 1 where none has measured it."""
    square_SP = np.stack([np.mean(piece.target_PN**2, axis=1) for piece in pieces])
    known_SP = np.isfinite(square_SP)
    mean_P = np.where(known_SP, square_SP, 0).sum(axis=0) / np.maximum(known_SP.sum(axis=0), 1)
    return np.where(mean_P > 0, np.sqrt(mean_P), 1.0)


def scaled(piece: Piece, scale_P: Array) -> Piece:
    """The piece with its target in units of training; NeuroBOLT's chain has a scale of its own."""
    if piece.target.chain == "published":
        return piece
    return replace(piece, target_PN=piece.target_PN / scale_P[:, None])


def nuisance(piece: Piece) -> tuple[list[str], Array]:
    """Motion, and the mean of all parcels as the global signal, (N, M), through the chain of the target."""
    confounds = piece.scan.confounds
    chosen = [at for at, name in enumerate(confounds.names) if name.startswith(("trans_", "rot_")) and "_d" not in name]
    motion_VM = confounds.values_VM[:, chosen]
    moving = np.isfinite(motion_VM).all(axis=0) & (np.ptp(motion_VM, axis=0) > 0)
    columns_MN = [piece.filtered(motion_VM[piece.volumes_N][:, moving].astype(float).T)] if moving.any() else []
    names = [confounds.names[at] for at, moves in zip(chosen, moving, strict=True) if moves]
    global_N = np.nanmean(piece.target_PN, axis=0)
    return ["global_signal", *names], np.concatenate([global_N[None], *columns_MN]).T


def _in_band(series_KV: Array, target: TargetConfig, scan: Scan, kept_V: Array | None = None) -> Array:
    """Without trend, in the band that this many volumes can carry."""
    high_pass, low_pass, _ = usable_band(target, t_r=scan.t_r, n_volumes=series_KV.shape[1], file=scan.name)
    band: dict[str, Any] = {"high_pass": high_pass, "low_pass": low_pass}
    return clean_series(series_KV, t_r=scan.t_r, detrend=True, confounds_VM=None, kept_V=kept_V, **band)


def _published(bold_PV: Array, t_r: float) -> Array:
    """NeuroBOLT's chain (arXiv 2410.05341, its code): low-pass, mean and scale over the whole scan."""
    from scipy.signal import butter, filtfilt

    filled_P, result_PV = np.isfinite(bold_PV).all(axis=1), np.full(bold_PV.shape, np.nan)
    low_PV = filtfilt(*butter(5, PUBLISHED_LOW_PASS, fs=1 / t_r), bold_PV[filled_P].astype(float), axis=1)
    low_PV -= low_PV.mean(axis=1, keepdims=True)
    scale_P1 = np.quantile(np.abs(low_PV), PUBLISHED_QUANTILE, axis=1, keepdims=True)
    result_PV[filled_P] = low_PV / np.where(scale_P1 > 0, scale_P1, 1.0)
    return result_PV
