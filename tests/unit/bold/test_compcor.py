from dataclasses import replace

import numpy as np
import pytest

from neuroloom.bold.compcor import a_comp_cor, add_nuisance, tissue_masks
from neuroloom.bold.parcels import template_parcels
from neuroloom.bold.preprocess import preprocess_bold
from neuroloom.config import BoldConfig
from neuroloom.records import Confounds, Volumes

AFFINE = np.array([[-4.0, 0, 0, 78], [0, 4, 0, -112], [0, 0, 4, -70], [0, 0, 0, 1]])
SHAPE = (40, 48, 40)
CONFIG = BoldConfig(realign="never", high_pass=None, low_pass=None, n_comp_cor=1)


@pytest.fixture(scope="module")
def pulsing() -> tuple[Volumes, np.ndarray, np.ndarray]:
    """A brain whose parcels have waves of their own, under one course that pulses everywhere."""
    rng = np.random.default_rng(0)
    atlas = template_parcels(8)
    pulse_V, own_PV = rng.standard_normal(60), rng.standard_normal((8, 60))
    bold_XYZV = (1000 + 5 * rng.standard_normal((*SHAPE, 60)) + 20 * pulse_V).astype(np.float32)
    volumes = Volumes(bold_XYZV, AFFINE, 2.0, "MNI152NLin6Asym", None, Confounds.none(60))
    labels_XYZ = np.flip(atlas.labels_XYZ, 0)
    bold_XYZV[labels_XYZ > 0] += 10 * own_PV[labels_XYZ[labels_XYZ > 0] - 1].astype(np.float32)
    return volumes, pulse_V, own_PV


def corr(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_tissue_lies_where_it_should(pulsing: tuple) -> None:
    volumes = pulsing[0]
    masks = tissue_masks(volumes)
    for name, at in {"white_matter": (-26, -20, 30), "csf": (0, 14, 2)}.items():
        middle = np.rint(np.linalg.inv(AFFINE) @ [*at, 1]).astype(int)[:3]
        near = tuple(slice(index - 3, index + 4) for index in middle)
        assert masks[name][near].any(), name
        assert 20 < masks[name].sum() < 6000
    assert not (masks["white_matter"] & masks["csf"]).any()
    grey_XYZ = np.flip(template_parcels(8).labels_XYZ, 0) > 0
    assert (masks["csf"] & grey_XYZ).sum() < 0.1 * masks["csf"].sum()


def test_acompcor_takes_a_planted_pulse_out(pulsing: tuple) -> None:
    volumes, pulse_V, own_PV = pulsing
    atlas = template_parcels(8)
    before, _ = preprocess_bold(volumes=volumes, parcellation=atlas, config=CONFIG)
    config = CONFIG.model_copy(update={"confounds": ("a_comp_cor",)})
    after, qc = preprocess_bold(volumes=volumes, parcellation=atlas, config=config)
    assert min(corr(series_V, pulse_V) for series_V in before.bold_PV) > 0.8
    assert max(abs(corr(series_V, pulse_V)) for series_V in after.bold_PV) < 0.05
    assert min(corr(*pair) for pair in zip(after.bold_PV, own_PV, strict=True)) > 0.95
    assert qc.n_confounds == 1
    assert after.confounds.names == ["a_comp_cor_00"]
    assert "a_comp_cor_00 computed from the series" in qc.notes


def test_components_are_the_largest_of_svd(rng: np.random.Generator) -> None:
    voxel_XV = rng.standard_normal((300, 40)) + np.outer(rng.standard_normal(300), rng.standard_normal(40))
    found_VM = a_comp_cor(voxel_XV, n_components=3, t_r=2.0, high_pass=None)
    time_V = np.linspace(-1, 1, 40)
    line = np.stack([np.ones(40), time_V], axis=1)
    flat_XV = voxel_XV - (line @ np.linalg.lstsq(line, voxel_XV.T, rcond=None)[0]).T
    right_VV = np.linalg.svd(flat_XV / flat_XV.std(axis=1, keepdims=True))[2]
    for component in range(3):
        assert abs(found_VM[:, component] @ right_VV[component]) == pytest.approx(1, abs=1e-6)


def test_only_what_is_wanted_and_lacking_is_computed(pulsing: tuple) -> None:
    volumes = pulsing[0]
    mask_XYZ = np.ones(SHAPE, bool)
    options = {"n_components": 2, "high_pass": 0.01}
    given = replace(volumes, confounds=Confounds(["csf"], np.ones((60, 1), np.float32)))
    confounds, notes = add_nuisance(given, mask_XYZ, prefixes=("csf", "global", "white"), **options)
    assert confounds.names == ["csf", "global_signal", "white_matter"]
    assert (confounds.values_VM[:, 0] == 1).all()
    np.testing.assert_allclose(
        confounds.values_VM[:, 1], volumes.bold_XYZV.mean(axis=(0, 1, 2), dtype=float), rtol=1e-6
    )
    assert len(notes) == 2
    assert add_nuisance(volumes, mask_XYZ, prefixes=(), **options)[0].names == []


def test_native_space_has_no_tissue_and_no_guess(pulsing: tuple) -> None:
    native = replace(pulsing[0], space="native")
    confounds, notes = add_nuisance(
        native, np.ones(SHAPE, bool), prefixes=("a_comp_cor", "csf"), n_components=2, high_pass=None
    )
    assert confounds.names == []
    assert notes == ["a_comp_cor_, csf skipped: white matter and CSF are not known in native space"]
