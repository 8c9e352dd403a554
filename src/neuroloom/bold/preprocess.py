"""From BOLD volumes to clean parcel series: preparation, mask, parcel means, censoring, cleaning, QC."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neuroloom.bold.cleaning import Cleaned, clean_parcels, usable_band
from neuroloom.bold.compcor import add_nuisance
from neuroloom.bold.confounds import has_motion, motion_displacement
from neuroloom.bold.masking import brain_mask
from neuroloom.bold.parcels import Parcellation
from neuroloom.bold.preparation import Prepared, prepare_volumes
from neuroloom.bold.quality import BoldQc, carpet, mean_spectrum, standardised_dvars, temporal_snr
from neuroloom.bold.scrubbing import censored_volumes, kept_volumes, with_censored
from neuroloom.config import BoldConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Confounds, ParcelSeries, Volumes


def preprocess_bold(
    *, volumes: Volumes, parcellation: Parcellation, config: BoldConfig, file: str = "BOLD volumes"
) -> tuple[ParcelSeries, BoldQc]:
    """Realign, mask, parcellate and clean a 4-D series.

    After the steps of `prepare_volumes`, the atlas is brought to the grid of the series (nearest voxel), a parcel is
    the mean of its voxels inside the brain mask, in percent of change from its mean over time; then censoring, trend,
    band-pass and confounds as in `clean_series`. Without censoring all these are linear, so cleaning parcels equals
    cleaning voxels and averaging them.

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
        A parcel with fewer than `config.min_voxels` voxels, or of which less than `config.min_coverage` was measured,
        is NaN. All volumes are there; the confound `censored` marks those that do not count (`kept_volumes`).
    qc : BoldQc

    Raises
    ------
    UnusableRecording
        Too few volumes, too much motion, atlas and series in different spaces, no brain, no filled parcel, confounds
        that do not exist.
    """
    _check_volumes(volumes.bold_XYZV.shape[3], config, file)
    _check_space(volumes, parcellation, file)
    prepared = prepare_volumes(volumes, config=config, file=file)
    n_nan = int((~np.isfinite(volumes.bold_XYZV).all(axis=3)).sum())
    given, volumes = bool(volumes.confounds.names), prepared.volumes
    mask_XYZ, origin = brain_mask(volumes, file=file)
    means_PV, n_voxels_P, coverage_P, voxel_XV, parcel_X = _parcellate(volumes, parcellation, mask_XYZ)
    reasons = _too_little(n_voxels_P, coverage_P, config)
    means_PV[list(reasons)] = np.nan
    if np.isnan(means_PV).all():
        reason = f"no parcel of {parcellation.name} has {config.min_voxels} voxels inside the brain mask"
        reason += f" and a coverage of {config.min_coverage:.0%}"
        raise UnusableRecording(file, reason, "Check the affine, take larger parcels, or lower min_voxels")
    high_pass, _, _ = usable_band(config, t_r=volumes.t_r, n_volumes=means_PV.shape[1], file=file)
    confounds, nuisance_notes = add_nuisance(
        volumes, mask_XYZ, prefixes=config.confounds, n_components=config.n_comp_cor, high_pass=high_pass
    )
    chosen, lacking = _choose(config, confounds, given=given)
    cleaned, confounds, censor_notes = _clean(means_PV, confounds, volumes.t_r, chosen, file)
    series = ParcelSeries(
        bold_PV=cleaned.bold_PV,
        parcels=list(parcellation.names),
        centroid_P3=parcellation.centroid_P3.astype(np.float32),
        n_voxels_P=n_voxels_P.astype(np.int32),
        t_r=volumes.t_r,
        atlas=parcellation.name,
        atlas_sha256=parcellation.sha256,
        space=volumes.space,
        confounds=confounds,
        events=volumes.events,
        unit=cleaned.unit,
        notes=(*volumes.notes, *nuisance_notes, *lacking, *censor_notes, *cleaned.notes),
        coverage_P=coverage_P.astype(np.float32),
        start_time=prepared.start_time,
        change_PV=cleaned.change_PV.astype(np.float32),
    )
    facts = {"mask": origin, "n_mask_voxels": len(voxel_XV), "n_nan": n_nan, **_steps(prepared)}
    facts |= {"coverage_min": float(coverage_P.min()), "empty_parcels": _empty_parcels(series, reasons)}
    return series, _quality(series, cleaned, voxel_XV, parcel_X, facts)


def preprocess_parcels(
    *, series: ParcelSeries, config: BoldConfig, file: str = "parcel table"
) -> tuple[ParcelSeries, BoldQc]:
    """Clean a series that came as a table of parcels; mask, atlas, realignment and slice timing are its origin's.

    Parameters, return and errors are those of `preprocess_bold`. A table that holds deviations (its mean is not above
    its SD) keeps its values and their unit.
    """
    _check_volumes(series.bold_PV.shape[1], config, file)
    usable_P = np.isfinite(series.bold_PV).all(axis=1)
    means_PV = np.where(usable_P[:, None], series.bold_PV, np.nan).astype(float)
    cleaned, confounds, notes = _clean(means_PV, series.confounds, series.t_r, config, file)
    result = replace(
        series,
        bold_PV=cleaned.bold_PV,
        unit=cleaned.unit,
        confounds=confounds,
        notes=(*series.notes, *notes, *cleaned.notes),
        change_PV=cleaned.change_PV.astype(np.float32),
    )
    lost = dict.fromkeys(np.flatnonzero(~usable_P).tolist(), "no complete, changing series in the table")
    motion = "given" if has_motion(series.confounds) else "unknown"
    facts = {"mask": "of the table's origin", "n_mask_voxels": 0, "n_nan": len(lost), "motion": motion}
    facts |= {"slice_timing": "none", "smooth_mm": np.nan, "coverage_min": np.nan}
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


def parcel_coverage(parcellation: Parcellation, mask_XYZ: Array, affine_44: Array) -> Array:
    """Share of each parcel's atlas voxels whose middle lies in a voxel of the mask, (P,); 0 for a parcel without any.

    Parameters
    ----------
    parcellation : Parcellation
    mask_XYZ : bool array
        Voxels of the series that were measured and are brain.
    affine_44 : array
        Of the series.
    """
    voxel_X3 = np.argwhere(parcellation.labels_XYZ > 0)
    parcel_X = parcellation.labels_XYZ[tuple(voxel_X3.T)] - 1
    to_series_44 = np.linalg.inv(affine_44) @ parcellation.affine_44
    index_X3 = np.rint(voxel_X3 @ to_series_44[:3, :3].T + to_series_44[:3, 3]).astype(int)
    inside_X = ((index_X3 >= 0) & (index_X3 < mask_XYZ.shape)).all(axis=1)
    inside_X[inside_X] = mask_XYZ[tuple(index_X3[inside_X].T)]
    count_P, found_P = (
        np.bincount(parcel_X, weights=weight_X, minlength=len(parcellation.names)) for weight_X in (None, inside_X)
    )
    return found_P / np.maximum(count_P, 1)


def _parcellate(
    volumes: Volumes, parcellation: Parcellation, mask_XYZ: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Means (P, V), voxels (P,) and coverage (P,) of parcels; series (X, V) and parcel (X,) of the voxels."""
    parcel_X = labels_on_grid(parcellation, volumes)[mask_XYZ] - 1
    voxel_XV = volumes.bold_XYZV[mask_XYZ]
    means_PV, n_voxels_P = parcel_means(voxel_XV, parcel_X, len(parcellation.names))
    return means_PV, n_voxels_P, parcel_coverage(parcellation, mask_XYZ, volumes.affine_44), voxel_XV, parcel_X


