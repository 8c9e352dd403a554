from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuroloom.bold.cleaning import clean_parcels, percent_change
from neuroloom.bold.parcels import Parcellation, grid_parcels, make_parcellation, template_parcels
from neuroloom.bold.preprocess import preprocess_bold, preprocess_parcels
from neuroloom.bold.quality import BoldQc
from neuroloom.config import BoldConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Confounds, Events, ParcelSeries, Volumes

NOTHING = BoldConfig(realign="never", detrend=False, low_pass=None, high_pass=None, min_coverage=0)
NO_CONFOUNDS = Confounds.none(40)


@pytest.fixture
def masked(volumes: Volumes, brain_XYZ: np.ndarray) -> Volumes:
    return replace(
        volumes, mask_XYZ=brain_XYZ, notes=("read",), events=Events(np.array([1.0]), np.array([2.0]), ["go"])
    )


def halves(volumes: Volumes, space: str = "native") -> Parcellation:
    """`low` and `high` halves of the third axis, and `outside`, one voxel in a corner."""
    labels = np.ones(volumes.bold_XYZV.shape[:3], int)
    labels[:, :, 7:] = 2
    labels[0, 0, 0] = 3
    return make_parcellation(
        labels_XYZ=labels, affine_44=volumes.affine_44, names=["low", "high", "outside"], name="halves", space=space
    )


def run(
    volumes: Volumes, config: BoldConfig = NOTHING, atlas: Parcellation | None = None
) -> tuple[ParcelSeries, BoldQc]:
    return preprocess_bold(volumes=volumes, parcellation=atlas or halves(volumes), config=config)


def table(bold_PV: np.ndarray, **changes: Any) -> ParcelSeries:
    n_parcels, n_volumes = bold_PV.shape
    facts = {
        "bold_PV": bold_PV.astype(np.float32),
        "parcels": [f"p{index}" for index in range(n_parcels)],
        "centroid_P3": np.full((n_parcels, 3), np.nan),
        "n_voxels_P": np.zeros(n_parcels, int),
        "t_r": 2.0,
        "atlas": "table",
        "atlas_sha256": "0",
        "space": "unknown",
        "confounds": Confounds.none(n_volumes),
    }
    return ParcelSeries(**(facts | changes))


def test_parcels_are_means_in_percent_of_their_mean(masked: Volumes, brain_XYZ: np.ndarray) -> None:
    series, qc = run(masked)
    for index, name in enumerate(["low", "high"]):
        mean_V = masked.bold_XYZV[brain_XYZ & (halves(masked).labels_XYZ == index + 1)].astype(float).mean(axis=0)
        np.testing.assert_allclose(series.bold_PV[index], 100 * (mean_V / mean_V.mean() - 1), atol=1e-4)
        assert series.parcels[index] == name
    assert (qc.unit, qc.mask, qc.n_mask_voxels) == ("%", "given", brain_XYZ.sum())
    assert (series.atlas, series.atlas_sha256, series.space) == ("halves", halves(masked).sha256, "native")
    assert series.events.label == ["go"]
    assert series.bold_PV.dtype == np.float32


def test_an_empty_parcel_is_nan_with_a_reason(masked: Volumes) -> None:
    series, qc = run(masked)
    assert np.isnan(series.bold_PV[2]).all()
    assert not np.isnan(series.bold_PV[:2]).any()
    assert series.n_voxels_P.tolist()[2] == 0
    assert (qc.n_empty_parcels, qc.empty_parcels) == (1, ("outside (0 voxels)",))


def test_min_voxels_is_obeyed_at_its_edge(masked: Volumes) -> None:
    n_voxels = int(run(masked)[0].n_voxels_P[0])
    kept, _ = run(masked, replace_config(min_voxels=n_voxels))
    assert not np.isnan(kept.bold_PV[0]).any()
    with pytest.raises(UnusableRecording, match=rf"no parcel of halves has {n_voxels + 1000} voxels"):
        run(masked, replace_config(min_voxels=n_voxels + 1000))


