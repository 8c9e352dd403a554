import json
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.bold.reading import bold_source_files, read_bold
from neuroloom.config import SourceConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import ParcelSeries, Volumes

Write = Callable[..., Path]
NOTHING = SourceConfig()
BASE = "sub-01_task-rest"


def read(path: Path, **source: object) -> Volumes:
    found = read_bold(path, source=SourceConfig(**source))
    assert isinstance(found, Volumes)
    return found


def refused(path: Path, reason: str, **source: object) -> UnusableRecording:
    with pytest.raises(UnusableRecording, match=reason) as caught:
        read_bold(path, source=SourceConfig(**source))
    assert caught.value.remedy
    return caught.value


def sidecar(path: Path, **content: object) -> Path:
    target = path.with_name(path.name.replace(".nii.gz", ".json"))
    target.write_text(json.dumps(content))
    return target


def write_mask(path: Path, mask: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(mask.astype(np.uint8), affine).to_filename(path)
    return path


def test_a_plain_file(write_bold: Write, bold_XYZV: np.ndarray, affine_44: np.ndarray) -> None:
    volumes = read(write_bold())
    np.testing.assert_array_equal(volumes.bold_XYZV, bold_XYZV)
    np.testing.assert_array_equal(volumes.affine_44, affine_44)
    assert (volumes.t_r, volumes.space, volumes.mask_XYZ, volumes.notes) == (2.0, "native", None, ())
    assert volumes.bold_XYZV.dtype == np.float32
    assert volumes.confounds.values_VM.shape == (12, 0)


def test_scaled_integers_are_scaled(write_bold: Write, bold_XYZV: np.ndarray) -> None:
    path = write_bold(data=bold_XYZV.astype(np.int16))
    expected = nibabel.load(path).get_fdata() * 0.5 + 3
    np.testing.assert_allclose(read(patched(path, SCALE, 0.5, 3.0)).bold_XYZV, expected, rtol=1e-6)


@pytest.mark.parametrize(("t_r", "unit"), [(2.0, "sec"), (2000.0, "msec"), (2e6, "usec")])
def test_time_units_of_the_header(write_bold: Write, t_r: float, unit: str) -> None:
    assert read(write_bold(t_r=t_r, unit=unit)).t_r == pytest.approx(2.0)


def test_a_step_without_unit_is_no_repetition_time(write_bold: Write) -> None:
    path = write_bold(t_r=1.0, unit="unknown")
    refused(path, "no repetition time")
    volumes = read(path, t_r=2.5)
    assert volumes.t_r == 2.5
    assert volumes.notes == ("repetition time from sources.<study>.t_r",)
    sidecar(path, RepetitionTime=1.5)
    assert read(path).t_r == 1.5


def test_repetition_times_within_one_percent_agree(write_bold: Write) -> None:
    path = write_bold(t_r=2.0)
    sidecar(path, RepetitionTime=2.01)
    assert read(path, t_r=2.005).t_r == 2.01


def test_repetition_times_that_disagree_are_both_named(write_bold: Write) -> None:
    path = write_bold(t_r=2.0)
    refused(path, r"disagree: header 2 s, sources\.<study>\.t_r 2\.2 s", t_r=2.2)
    sidecar(path, RepetitionTime=2000)
    refused(path, "disagree: sidecar RepetitionTime 2000 s, header 2 s")


@pytest.mark.parametrize(("value", "reason"), [("2", "'2' in the sidecar"), (0, "0 in the sidecar")])
def test_a_sidecar_time_that_is_none(write_bold: Write, value: object, reason: str) -> None:
    path = write_bold()
    sidecar(path, RepetitionTime=value)
    refused(path, reason)


def test_an_implausible_repetition_time(write_bold: Write) -> None:
    refused(write_bold(t_r=2000.0, unit="sec"), "implausible repetition time: header 2000 s")


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 1), (5, 6, 7, 3, 1)])
def test_other_shapes_are_refused(write_bold: Write, shape: tuple[int, ...]) -> None:
    refused(write_bold(data=np.ones(shape, np.float32)), "not a series of at least 2 volumes")


