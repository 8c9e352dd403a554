"""Real BOLD: ds005 (native, old confounds), Haxby runs (coarse voxels, one slice) and ABIDE parcel tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.bold.confounds import framewise_displacement
from neuroloom.bold.parcels import load_atlas
from neuroloom.bold.preprocess import preprocess_bold, preprocess_parcels
from neuroloom.bold.reading import bold_source_files, read_bold
from neuroloom.bold.realign import estimate_motion
from neuroloom.config import BoldConfig, SourceConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Confounds, ParcelSeries, Volumes

NOTHING = SourceConfig()
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


def existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture
def ds005(real_data: Path) -> Path:
    folder = real_data / "fmri_bold_small" / "pybids_ds005_truncated"
    return existing(folder / "sub-01_task-mixedgamblestask_run-01_bold.nii.gz")


@pytest.fixture
def haxby(real_data: Path) -> Path:
    return existing(real_data / "fmri_bold_small" / "pymvpa_haxby2001" / "sub001" / "BOLD")


@pytest.fixture
def abide(real_data: Path) -> Path:
    return existing(real_data / "abide_cc200")


def volumes_of(path: Path) -> Volumes:
    volumes = read_bold(path, source=NOTHING)
    assert isinstance(volumes, Volumes)
    return volumes


def test_ds005_is_native_with_old_confounds_and_a_foreign_mask(ds005: Path) -> None:
    volumes = volumes_of(ds005)
    assert (volumes.bold_XYZV.shape, volumes.t_r, volumes.space) == ((50, 50, 34, 16), 2.0, "native")
    assert volumes.mask_XYZ is None
    assert "its grid (49 x 58 x 49) is not the grid of the series" in volumes.notes[0]
    assert volumes.confounds.names[-6:] == MOTION
    assert volumes.confounds.values_VM.shape == (16, 26)
    assert len(volumes.events.onset) == 86
    assert len(bold_source_files(ds005)) == 4


def test_ds005_refuses_a_template_atlas_and_takes_a_grid(ds005: Path, tmp_path: Path) -> None:
    volumes = volumes_of(ds005)
    config = BoldConfig(confounds=("trans", "rot"))
    with pytest.raises(UnusableRecording, match="native space, the atlas template64 in MNI152") as caught:
        preprocess_bold(volumes=volumes, parcellation=load_atlas("template64"), config=config)
    assert "grid25" in caught.value.remedy
    series, qc = preprocess_bold(volumes=volumes, parcellation=load_atlas("grid25", reference=volumes), config=config)
    assert qc.n_confounds == 6
    assert 15_000 < qc.n_mask_voxels < 20_000
    assert 60 < qc.tsnr_median < 140
    assert qc.fd_max < 0.2
    filled_PV = series.bold_PV[series.n_voxels_P >= 3]
    assert np.isfinite(filled_PV).all()
    assert 0.02 < filled_PV.std() < 2  # percent
    store = tmp_path / "bold.zarr"
    write_artifact(store, "bold", arrays=series.arrays(), attrs=series.attrs())
    back = ParcelSeries.from_artifact(open_artifact(store, "bold"))
    np.testing.assert_array_equal(back.bold_PV, series.bold_PV)
    np.testing.assert_array_equal(back.coverage_P, series.coverage_P)
    assert series.coverage_P is not None
    assert series.coverage_P.max() <= 1
    assert (back.notes, back.parcels, back.atlas_sha256) == (series.notes, series.parcels, series.atlas_sha256)


def test_our_motion_of_ds005_is_that_of_fmriprep_in_its_own_signs(ds005: Path) -> None:
    """16 volumes that move by a tenth of a millimetre; MCFLIRT counts from the moved to the reference."""
    volumes = volumes_of(ds005)
    motion_V6, n_lost = estimate_motion(np.nan_to_num(volumes.bold_XYZV), volumes.affine_44)
    assert n_lost == 0
    up_V = volumes.confounds.values_VM[:, volumes.confounds.names.index("trans_z")]
    assert np.corrcoef(motion_V6[:, 2], up_V)[0, 1] < -0.9
    assert np.nanmean(framewise_displacement(motion_V6)) < 0.15


def test_ds005_without_its_table_is_realigned_and_says_so(ds005: Path) -> None:
    volumes = replace(volumes_of(ds005), confounds=Confounds.none(16))
    _, qc = preprocess_bold(
        volumes=volumes, parcellation=load_atlas("grid25", reference=volumes), config=BoldConfig(confounds=("trans_",))
    )
    assert (qc.motion, qc.n_confounds, qc.slice_timing) == ("estimated", 3, "none")
    assert 0 < qc.fd_mean < 0.15


@pytest.mark.parametrize(("name", "atlas", "n_voxels"), [("bold_25mm", "grid50", 84), ("bold_1slice", "grid25", 530)])
def test_haxby_runs(haxby: Path, name: str, atlas: str, n_voxels: int) -> None:
    paths = sorted(haxby.glob(f"task001_run*/{name}.nii.gz"))
    assert len(paths) == 8
    volumes = volumes_of(paths[0])
    assert (volumes.bold_XYZV.shape[3], volumes.t_r, volumes.space, volumes.notes) == (121, 2.5, "native", ())
    _, qc = preprocess_bold(volumes=volumes, parcellation=load_atlas(atlas, reference=volumes), config=BoldConfig())
    assert qc.n_mask_voxels == n_voxels
    assert qc.n_empty_parcels < qc.n_parcels
    assert np.isnan(qc.fd_mean)
    assert "no motion parameters: FD is not known" in qc.notes
    assert any(note.startswith("not realigned: ") for note in qc.notes)
    assert 100 < qc.tsnr_median < 250


@pytest.mark.parametrize(("site", "t_r", "n_volumes"), [("NYU", 2.0, 176), ("KKI", 2.5, None), ("UCLA_1", 3.0, None)])
def test_abide_tables(abide: Path, site: str, t_r: float, n_volumes: int | None) -> None:
    paths = sorted(abide.glob(f"{site}_*.1D"))
    assert paths
    with pytest.raises(UnusableRecording, match="no repetition time"):
        read_bold(paths[0], source=NOTHING)
    for path in paths:
        series = read_bold(path, source=SourceConfig(t_r=t_r))
        assert isinstance(series, ParcelSeries)
        assert series.bold_PV.shape[0] == 200
        assert n_volumes in (None, series.bold_PV.shape[1])
    cleaned, qc = preprocess_parcels(series=series, config=BoldConfig())
    assert qc.unit == "as stored"
    assert qc.n_empty_parcels == int(np.isnan(series.bold_PV).all(axis=1).sum())
    # The tables come band-passed, so cleaning must leave most of them.
    kept = np.isfinite(cleaned.bold_PV).all(axis=1)
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(cleaned.bold_PV[kept], series.bold_PV[kept], strict=True)]
    assert np.median(correlation) > 0.8


def test_notes_of_reading_survive_the_store_and_a_job(ds005: Path, tmp_path: Path) -> None:
    volumes = volumes_of(ds005)
    attrs = {**volumes.attrs(), "notes": {}}  # a job adds notes of its own
    write_artifact(tmp_path / "v.zarr", "volumes", arrays=volumes.arrays(), attrs=attrs)
    assert Volumes.from_artifact(open_artifact(tmp_path / "v.zarr", "volumes")).notes == volumes.notes != ()
