"""From BOLD volumes to clean parcel series: mask, parcel means, percent change, trend, filter and confounds, QC."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neuroloom.bold.confounds import motion_displacement, select_confounds
from neuroloom.bold.masking import brain_mask
from neuroloom.bold.parcels import Parcellation
from neuroloom.bold.quality import BoldQc, carpet, mean_spectrum, standardised_dvars, temporal_snr
from neuroloom.config import BoldConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Confounds, ParcelSeries, Volumes

# The filter's default padding is up to 33 volumes; a shorter series has no more than itself to be padded with.
_FILTER_PADDING = 33


def preprocess_bold(
    *, volumes: Volumes, parcellation: Parcellation, config: BoldConfig, file: str = "BOLD volumes"
) -> tuple[ParcelSeries, BoldQc]:
    """Mask, parcellate and clean a 4-D series.

    The atlas is brought to the grid of the series (nearest voxel), a parcel is the mean of its voxels inside the brain
    mask, in percent of change from its mean over time; then trend, band-pass and confounds as in `clean_series`. All
    these steps are linear, so cleaning parcels equals cleaning voxels and averaging them.

    Parameters
    ----------
    volumes : Volumes
    parcellation : Parcellation
    config : BoldConfig
    file : str
        Named in errors.

    Returns
    -------
    series : ParcelSeries
        A parcel with fewer than `config.min_voxels` voxels is NaN; `n_voxels_P` says how many it has.
    qc : BoldQc

    Raises
    ------
    UnusableRecording
        Too few volumes, atlas and series in different spaces, no brain, no filled parcel, confounds that do not exist.
    """
    n_volumes = volumes.bold_XYZV.shape[3]
    _check_volumes(n_volumes, config, file)
    _check_space(volumes, parcellation, file)
    mask_XYZ, origin = brain_mask(volumes, file=file)
    parcel_X = labels_on_grid(parcellation, volumes)[mask_XYZ] - 1
    voxel_XV = volumes.bold_XYZV[mask_XYZ]
    means_PV, n_voxels_P = parcel_means(voxel_XV, parcel_X, len(parcellation.names))
    means_PV[n_voxels_P < config.min_voxels] = np.nan
    if np.isnan(means_PV).all():
        reason = f"no parcel of {parcellation.name} has {config.min_voxels} voxels inside the brain mask"
        raise UnusableRecording(file, reason, "Check the affine, take larger parcels, or lower min_voxels")
    cleaned = clean_parcels(means_PV, t_r=volumes.t_r, confounds=volumes.confounds, config=config, file=file)
    series = ParcelSeries(
        bold_PV=cleaned.bold_PV,
        parcels=list(parcellation.names),
        centroid_P3=parcellation.centroid_P3.astype(np.float32),
        n_voxels_P=n_voxels_P.astype(np.int32),
        t_r=volumes.t_r,
        atlas=parcellation.name,
        atlas_sha256=parcellation.sha256,
        space=volumes.space,
        confounds=volumes.confounds,
        events=volumes.events,
        unit=cleaned.unit,
        notes=(*volumes.notes, *cleaned.notes),
    )
    n_nan = int((~np.isfinite(volumes.bold_XYZV).all(axis=3)).sum())
    too_small = {at: f"{n_voxels_P[at]} voxels" for at in np.flatnonzero(n_voxels_P < config.min_voxels)}
    facts = {"mask": origin, "n_mask_voxels": len(voxel_XV), "n_nan": n_nan}
    facts |= {"empty_parcels": _empty_parcels(series, too_small)}
    return series, _quality(series, cleaned, voxel_XV, parcel_X, facts)


def preprocess_parcels(
    *, series: ParcelSeries, config: BoldConfig, file: str = "parcel table"
) -> tuple[ParcelSeries, BoldQc]:
    """Clean a series that came as a table of parcels; mask and atlas are its origin's.

    Parameters, return and errors are those of `preprocess_bold`. A table that holds deviations (its mean is not above
    its SD) keeps its values and their unit.
    """
    _check_volumes(series.bold_PV.shape[1], config, file)
    usable_P = np.isfinite(series.bold_PV).all(axis=1)
    cleaned = clean_parcels(
        np.where(usable_P[:, None], series.bold_PV, np.nan).astype(float),
        t_r=series.t_r,
        confounds=series.confounds,
        config=config,
        file=file,
    )
    result = replace(series, bold_PV=cleaned.bold_PV, unit=cleaned.unit, notes=(*series.notes, *cleaned.notes))
    lost = dict.fromkeys(np.flatnonzero(~usable_P), "no complete, changing series in the table")
    facts = {"mask": "of the table's origin", "n_mask_voxels": 0, "n_nan": len(lost)}
    facts |= {"empty_parcels": _empty_parcels(result, lost)}
    return result, _quality(result, cleaned, series.bold_PV[usable_P], np.flatnonzero(usable_P), facts)


def labels_on_grid(parcellation: Parcellation, volumes: Volumes) -> Array:
    """Labels (int32 XYZ) on the grid of the series, each voxel that of the nearest voxel of the atlas."""
    import nibabel
    from nilearn.image import resample_img
    from nilearn.image.resampling import BoundingBoxError

    shape = volumes.bold_XYZV.shape[:3]
    image = nibabel.Nifti1Image(np.array(parcellation.labels_XYZ), parcellation.affine_44)
    try:
        resampled = resample_img(
            image, target_affine=volumes.affine_44, target_shape=shape, interpolation="nearest", force_resample=False
        )
    except BoundingBoxError:
        return np.zeros(shape, np.int32)
    return np.asarray(resampled.dataobj).astype(np.int32)


def parcel_means(voxel_XV: Array, parcel_X: Array, n_parcels: int) -> tuple[Array, Array]:
    """Mean series of each parcel.

    Parameters
    ----------
    voxel_XV : array
        Voxels by volumes.
    parcel_X : int array
        Parcel of each voxel, from 0; -1 outside all.
    n_parcels : int

    Returns
    -------
    means_PV : float64 array
        NaN for a parcel without voxels.
    n_voxels_P : int array
    """
    from scipy.sparse import csr_array

    inside = np.flatnonzero(parcel_X >= 0)
    n_voxels_P = np.bincount(parcel_X[inside], minlength=n_parcels)
    membership = csr_array((np.ones(len(inside)), (parcel_X[inside], inside)), shape=(n_parcels, len(parcel_X)))
    return (membership @ voxel_XV) / np.where(n_voxels_P == 0, np.nan, n_voxels_P)[:, None], n_voxels_P


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
    means_PV: Array, *, t_r: float, confounds: Confounds, config: BoldConfig, file: str = "parcel series"
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
    file : str
        Named in errors.

    Raises
    ------
    UnusableRecording
        A confound that its table does not have or that has gaps, no degrees of freedom left, a high-pass above Nyquist.
    """
    change_PV, unit = percent_change(means_PV)
    given = bool(confounds.names)
    names, values_VM = select_confounds(confounds, config.confounds if given else (), file=file)
    if len(names) + 2 >= means_PV.shape[1]:
        reason = f"{len(names)} confounds leave no degree of freedom in {means_PV.shape[1]} volumes"
        raise UnusableRecording(file, reason, "Choose fewer in preprocess.bold.confounds")
    high_pass, low_pass, notes = _band(config, t_r=t_r, n_volumes=means_PV.shape[1], file=file)
    filled = ~np.isnan(change_PV).any(axis=1)
    bold_PV = np.full(change_PV.shape, np.nan, np.float32)
    bold_PV[filled] = clean_series(
        change_PV[filled],
        t_r=t_r,
        detrend=config.detrend,
        high_pass=high_pass,
        low_pass=low_pass,
        confounds_VM=values_VM if names else None,
    )
    if config.confounds and not given:
        notes.append("no confounds were given: none regressed")
    if unit != "%":
        notes.append("the series came without its mean: values are as stored, not percent")
    return Cleaned(bold_PV, change_PV, unit, high_pass, low_pass, len(names), tuple(notes))