def test_a_missing_file_and_a_foreign_format(tmp_path: Path) -> None:
    refused(tmp_path / "sub-01_bold.nii.gz", "does not exist")
    (tmp_path / "a.mat").touch()
    refused(tmp_path / "a.mat", "not a format")


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.002])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_truncated_file(write_bold: Write, keep: float, ending: str) -> None:
    path = write_bold(f"{BASE}_bold{ending}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert "damaged" in refused(path, "cannot be read").remedy


def test_a_damaged_block(write_bold: Write) -> None:
    path = write_bold()
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    path.write_bytes(content)
    refused(path, "cannot be read")


def test_text_under_the_name_of_nifti(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_bold.nii.gz"
    path.write_text("version https://git-lfs.github.com/spec/v1")
    refused(path, "cannot be read")


@pytest.mark.parametrize("fill", [0, 7])
def test_data_that_never_change(write_bold: Write, fill: float, bold_XYZV: np.ndarray) -> None:
    refused(write_bold(data=np.full_like(bold_XYZV, fill)), "no voxel changes")


def test_data_without_a_number(write_bold: Write, bold_XYZV: np.ndarray) -> None:
    refused(write_bold(data=np.full_like(bold_XYZV, np.nan)), "no voxel has finite values")


def test_complex_data_are_refused(write_bold: Write, bold_XYZV: np.ndarray) -> None:
    refused(write_bold(data=bold_XYZV.astype(np.complex64)), "complex64")


def test_a_voxel_with_a_gap_is_nan_and_counted(write_bold: Write, bold_XYZV: np.ndarray) -> None:
    bold_XYZV[8, 9, 7, 3], bold_XYZV[1, 1, 1, 0] = np.nan, np.inf
    volumes = read(write_bold(data=bold_XYZV))
    assert np.isnan(volumes.bold_XYZV[8, 9, 7]).all()
    assert np.isnan(volumes.bold_XYZV).any(axis=3).sum() == 2
    assert volumes.notes == ("2 voxels with values that are not finite are NaN",)


def patched(path: Path, offset: int, *values: float) -> Path:
    """An uncompressed copy with floats of the header replaced behind nibabel's back."""
    image = nibabel.load(path)
    copy = path.with_name("patched_bold.nii")
    image.to_filename(copy)
    content = bytearray(copy.read_bytes())
    content[offset : offset + 4 * len(values)] = struct.pack(f"<{len(values)}f", *values)
    copy.write_bytes(content)
    return copy


PIXDIM_1, SCALE, SROW_X, SROW_Y = 80, 112, 280, 296


def test_a_singular_affine(write_bold: Write) -> None:
    refused(patched(write_bold(), SROW_Y, -4, 0, 0, 30), "affine is singular")
    refused(patched(write_bold(), SROW_Y, 0, 0, 0, 30), "affine is singular")


def test_an_affine_that_is_not_finite(write_bold: Write) -> None:
    refused(patched(write_bold(), SROW_X, float("nan"), 0, 0, 30), "affine has values that are not finite")


def test_an_affine_of_another_voxel_size(write_bold: Write) -> None:
    refused(patched(write_bold(), PIXDIM_1, 3.0), "voxels of 4 x 4 x 4 mm in the affine, 3 x 4 x 4 mm in the header")


def test_a_header_without_orientation_is_noted(write_bold: Write) -> None:
    path = write_bold()
    image = nibabel.load(path)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    image.to_filename(path)
    assert "neither sform nor qform" in read(path).notes[0]


def test_the_space_is_stated_by_name_sidecar_header_or_mask(write_bold: Write) -> None:
    named = write_bold(f"{BASE}_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz")
    assert read(named).space == "MNI152NLin6Asym"
    path = write_bold()
    sidecar(path, SpatialReference="MNI152NLin2009cAsym")
    assert read(path).space == "MNI152NLin2009cAsym"
    assert read(write_bold("sub-02_task-rest_bold.nii.gz", sform_code=4)).space == "MNI152"
    assert read(write_bold("sub-03_task-rest_space-T1w_bold.nii.gz")).space == "native"


def test_a_mask_on_the_grid_is_used_and_states_the_space(
    write_bold: Write, tmp_path: Path, brain_XYZ: np.ndarray, affine_44: np.ndarray
) -> None:
    path = write_bold("sub-01/func/sub-01_task-rest_bold.nii.gz")
    (tmp_path / "dataset_description.json").write_text("{}")
    derived = tmp_path / "derivatives" / "fmriprep" / "sub-01" / "func"
    write_mask(derived / f"{BASE}_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz", brain_XYZ, affine_44)
    volumes = read(path)
    np.testing.assert_array_equal(volumes.mask_XYZ, brain_XYZ)
    assert volumes.space == "MNI152NLin2009cAsym"


@pytest.mark.parametrize("shift", [0.0, 4.0])
def test_a_mask_on_another_grid_is_ignored_and_noted(
    write_bold: Write, tmp_path: Path, shift: float, brain_XYZ: np.ndarray, affine_44: np.ndarray
) -> None:
    path = write_bold()
    affine_44[0, 3] += shift
    mask = brain_XYZ if shift else brain_XYZ[1:]
    write_mask(tmp_path / f"{BASE}_bold_space-MNI152NLin2009cAsym_brainmask.nii.gz", mask, affine_44)
    volumes = read(path)
    assert (volumes.mask_XYZ, volumes.space) == (None, "native")
    assert "brainmask.nii.gz ignored: its grid" in volumes.notes[0]


def test_two_masks_and_an_empty_mask_are_refused(
    write_bold: Write, tmp_path: Path, brain_XYZ: np.ndarray, affine_44: np.ndarray
) -> None:
    path = write_bold()
    write_mask(tmp_path / f"{BASE}_desc-brain_mask.nii.gz", np.zeros_like(brain_XYZ), affine_44)
    refused(path, "brain mask is empty")
    write_mask(tmp_path / f"{BASE}_space-T1w_desc-brain_mask.nii.gz", brain_XYZ, affine_44)
    refused(path, "more than one brain mask")


def test_confounds_of_another_length_are_refused(write_bold: Write, tmp_path: Path) -> None:
    path = write_bold()
    table = tmp_path / f"{BASE}_desc-confounds_timeseries.tsv"
    table.write_text("csf\n" + "1\n" * 11)
    refused(path, "11 rows of confounds, the BOLD series has 12 volumes")
    table.write_text("csf\n" + "1\n" * 12)
    assert read(path).confounds.names == ["csf"]
    (tmp_path / f"{BASE}_bold_confounds.tsv").write_text("csf\n" + "1\n" * 12)
    refused(path, "more than one table of confounds")


def test_events_with_labels(write_bold: Write, tmp_path: Path) -> None:
    path = write_bold()
    table = tmp_path / f"{BASE}_events.tsv"
    table.write_text("onset\tduration\ttrial_type\tvalue\n0\t1\tface\t3\nn/a\t1\thouse\t4\n30\tn/a\thouse\t4\n")
    volumes = read(path)
    np.testing.assert_array_equal(volumes.events.onset, [0, 30])
    np.testing.assert_array_equal(volumes.events.duration, [1, np.nan])
    assert volumes.events.label == ["face", "house"]
    assert volumes.notes == (
        "1 events without an onset are left out",
        "1 of 3 events begin after the end of the series",
    )
    table.write_text("onset\tduration\tvalue\n0\t1\t3\n")
    assert read(path).events.label == ["3"]
    table.write_text("onset\tduration\n0\t1\n")
    assert read(path).events.label == ["event"]
    table.write_text("start\tduration\n0\t1\n")
    refused(path, "no events table")


def test_source_files_are_all_that_exist(
    write_bold: Write, tmp_path: Path, brain_XYZ: np.ndarray, affine_44: np.ndarray
) -> None:
    path = write_bold()
    others = [
        sidecar(path, RepetitionTime=2.0),
        write_mask(tmp_path / f"{BASE}_desc-brain_mask.nii.gz", brain_XYZ, affine_44),
        tmp_path / f"{BASE}_desc-confounds_timeseries.tsv",
        tmp_path / f"{BASE}_events.tsv",
    ]
    for file in others[2:]:
        file.write_text("onset\tduration\n")
    (tmp_path / "sub-02_task-rest_events.tsv").touch()
    assert bold_source_files(path) == [path, *sorted(others)]


def test_a_table_of_parcels(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "KKI_1_cc200.1D"
    values_VP = rng.standard_normal((20, 5))
    np.savetxt(path, values_VP, header="#1\t#2\t#3\t#4\t#5", comments="", delimiter="\t", fmt="%.6f")
    refused(path, "no repetition time")
    series = read_bold(path, source=SourceConfig(t_r=2.5, atlas="cc200"))
    assert isinstance(series, ParcelSeries)
    np.testing.assert_allclose(series.bold_PV, values_VP.T, atol=1e-6)
    assert (series.t_r, series.atlas, series.space, series.parcels) == (2.5, "cc200", "unknown", list("12345"))
    assert np.isnan(series.centroid_P3).all()
    assert series.centroid_P3.shape == (5, 3)
    path.with_suffix(".json").write_text(json.dumps({"SamplingFrequency": 0.4, "SpatialReference": "MNI152NLin6Asym"}))
    series = read_bold(path, source=NOTHING)
    assert isinstance(series, ParcelSeries)
    assert (series.t_r, series.space, series.atlas) == (2.5, "MNI152NLin6Asym", "table")


def test_slice_times_of_the_sidecar_survive_the_store(write_bold: Write, tmp_path: Path) -> None:
    path = write_bold()
    assert read(path).slice_time_Z is None
    times = [round(2.0 * at / 14, 3) for at in range(14)]
    sidecar(path, RepetitionTime=2.0, SliceTiming=times)
    volumes = read(path)
    np.testing.assert_array_equal(volumes.slice_time_Z, times)
    write_artifact(tmp_path / "v.zarr", "volumes", arrays=volumes.arrays(), attrs=volumes.attrs())
    back = Volumes.from_artifact(open_artifact(tmp_path / "v.zarr"))
    np.testing.assert_array_equal(back.slice_time_Z, times)
    assert back.slice_axis == 2
    sidecar(path, RepetitionTime=2.0, SliceTiming=times[:3])
    refused(path, "SliceTiming has 3 entries, the image 14 slices along k")


def test_a_store_without_slice_times_is_still_read(write_bold: Write, tmp_path: Path) -> None:
    volumes = read(write_bold())
    attrs = {name: value for name, value in volumes.attrs().items() if not name.startswith("slice")}
    write_artifact(tmp_path / "v.zarr", "volumes", arrays=volumes.arrays(), attrs=attrs)
    assert Volumes.from_artifact(open_artifact(tmp_path / "v.zarr")).slice_time_Z is None
