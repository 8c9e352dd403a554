from dataclasses import replace

import numpy as np
import pytest

from neuroloom.bold.scores import score_bold
from neuroloom.config import BoldConfig
from neuroloom.records import Array, Confounds, ParcelSeries

CONFIG = BoldConfig(high_pass=None, low_pass=None)


def make_series(bold_PV: Array) -> ParcelSeries:
    n_parcels, n_volumes = bold_PV.shape
    return ParcelSeries(
        bold_PV=bold_PV.astype(np.float32),
        parcels=[f"p{at}" for at in range(n_parcels)],
        centroid_P3=np.zeros((n_parcels, 3)),
        n_voxels_P=np.full(n_parcels, 25),
        t_r=2.0,
        atlas="x",
        atlas_sha256="",
        space="MNI152",
        confounds=Confounds.none(n_volumes),
    )


@pytest.fixture
def truth_PV(rng: np.random.Generator) -> Array:
    return rng.standard_normal((40, 200))


def score(series: ParcelSeries, truth_PV: Array) -> float:
    return score_bold(series, truth_PV, snr=1.0, config=CONFIG, rng=np.random.default_rng(1))[0].value


def test_noise_alone_reaches_the_ceiling(truth_PV: Array, rng: np.random.Generator) -> None:
    noisy_PV = truth_PV + rng.standard_normal(truth_PV.shape) / 5
    assert score(make_series(noisy_PV), truth_PV) == pytest.approx(1.0, abs=0.02)


def test_what_else_went_wrong_does_not(truth_PV: Array, rng: np.random.Generator) -> None:
    spoilt_PV = truth_PV + 1.5 * rng.standard_normal(200)
    assert score(make_series(spoilt_PV), truth_PV) < 0.7


def test_empty_parcels_are_left_out(truth_PV: Array) -> None:
    series = make_series(truth_PV)
    bold_PV = series.bold_PV.copy()
    bold_PV[3] = np.nan
    assert np.isfinite(score(replace(series, bold_PV=bold_PV), truth_PV))
