"""What is worth knowing about a BOLD series before anyone trusts it: one QC row, and the arrays of its figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroloom.records import Array

CARPET_ROWS = 600


@dataclass(frozen=True)
class BoldQc:
    """Quality of one BOLD recording.

    Attributes
    ----------
    n_volumes, t_r, space, atlas
        Of the series; t_r in s.
    unit : str
        Of the parcel series: `%` (change from the parcel's mean) or `as stored` (a series that came without its mean).
    n_parcels, n_empty_parcels, empty_parcels
        Parcels that are NaN, with names and reasons.
    n_mask_voxels, mask
        Voxels used, and where the mask is from; 0 for a table.
    n_nan : int
        Voxels (of a table: parcels) with values that are not finite.
    tsnr_median : float
        Median over voxels of mean over SD after a linear detrend; NaN for a series without its mean.
    fd_mean, fd_max : float
        Framewise displacement (Power et al. 2012), mm; NaN without motion parameters, as `notes` say.
    dvars_mean, dvars_max : float
        Standardised DVARS, see `standardised_dvars`.
    motion : str
        `given` with the series, `estimated` here (and the series realigned) or `unknown`.
    slice_timing : str
        Moment of the repetition time that slices were brought to, `start` or `middle`; `none` where they were not.
    smooth_mm : float
        FWHM; NaN where not smoothed.
    coverage_min : float
        Share of the least covered parcel that was measured; NaN for a table.
    n_confounds : int
        Confounds regressed out.
    n_censored : int
        Volumes that moved too far to count.
    high_pass, low_pass : float
        Applied, Hz; NaN where none.
    notes : tuple of str
        Everything that was ignored, skipped or changed.
    fd_V, dvars_V : arrays
        Traces; first volume NaN. `fd_V` is None without motion parameters.
    carpet_XV : float32 array
        z scores of voxels (or parcels) after a linear detrend, sorted by parcel, at most `CARPET_ROWS`.
    carpet_parcel_X : int array
        Parcel of each row, from 0.
    frequency_F, psd_before_F, psd_after_F : arrays
        Hz; mean over parcels of the power spectral density before and after cleaning, unit²/Hz.
    """

    n_volumes: int
    t_r: float
    space: str
    atlas: str
    unit: str
    n_parcels: int
    n_empty_parcels: int
    empty_parcels: tuple[str, ...]
    n_mask_voxels: int
    mask: str
    n_nan: int
    tsnr_median: float
    fd_mean: float
    fd_max: float
    dvars_mean: float
    dvars_max: float
    motion: str
    slice_timing: str
    smooth_mm: float
    coverage_min: float
    n_confounds: int
    n_censored: int
    high_pass: float
    low_pass: float
    notes: tuple[str, ...]
    fd_V: Array | None
    dvars_V: Array
    carpet_XV: Array
    carpet_parcel_X: Array
    frequency_F: Array
    psd_before_F: Array
    psd_after_F: Array

    def row(self) -> dict[str, Any]:
        """The scalars, one row of the QC table; texts are joined with `; `."""
        arrays = ("fd_V", "dvars_V", "carpet_XV", "carpet_parcel_X", "frequency_F", "psd_before_F", "psd_after_F")
        values = {name: value for name, value in vars(self).items() if name not in arrays}
        return {name: "; ".join(value) if isinstance(value, tuple) else value for name, value in values.items()}


def linear_detrended(series_XV: Array) -> Array:
    """Each row less its least-squares line, float32."""
    n_volumes = series_XV.shape[1]
    line_V = (np.arange(n_volumes) - (n_volumes - 1) / 2).astype(np.float32)
    centred_XV = series_XV - series_XV.mean(axis=1, keepdims=True)
    slope_X = centred_XV @ line_V / (line_V @ line_V)
    return (centred_XV - slope_X[:, None] * line_V).astype(np.float32)


def temporal_snr(series_XV: Array) -> float:
    """Median over rows of the mean over the SD that is left after a linear detrend; NaN where nothing is left."""
    sd_X = linear_detrended(series_XV).std(axis=1, dtype=np.float64)
    kept = sd_X > 0
    return float(np.median(series_XV.mean(axis=1, dtype=np.float64)[kept] / sd_X[kept])) if kept.any() else np.nan


def standardised_dvars(series_XV: Array) -> Array:
    """Standardised DVARS (Nichols, arXiv:1704.01469): 1 where a volume changes as much as is usual.

    The root mean square over voxels of the change from the volume before, divided by what it would be if each voxel
    had only its usual changes; their SD is the interquartile range of a voxel's changes over 1.349, which head
    movements do not inflate.

    Parameters
    ----------
    series_XV : array
        Voxels by volumes, any unit.

    Returns
    -------
    array (V,)
        The first is NaN; all NaN where no voxel has usual changes.
    """
    change_XV = np.diff(series_XV.astype(np.float32), axis=1)
    low_X, high_X = np.percentile(change_XV, [25, 75], axis=1)
    usual = np.sqrt(np.mean(((high_X - low_X) / 1.349) ** 2))
    rms_V = np.sqrt(np.mean(np.square(change_XV, dtype=np.float64), axis=0))
    return np.concatenate([[np.nan], rms_V / usual if usual > 0 else np.full(len(rms_V), np.nan)])


def carpet(series_XV: Array, parcel_X: Array) -> tuple[Array, Array]:
    """Detrended z scores of rows inside parcels, sorted by parcel and thinned to `CARPET_ROWS`, and their parcels."""
    inside = np.flatnonzero(parcel_X >= 0)
    order = inside[np.argsort(parcel_X[inside], kind="stable")]
    rows = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), CARPET_ROWS)).astype(int))]
    chosen_XV = linear_detrended(series_XV[rows])
    sd_X = chosen_XV.std(axis=1, keepdims=True)
    return (chosen_XV / np.where(sd_X > 0, sd_X, 1)).astype(np.float32), parcel_X[rows]


def mean_spectrum(series_PV: Array, t_r: float) -> tuple[Array, Array]:
    """Frequencies (Hz) and power spectral density, mean over the parcels that are not NaN (Welch, 128 volumes)."""
    from scipy.signal import welch

    kept_PV = series_PV[~np.isnan(series_PV).any(axis=1)]
    frequency_F, psd_PF = welch(kept_PV, fs=1 / t_r, nperseg=min(128, series_PV.shape[1]), detrend="linear")
    return frequency_F, psd_PF.mean(axis=0)