def replace_config(**changes: Any) -> BoldConfig:
    return BoldConfig(**(NOTHING.model_dump() | changes))


def test_a_parcel_whose_mean_is_not_positive_is_nan_with_a_reason(masked: Volumes) -> None:
    atlas = grid_parcels(16, reference=masked)
    lost = atlas.labels_XYZ == 4
    bold_XYZV = np.where(lost[..., None], -masked.bold_XYZV, masked.bold_XYZV)
    series, qc = run(replace(masked, bold_XYZV=bold_XYZV), replace_config(min_voxels=1), atlas)
    assert np.isnan(series.bold_PV[3]).all()
    assert qc.empty_parcels == (f"{atlas.names[3]} (mean over time is not above zero)",)


def test_residuals_without_a_mean_keep_their_values(masked: Volumes, brain_XYZ: np.ndarray) -> None:
    bold_XYZV = masked.bold_XYZV - masked.bold_XYZV.mean(axis=3, keepdims=True)
    series, qc = run(replace(masked, bold_XYZV=bold_XYZV))
    expected_V = bold_XYZV[brain_XYZ & (halves(masked).labels_XYZ == 1)].mean(axis=0)
    np.testing.assert_allclose(series.bold_PV[0], expected_V, atol=1e-3)
    assert qc.unit == "as stored"
    assert np.isnan(qc.tsnr_median)
    assert any("came without its mean" in note for note in qc.notes)


def test_percent_change_leaves_zero_mean_alone() -> None:
    change_PV, unit = percent_change(np.array([[1.0, -1.0, 0.0], [2.0, -2.0, 0.5]]))
    assert unit == "as stored"
    np.testing.assert_array_equal(change_PV, [[1.0, -1.0, 0.0], [2.0, -2.0, 0.5]])


@pytest.mark.parametrize(("space", "atlas_space"), [("native", "MNI152"), ("MNI152NLin6Asym", "native")])
def test_atlas_and_series_must_share_a_space(masked: Volumes, space: str, atlas_space: str) -> None:
    with pytest.raises(UnusableRecording, match=f"in {space} space, the atlas halves in {atlas_space}") as caught:
        run(replace(masked, space=space), atlas=halves(masked, atlas_space))
    assert ("grid25" in caught.value.remedy) == (space == "native")


def test_too_few_volumes(masked: Volumes) -> None:
    with pytest.raises(UnusableRecording, match=r"40 volumes, preprocess\.bold.min_volumes is 41"):
        run(masked, replace_config(min_volumes=41))


def test_an_atlas_beside_the_series_is_refused(masked: Volumes) -> None:
    for shift in (-500, 500):
        affine_44 = masked.affine_44 + np.array([[0, 0, 0, shift]] * 3 + [[0, 0, 0, 0]])
        moved = make_parcellation(
            labels_XYZ=halves(masked).labels_XYZ, affine_44=affine_44, names=["a", "b", "c"], name="far", space="native"
        )
        with pytest.raises(UnusableRecording, match="no parcel of far has 3 voxels"):
            run(masked, atlas=moved)


def test_an_mni_atlas_on_an_mni_series(rng: np.random.Generator) -> None:
    affine_44 = np.array([[-6.0, 0, 0, 78], [0, 6, 0, -112], [0, 0, 6, -70], [0, 0, 0, 1]])
    atlas = template_parcels(8)
    bold_XYZV = (100 + rng.standard_normal((27, 34, 28, 20))).astype(np.float32)
    volumes = Volumes(bold_XYZV, affine_44, 2.0, "MNI152NLin2009cAsym", None, Confounds.none(20))
    # Each parcel carries its own wave, painted where nearest-voxel resampling must find it again.
    world = np.moveaxis(np.indices(bold_XYZV.shape[:3]), 0, -1) @ affine_44[:3, :3].T + affine_44[:3, 3]
    index = np.rint((world - atlas.affine_44[:3, 3]) / 4).astype(int)
    inside = ((index >= 0) & (index < atlas.labels_XYZ.shape)).all(axis=-1)
    labels = np.zeros(inside.shape, int)
    labels[inside] = atlas.labels_XYZ[tuple(index[inside].T)]
    waves_PV = np.sin(np.outer(np.arange(1, 9), np.arange(20)) / 3)
    bold_XYZV[labels > 0] += 10 * waves_PV[labels[labels > 0] - 1].astype(np.float32)
    series, qc = preprocess_bold(volumes=volumes, parcellation=atlas, config=NOTHING)
    for parcel in range(8):
        assert np.corrcoef(series.bold_PV[parcel], waves_PV[parcel])[0, 1] > 0.99
    assert (qc.mask, qc.n_empty_parcels) == ("MNI152 template", 0)
    np.testing.assert_allclose(series.centroid_P3, atlas.centroid_P3, rtol=1e-6)


