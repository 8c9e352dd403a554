from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest

from neuroloom.bold.cortex import cut_left_cortex, read_left_cortex
from neuroloom.bold.parcels import check_atlas, grid_parcels, load_atlas, make_parcellation, template_parcels
from neuroloom.config import ConfigError
from neuroloom.records import Volumes

SHAPE = (12, 6, 5)
MM = np.diag([4.0, 4, 4, 1])


def label_image(path: Path, labels: np.ndarray, sform_code: int = 2) -> Path:
    image = nibabel.Nifti1Image(labels, MM)
    image.header["sform_code"] = sform_code
    image.to_filename(path)
    return path


def blocks() -> np.ndarray:
    """Labels 5, 10 and 20 in three slabs."""
    labels = np.zeros(SHAPE, np.int16)
    labels[:4], labels[4:8], labels[8:12] = 10, 5, 20
    return labels


@pytest.mark.parametrize("n_parcels", [2, 8, 64, 200])
def test_template_parcels_fill_and_mirror(n_parcels: int) -> None:
    atlas = template_parcels(n_parcels)
    half = n_parcels // 2
    assert np.bincount(atlas.labels_XYZ.ravel(), minlength=n_parcels + 1)[1:].min() >= 3
    left = (atlas.labels_XYZ > 0) & (atlas.labels_XYZ <= half)
    np.testing.assert_array_equal(atlas.labels_XYZ[::-1][left], atlas.labels_XYZ[left] + half)
    assert np.count_nonzero(left) * 2 == np.count_nonzero(atlas.labels_XYZ)
    np.testing.assert_allclose(atlas.centroid_P3[half:], atlas.centroid_P3[:half] * [-1, 1, 1])


def test_the_cortex_that_is_kept_is_the_one_that_is_cut() -> None:
    for kept, cut in zip(read_left_cortex(), cut_left_cortex(), strict=True):
        np.testing.assert_array_equal(kept, cut)


def test_template_names_go_with_centroids() -> None:
    atlas = template_parcels(64)
    assert (atlas.names[0], atlas.names[31], atlas.names[32], atlas.names[63]) == ("L01", "L32", "R01", "R32")
    assert (atlas.name, atlas.space) == ("template64", "MNI152")
    for index, name in enumerate(atlas.names):
        assert (atlas.centroid_P3[index, 0] < 0) == name.startswith("L")
        voxels = np.argwhere(atlas.labels_XYZ == index + 1)
        mm = nibabel.affines.apply_affine(atlas.affine_44, voxels)
        np.testing.assert_allclose(atlas.centroid_P3[index], mm.mean(axis=0))
    assert (np.diff(atlas.centroid_P3[:32, 1]) <= 0).all()  # from front to back


def test_template_parcels_are_compact_cortex() -> None:
    atlas = template_parcels(64)
    mm = nibabel.affines.apply_affine(atlas.affine_44, np.argwhere(atlas.labels_XYZ > 0))
    assert mm[:, 2].min() > -60  # no cerebellum, no brain stem
    assert not ((np.abs(mm[:, 0]) < 12) & (mm[:, 2] < -32) & (mm[:, 1] < 0)).any()
    for index in range(64):
        voxels = nibabel.affines.apply_affine(atlas.affine_44, np.argwhere(atlas.labels_XYZ == index + 1))
        assert np.linalg.norm(voxels - atlas.centroid_P3[index], axis=1).max() < 45


def test_template_parcels_are_the_same_each_time() -> None:
    first = template_parcels(16)
    template_parcels.cache_clear()
    second = template_parcels(16)
    assert first is not second
    assert first.sha256 == second.sha256 != template_parcels(8).sha256
    with pytest.raises(ValueError, match="read-only"):
        first.labels_XYZ[0, 0, 0] = 1


@pytest.mark.parametrize("n_parcels", [0, 7, 402])
def test_numbers_of_template_parcels_that_cannot_be(n_parcels: int) -> None:
    with pytest.raises(ConfigError, match="must be even, 2 to 400"):
        load_atlas(f"template{n_parcels}")