def percent_change(means_PV: Array) -> tuple[Array, str]:
    """Deviation from the mean over time in percent of it, and the unit.

    Where the typical mean does not exceed the SD (residuals, z scores), percent has no meaning: the values stay as
    they are, and the unit is `as stored`.
    """
    mean_P, sd_P = means_PV.mean(axis=1), means_PV.std(axis=1)
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
) -> Array:
    """Trend, band-pass (Butterworth, order 5, forward and back) and confounds, by `nilearn.signal.clean`.

    nilearn detrends and filters signals and confounds alike before it projects the confounds out, so that the
    regression does not bring filtered frequencies back (Lindquist et al. 2019).

    Returns
    -------
    array (P, V)
        float64, in the unit of the input.
    """
    from nilearn.signal import clean

    n_volumes = series_PV.shape[1]
    padding: dict[str, Any] = {"butterworth__padlen": n_volumes - 1} if n_volumes <= _FILTER_PADDING else {}
    filtered = high_pass is not None or low_pass is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=DeprecationWarning)
        return clean(
            series_PV.T,
            t_r=t_r,
            detrend=detrend,
            standardize=None,
            filter="butterworth" if filtered else False,
            high_pass=high_pass,
            low_pass=low_pass,
            confounds=confounds_VM,
            **(padding if filtered else {}),
        ).T