def test_configured_confounds_are_regressed(masked: Volumes, rng: np.random.Generator) -> None:
    nuisance_V = rng.standard_normal(40)
    bold_XYZV = masked.bold_XYZV + (50 * nuisance_V).astype(np.float32)
    confounds = Confounds(["csf", "other"], np.stack([nuisance_V, rng.standard_normal(40)], axis=1).astype(np.float32))
    noisy = replace(masked, bold_XYZV=bold_XYZV, confounds=confounds)
    before, _ = run(noisy)
    after, qc = run(noisy, replace_config(confounds=("csf",)))
    assert abs(np.corrcoef(before.bold_PV[0], nuisance_V)[0, 1]) > 0.99
    assert abs(np.corrcoef(after.bold_PV[0], nuisance_V)[0, 1]) < 1e-4
    assert qc.n_confounds == 1
    assert after.confounds is confounds


def test_confounds_that_cannot_be_regressed(masked: Volumes) -> None:
    motion = Confounds(["trans_x"], np.random.default_rng(0).standard_normal((40, 1)))
    with pytest.raises(UnusableRecording, match="run7: no confound column begins with csf; columns: trans_x"):
        preprocess_bold(
            volumes=replace(masked, confounds=motion),
            parcellation=halves(masked),
            config=replace_config(confounds=("csf",)),
            file="run7",
        )
    many = Confounds([f"c{index}" for index in range(38)], np.random.default_rng(0).standard_normal((40, 38)))
    with pytest.raises(UnusableRecording, match="38 confounds leave no degree of freedom in 40 volumes"):
        run(replace(masked, confounds=many), replace_config(confounds=("c",)))


def test_without_a_table_no_confound_is_regressed_and_the_notes_say_so(masked: Volumes) -> None:
    series, qc = run(masked, replace_config(confounds=("trans_",)))
    assert qc.n_confounds == 0
    assert "no confounds were given: none regressed" in series.notes


def test_the_band_is_kept_and_the_rest_removed() -> None:
    time_V = np.arange(400) * 2.0
    slow, inside, fast = (np.sin(2 * np.pi * frequency * time_V) for frequency in (0.003, 0.05, 0.2))
    cleaned = clean_parcels(
        1000 + np.stack([slow, inside, fast]) + time_V * 0.01,
        t_r=2.0,
        confounds=Confounds.none(400),
        config=BoldConfig(low_pass=0.1, high_pass=0.008),
    )
    power_P = cleaned.bold_PV[:, 50:-50].std(axis=1) / (0.1 * inside.std())
    assert power_P[1] == pytest.approx(1, abs=0.05)
    assert power_P[0] < 0.1
    assert power_P[2] < 0.03