def test_the_checksum_depends_on_labels_affine_and_names() -> None:
    facts = {
        "labels_XYZ": np.eye(3, dtype=int)[None],
        "affine_44": np.eye(4),
        "names": ["a"],
        "name": "x",
        "space": "native",
    }
    digests = {
        make_parcellation(**(facts | change)).sha256  # type: ignore[arg-type]
        for change in (
            {},
            {"labels_XYZ": np.eye(3, dtype=int)[:, None]},
            {"affine_44": np.diag([2, 1, 1, 1])},
            {"names": ["b"]},
            {"name": "y"},
        )
    }
    assert len(digests) == 4


def test_labels_without_a_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        make_parcellation(labels_XYZ=np.full((2, 2, 2), 3), affine_44=np.eye(4), names=["a"], name="x", space="native")


def test_a_grid_cuts_the_brain_into_cubes(volumes: Volumes, brain_XYZ: np.ndarray) -> None:
    masked = replace(volumes, mask_XYZ=brain_XYZ)
    atlas = grid_parcels(16, reference=masked)
    np.testing.assert_array_equal(atlas.labels_XYZ > 0, brain_XYZ)
    assert (atlas.space, atlas.name) == ("native", "grid16")
    corner = nibabel.affines.apply_affine(
        volumes.affine_44, [brain_XYZ.shape[0] - 1, 0, 0]
    )  # x runs from right to left
    for index, name in enumerate(atlas.names):
        mm = nibabel.affines.apply_affine(volumes.affine_44, np.argwhere(atlas.labels_XYZ == index + 1))
        cube = np.array([int(word) for word in name.split("-")[1:]])
        assert (mm >= corner + 16 * cube - 1e-6).all()
        assert (mm < corner + 16 * (cube + 1) - 1e-6).all()
    assert load_atlas("grid16", reference=masked).sha256 == atlas.sha256
    assert load_atlas("grid16", reference=replace(masked, space="MNI152")).space == "MNI152"


def test_a_grid_of_one_voxel_makes_each_voxel_a_parcel(volumes: Volumes, brain_XYZ: np.ndarray) -> None:
    atlas = load_atlas("grid4.0", reference=replace(volumes, mask_XYZ=brain_XYZ))
    assert len(atlas.names) == brain_XYZ.sum()


def test_a_grid_needs_a_series(volumes: Volumes) -> None:
    with pytest.raises(ConfigError, match="pass its volumes"):
        load_atlas("grid25")
    with pytest.raises(ConfigError, match="above 0"):
        load_atlas("grid0", reference=volumes)


def test_a_label_image_with_its_table(tmp_path: Path) -> None:
    path = label_image(tmp_path / "tpl_space-MNI152NLin6Asym_dseg.nii.gz", blocks())
    pd.DataFrame({"index": [5, 10, 20, 30], "name": ["V1", "V2", "M1", "unused"]}).to_csv(
        tmp_path / "tpl_space-MNI152NLin6Asym_dseg.tsv", sep="\t", index=False
    )
    atlas = load_atlas(str(path))
    assert (atlas.names, atlas.space, atlas.name) == (["V1", "V2", "M1"], "MNI152", path.name)
    np.testing.assert_array_equal(atlas.labels_XYZ, np.select([blocks() == value for value in (5, 10, 20)], [1, 2, 3]))


def test_a_label_image_alone(tmp_path: Path) -> None:
    atlas = load_atlas(str(label_image(tmp_path / "mine.nii", blocks().astype(np.float32))))
    assert (atlas.names, atlas.space) == (["label-5", "label-10", "label-20"], "native")
    assert load_atlas(str(label_image(tmp_path / "mni.nii", blocks(), sform_code=4))).space == "MNI152"