def _band(config: BoldConfig, *, t_r: float, n_volumes: int, file: str) -> tuple[float | None, float | None, list[str]]:
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


def _check_volumes(n_volumes: int, config: BoldConfig, file: str) -> None:
    if n_volumes < config.min_volumes:
        reason = f"{n_volumes} volumes, preprocess.bold.min_volumes is {config.min_volumes}"
        raise UnusableRecording(file, reason, "Bring the whole series, or lower preprocess.bold.min_volumes")


def _check_space(volumes: Volumes, parcellation: Parcellation, file: str) -> None:
    if parcellation.space.startswith("MNI") == volumes.space.startswith("MNI"):
        return
    reason = f"the series is in {volumes.space} space, the atlas {parcellation.name} in {parcellation.space} space"
    if parcellation.space.startswith("MNI"):
        remedy = "Give fMRIPrep output in an MNI space, or set sources.<study>.atlas: grid25 (or a native label image)"
    else:
        remedy = "Name the label image space-MNI..., or take an atlas in MNI space"
    raise UnusableRecording(file, reason, remedy)


def _empty_parcels(series: ParcelSeries, reasons: dict[Any, str]) -> tuple[str, ...]:
    """Name and reason of each parcel that is NaN."""
    lost = np.flatnonzero(np.isnan(series.bold_PV).all(axis=1))
    return tuple(f"{series.parcels[at]} ({reasons.get(at, 'mean over time is not above zero')})" for at in lost)


def _quality(series: ParcelSeries, cleaned: Cleaned, voxel_XV: Array, parcel_X: Array, facts: dict[str, Any]) -> BoldQc:
    """QC of a series from its voxels (of a table: its parcels), whose parcel is -1 outside all."""
    fd_V = motion_displacement(series.confounds)
    fd_mean, fd_max = (np.nan, np.nan) if fd_V is None else _mean_and_max(fd_V)
    unknown = ("no motion parameters: FD is not known",) if np.isnan(fd_mean) else ()
    dvars_V = standardised_dvars(voxel_XV)
    dvars_mean, dvars_max = _mean_and_max(dvars_V)
    carpet_XV, carpet_parcel_X = carpet(voxel_XV, parcel_X)
    frequency_F, psd_before_F = mean_spectrum(cleaned.change_PV, series.t_r)
    return BoldQc(
        n_volumes=series.bold_PV.shape[1],
        t_r=series.t_r,
        space=series.space,
        atlas=series.atlas,
        unit=cleaned.unit,
        n_parcels=len(series.parcels),
        n_empty_parcels=len(facts["empty_parcels"]),
        tsnr_median=temporal_snr(voxel_XV) if cleaned.unit == "%" else np.nan,
        fd_mean=fd_mean,
        fd_max=fd_max,
        dvars_mean=dvars_mean,
        dvars_max=dvars_max,
        n_confounds=cleaned.n_confounds,
        high_pass=np.nan if cleaned.high_pass is None else cleaned.high_pass,
        low_pass=np.nan if cleaned.low_pass is None else cleaned.low_pass,
        notes=(*series.notes, *unknown),
        fd_V=fd_V,
        dvars_V=dvars_V,
        carpet_XV=carpet_XV,
        carpet_parcel_X=carpet_parcel_X,
        frequency_F=frequency_F,
        psd_before_F=psd_before_F,
        psd_after_F=mean_spectrum(series.bold_PV, series.t_r)[1],
        **facts,
    )


def _mean_and_max(trace_V: Array) -> tuple[float, float]:
    """Without the volumes that are NaN; NaN where all are."""
    known = trace_V[np.isfinite(trace_V)]
    return (float(known.mean()), float(known.max())) if len(known) else (np.nan, np.nan)