@pytest.mark.parametrize(
    ("t_r", "n_volumes", "cutoffs", "note"),
    [
        (5.0, 100, (0.008, None), "low_pass 0.1 Hz skipped: the Nyquist frequency is 0.1 Hz"),
        (2.0, 16, (None, 0.1), "high_pass 0.008 Hz skipped: 32 s are shorter than one period of it"),
        (2.0, 100, (0.008, 0.1), None),
    ],
)
def test_cutoffs_that_a_series_cannot_carry_are_left_out_and_noted(
    t_r: float, n_volumes: int, cutoffs: tuple[float | None, float | None], note: str | None, rng: np.random.Generator
) -> None:
    cleaned = clean_parcels(
        1000 + rng.standard_normal((3, n_volumes)), t_r=t_r, confounds=Confounds.none(n_volumes), config=BoldConfig()
    )
    assert (cleaned.high_pass, cleaned.low_pass) == cutoffs
    assert cleaned.notes == ((note,) if note else ())
    assert np.isfinite(cleaned.bold_PV).all()


def test_a_high_pass_above_nyquist_is_refused(masked: Volumes) -> None:
    with pytest.raises(UnusableRecording, match=r"high_pass 0\.3 Hz is not below the Nyquist frequency 0\.25 Hz"):
        run(masked, replace_config(high_pass=0.3))


def test_a_table_of_deviations_is_cleaned_in_its_unit(rng: np.random.Generator) -> None:
    bold_PV = rng.standard_normal((4, 60)) * 20
    bold_PV[2] = np.nan
    bold_PV[:2] -= bold_PV[:2].mean(axis=1, keepdims=True)
    series, qc = preprocess_parcels(series=table(bold_PV), config=NOTHING)
    np.testing.assert_allclose(series.bold_PV[:2], bold_PV[:2], atol=1e-4)
    assert (qc.unit, qc.n_mask_voxels, qc.n_nan) == ("as stored", 0, 1)
    assert qc.empty_parcels == ("p2 (no complete, changing series in the table)",)
    assert qc.carpet_parcel_X.tolist() == [0, 1, 3]


def test_a_table_with_means_becomes_percent(rng: np.random.Generator) -> None:
    bold_PV = 800 + rng.standard_normal((3, 60)) * 8
    series, qc = preprocess_parcels(series=table(bold_PV), config=NOTHING)
    np.testing.assert_allclose(series.bold_PV, 100 * (bold_PV / bold_PV.mean(axis=1, keepdims=True) - 1), atol=1e-3)
    assert qc.unit == "%"
    assert qc.tsnr_median == pytest.approx(100, rel=0.25)


def test_the_row_is_flat_and_complete(masked: Volumes) -> None:
    motion_VM = np.cumsum(np.full((40, 6), 0.01), axis=0)
    names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    _, qc = run(replace(masked, confounds=Confounds(names, motion_VM)))
    row = qc.row()
    frame = pd.DataFrame([row])
    assert len(frame) == 1
    assert all(isinstance(value, str | int | float) for value in row.values())
    assert (row["n_volumes"], row["t_r"], row["space"], row["atlas"]) == (40, 2.0, "native", "halves")
    assert row["notes"] == "read"
    assert row["empty_parcels"] == "outside (0 voxels)"
    assert row["fd_mean"] == pytest.approx(3 * 0.01 + 3 * 0.5)
    assert row["tsnr_median"] == pytest.approx(100, rel=0.1)
    assert np.isnan(row["low_pass"])


def test_without_motion_parameters_the_row_says_so(masked: Volumes) -> None:
    _, qc = run(masked)
    assert qc.fd_V is None
    assert np.isnan(qc.row()["fd_mean"])
    assert qc.notes == ("read", "no motion parameters: FD is not known")


def test_voxels_with_gaps_are_left_out_and_counted(masked: Volumes, brain_XYZ: np.ndarray) -> None:
    bold_XYZV = masked.bold_XYZV.copy()
    bold_XYZV[8, 9, 3] = np.nan
    _, qc = run(replace(masked, bold_XYZV=bold_XYZV))
    assert (qc.n_nan, qc.n_mask_voxels) == (1, brain_XYZ.sum() - 1)


def test_the_input_is_not_changed(masked: Volumes) -> None:
    before = masked.bold_XYZV.copy()
    run(masked, BoldConfig(min_coverage=0))
    np.testing.assert_array_equal(masked.bold_XYZV, before)