def _too_little(n_voxels_P: Array, coverage_P: Array, config: BoldConfig) -> dict[int, str]:
    """Parcels that cannot be trusted, with the reason."""
    few = {at: f"{n_voxels_P[at]} voxels" for at in np.flatnonzero(n_voxels_P < config.min_voxels).tolist()}
    cut = np.flatnonzero(coverage_P < config.min_coverage).tolist()
    return {at: f"{coverage_P[at]:.0%} of it measured, {n_voxels_P[at]} voxels" for at in cut} | few


def _choose(config: BoldConfig, confounds: Confounds, *, given: bool) -> tuple[BoldConfig, list[str]]:
    """Config whose confounds exist. A table that lacks one is refused later; a series without a table does without."""
    if given:
        return config, []
    found = tuple(prefix for prefix in config.confounds if any(name.startswith(prefix) for name in confounds.names))
    lost = [prefix for prefix in config.confounds if prefix not in found]
    if not found and lost:
        return config.model_copy(update={"confounds": ()}), ["no confounds were given: none regressed"]
    notes = [f"no confounds were given: {', '.join(lost)} not regressed"] if lost else []
    return config.model_copy(update={"confounds": found}), notes


def _clean(
    means_PV: Array, confounds: Confounds, t_r: float, config: BoldConfig, file: str
) -> tuple[Cleaned, Confounds, list[str]]:
    """Clean without the censored volumes, which the confounds then mark."""
    censored_V, notes = censored_volumes(confounds, config=config, file=file)
    cleaned = clean_parcels(means_PV, t_r=t_r, confounds=confounds, config=config, censored_V=censored_V, file=file)
    return cleaned, with_censored(confounds, censored_V) if censored_V.any() else confounds, notes


def _steps(prepared: Prepared) -> dict[str, Any]:
    return {name: getattr(prepared, name) for name in ("motion", "slice_timing", "smooth_mm")}


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
        n_censored=int((~kept_volumes(series.confounds)).sum()),
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