def test_label_images_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_atlas("nowhere.nii.gz")
    with pytest.raises(ConfigError, match="whole-numbered labels"):
        load_atlas(str(label_image(tmp_path / "p.nii", np.full(SHAPE, 0.5, np.float32))))
    path = label_image(tmp_path / "a.nii", blocks())
    (tmp_path / "a.tsv").write_text("index\tname\n5\tV1\n")
    with pytest.raises(ConfigError, match="without a name in its table: 10, 20"):
        load_atlas(str(path))
    (tmp_path / "a.tsv").write_text("label\tregion\n5\tV1\n")
    with pytest.raises(ConfigError, match="index and name are needed"):
        load_atlas(str(path))


def test_a_name_is_checked_without_loading_anything(tmp_path: Path) -> None:
    path = label_image(tmp_path / "a.nii", blocks())
    found = [check_atlas(name) for name in ("template64", "grid12.5", "schaefer400", "difumo1024", "aal", str(path))]
    expected = [("template", 64), ("grid", 12.5), ("schaefer", 400), ("difumo", 1024), ("aal", 0), ("file", 0)]
    assert found == expected


@pytest.mark.parametrize("name", ["shaefer100", "template", "grid", "aal3", "template64x"])
def test_unknown_names_list_what_is_allowed(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown; allowed: template<N>, grid<mm>, schaefer<N>"):
        load_atlas(name)


@pytest.mark.parametrize("name", ["schaefer150", "difumo100"])
def test_sizes_that_an_atlas_does_not_have(name: str) -> None:
    with pytest.raises(ConfigError, match=r"has (100, 200|64, 128)"):
        load_atlas(name)


@pytest.mark.parametrize("name", ["schaefer100", "difumo64", "aal"])
def test_without_a_network_the_error_says_what_to_place_where(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from nilearn import datasets

    def offline(**_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setenv("NILEARN_DATA", str(tmp_path / "cache"))
    for fetcher in ("schaefer_2018", "difumo", "aal"):
        monkeypatch.setattr(datasets, f"fetch_atlas_{fetcher}", offline)
    with pytest.raises(ConfigError, match=rf"{name} is not on this machine.*no route.*copy its folder to .*cache"):
        load_atlas(name)


def test_schaefer_is_read_from_nilearns_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "schaefer_2018"
    folder.mkdir()
    labels = np.arange(SHAPE[0] * SHAPE[1] * SHAPE[2], dtype=np.int16).reshape(SHAPE) % 101
    label_image(folder / "Schaefer2018_100Parcels_7Networks_order_FSLMNI152_2mm.nii.gz", labels)
    lines = [f"{index}\t7Networks_LH_{index}\t1\t2\t3\t0" for index in range(1, 101)]
    (folder / "Schaefer2018_100Parcels_7Networks_order.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("NILEARN_DATA", str(tmp_path))
    atlas = load_atlas("schaefer100")
    assert (len(atlas.names), atlas.names[6], atlas.space) == (100, "7Networks_LH_7", "MNI152")
    np.testing.assert_array_equal(atlas.labels_XYZ, labels)


def test_difumo_maps_become_parcels_where_they_are_largest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rng: np.random.Generator
) -> None:
    from nilearn import datasets

    maps = rng.uniform(0.1, 1, (*SHAPE, 64)).astype(np.float32)
    maps[:3] = 0
    nibabel.Nifti1Image(maps, MM).to_filename(tmp_path / "maps.nii")
    labels = pd.DataFrame({"difumo_names": ["same", "same", *map(str, range(62))]})
    atlas = SimpleNamespace(maps=str(tmp_path / "maps.nii"), labels=labels)
    monkeypatch.setattr(datasets, "fetch_atlas_difumo", lambda **_: atlas)
    found = load_atlas("difumo64")
    assert not found.labels_XYZ[:3].any()
    np.testing.assert_array_equal(found.labels_XYZ[3:], maps[3:].argmax(axis=-1) + 1)
    assert found.names[:3] == ["same_1", "same_2", "0"]
