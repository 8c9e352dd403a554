"""Clean parcel series: percent change, linear trend, band-pass and confounds, with censored volumes left out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from neuroloom.bold.confounds import select_confounds
from neuroloom.config import BoldConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Confounds

# The filter's default padding is up to 33 volumes; a shorter series has no more than itself to be padded with.
_FILTER_PADDING = 33


@dataclass(frozen=True)
class Cleaned:
    """Parcel series before (`change_PV`) and after (`bold_PV`) cleaning, and what was done."""

    bold_PV: Array
    change_PV: Array
    unit: str
    high_pass: float | None
    low_pass: float | None
    n_confounds: int
    notes: tuple[str, ...]


def clean_parcels(
    means_PV: Array,
    *,
    t_r: float,
    confounds: Confounds,
    config: BoldConfig,
    censored_V: Array | None = None,
    file: str = "parcel series",
) -> Cleaned:
    """Percent change, linear trend, band-pass and confounds of parcel means; NaN parcels stay NaN.

    Parameters
    ----------
    means_PV : float64 array
        Parcel means; NaN rows are empty parcels.
    t_r : float
        s.
    confounds : Confounds
        `config.confounds` chooses the columns.
    config : BoldConfig
    censored_V : bool array, optional
        Volumes that must not count: see `clean_series`.
    file : str
        Named in errors.

    Raises
    ------
    UnusableRecording
        A confound that its table does not have or that has gaps, no degrees of freedom left, a high-pass above Nyquist.
    """
    kept_V = np.ones(means_PV.shape[1], bool) if censored_V is None else ~censored_V
    change_PV, unit = percent_change(means_PV, kept_V)
    given = bool(confounds.names)
    names, values_VM = select_confounds(confounds, config.confounds if given else (), file=file)
    if len(names) + 2 >= kept_V.sum():
        reason = f"{len(names)} confounds leave no degree of freedom in {kept_V.sum()} volumes"
        raise UnusableRecording(file, reason, "Choose fewer in preprocess.bold.confounds")
    high_pass, low_pass, notes = usable_band(config, t_r=t_r, n_volumes=means_PV.shape[1], file=file)
    filled = ~np.isnan(change_PV).any(axis=1)
    bold_PV = np.full(change_PV.shape, np.nan, np.float32)
    bold_PV[filled] = clean_series(
        change_PV[filled],
        t_r=t_r,
        detrend=config.detrend,
        high_pass=high_pass,
        low_pass=low_pass,
        confounds_VM=values_VM if names else None,
        kept_V=kept_V,
    )
    if config.confounds and not given:
        notes.append("no confounds were given: none regressed")
    if unit != "%":
        notes.append("the series came without its mean: values are as stored, not percent")
    return Cleaned(bold_PV, change_PV, unit, high_pass, low_pass, len(names), tuple(notes))


def percent_change(means_PV: Array, kept_V: Array | None = None) -> tuple[Array, str]:
    """Deviation from the mean over time (over the volumes kept) in percent of it, and the unit.

    Where the typical mean does not exceed the SD (residuals, z scores), percent has no meaning: the values stay as
    they are, and the unit is `as stored`.
    """
    counted_PV = means_PV if kept_V is None else means_PV[:, kept_V]
    mean_P, sd_P = counted_PV.mean(axis=1), counted_PV.std(axis=1)
    if not np.nanmedian(mean_P / np.where(sd_P > 0, sd_P, np.nan)) > 1:
        return means_PV, "as stored"
    return 100 * (means_PV / np.where(mean_P > 0, mean_P, np.nan)[:, None] - 1), "%"


def clean_series(
    series_PV: Array,
    *,
    t_r: float,
    detrend: bool,
    high_pass: float | None,
    low_pass: float | None,
    confounds_VM: Array | None,
    kept_V: Array | None = None,
) -> Array:
    """Trend, band-pass (Butterworth, order 5, forward and back) and confounds, by `nilearn.signal.clean`.

    nilearn detrends and filters signals and confounds alike before it projects the confounds out, so that the
    regression does not bring filtered frequencies back (Lindquist et al. 2019). Censored volumes are replaced by a
    cubic spline before the filter, so that a jump does not ring, and left out of the regression (Power et al. 2014,
    NeuroImage 84, 320); the result has a straight line between their neighbours in their place.

    Parameters
    ----------
    kept_V : bool array, optional
        False at censored volumes.

    Returns
    -------
    array (P, V)
        float64, in the unit of the input.
    """
    from nilearn.signal import clean

    kept = np.arange(series_PV.shape[1]) if kept_V is None else np.flatnonzero(kept_V)
    censors = len(kept) < series_PV.shape[1]
    length = int(kept[-1] - kept[0]) + 1  # nilearn leaves censored volumes at the ends out of the filter
    together: dict[str, Any] = {"butterworth__copy": True}  # all series in one call, which takes a fifth of the time
    if length <= _FILTER_PADDING:
        together["butterworth__padlen"] = length - 1
    filtered = high_pass is not None or low_pass is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=DeprecationWarning)
        clean_VP = clean(
            series_PV.T,
            t_r=t_r,
            detrend=detrend,
            standardize=None,
            filter="butterworth" if filtered else False,
            high_pass=high_pass,
            low_pass=low_pass,
            confounds=confounds_VM,
            sample_mask=kept if censors else None,
            **(together if filtered else {}),
        )
    return _bridged(clean_VP.T, kept, series_PV.shape[1]) if censors else clean_VP.T


def _bridged(kept_PV: Array, kept: Array, n_volumes: int) -> Array:
    """All volumes again: straight lines between the kept ones, the nearest kept value at the ends."""
    return np.stack([np.interp(np.arange(n_volumes), kept, series_V) for series_V in kept_PV])


class Band(Protocol):
    """Settings that have the two cut-offs, Hz; None for one that is not wanted."""

    @property
    def high_pass(self) -> float | None:
        """Slower is taken out."""
        ...

    @property
    def low_pass(self) -> float | None:
        """Faster is taken out."""
        ...


def usable_band(config: Band, *, t_r: float, n_volumes: int, file: str) -> tuple[float | None, float | None, list[str]]:
    """The cut-offs that this series can carry, Hz, and why one was left out."""
    nyquist, slowest, notes = 0.5 / t_r, 1 / (n_volumes * t_r), []
    high_pass, low_pass = config.high_pass, config.low_pass
    if high_pass is not None and high_pass >= nyquist:
        reason = f"high_pass {high_pass:g} Hz is not below the Nyquist frequency {nyquist:g} Hz (TR {t_r:g} s)"
        raise UnusableRecording(file, reason, "Lower preprocess.bold.high_pass")
    if low_pass is not None and low_pass >= nyquist:
        notes.append(f"low_pass {low_pass:g} Hz skipped: the Nyquist frequency is {nyquist:g} Hz")
        low_pass = None
    if high_pass is not None and high_pass < slowest:
        notes.append(f"high_pass {high_pass:g} Hz skipped: {n_volumes * t_r:g} s are shorter than one period of it")
        high_pass = None
    return high_pass, low_pass, notes
