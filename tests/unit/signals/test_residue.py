import numpy as np
import pytest

from neuroloom.signals.residue import ResidueBasis, fit_residue, wiener_filter

N_CHANNELS, LENGTH, N_REPEATS = 8, 200, 120


@pytest.fixture
def wave_J() -> np.ndarray:
    turn = 2 * np.pi * np.arange(LENGTH) / LENGTH
    return np.sin(12 * turn) * np.hanning(LENGTH)


def fit(mean_CJ: np.ndarray, residue_ECJ: np.ndarray) -> ResidueBasis:
    return fit_residue(mean_CJ, residue_ECJ, shift=1.0, least=2.0)


def test_what_varies_from_time_to_time_is_found(rng: np.random.Generator, wave_J: np.ndarray) -> None:
    map_C = rng.standard_normal(N_CHANNELS)
    amount_E = rng.standard_normal(N_REPEATS)
    artefact_ECJ = 5 * amount_E[:, None, None] * np.outer(map_C, wave_J)
    noise_ECJ = rng.standard_normal((N_REPEATS, N_CHANNELS, LENGTH))
    basis = fit(np.outer(map_C, wave_J) * 50, artefact_ECJ + noise_ECJ)
    assert len(basis.wave_KJ) == 1
    np.testing.assert_allclose(basis.wave_KJ @ basis.wave_KJ.T, 1.0, atol=1e-9)
    left_ECJ = np.stack([found - basis.gain(found) @ basis.wave_KJ for found in artefact_ECJ + noise_ECJ]) - noise_ECJ
    assert (left_ECJ**2).sum() < 0.01 * (artefact_ECJ**2).sum()


def test_noise_alone_has_no_components(rng: np.random.Generator, wave_J: np.ndarray) -> None:
    noise_ECJ = rng.standard_normal((N_REPEATS, N_CHANNELS, LENGTH))
    basis = fit(np.outer(np.ones(N_CHANNELS), wave_J), noise_ECJ)
    assert basis.wave_KJ.shape == (0, LENGTH)
    assert not basis.gain(noise_ECJ[0]).any()


def test_without_an_average_there_is_nothing_to_look_for(rng: np.random.Generator) -> None:
    residue_ECJ = rng.standard_normal((N_REPEATS, N_CHANNELS, LENGTH))
    assert not len(fit(np.zeros((N_CHANNELS, LENGTH)), residue_ECJ).wave_KJ)


def test_wieners_filter_passes_the_artefact_by_its_share(rng: np.random.Generator) -> None:
    brain_CC = rng.standard_normal((6, 6))
    map_C = rng.standard_normal(6)
    given = rng.standard_normal((20_000, 6)) @ brain_CC.T
    artefact_EC = 30 * np.outer(rng.standard_normal(5000), map_C)
    filter_CC = wiener_filter(artefact_EC + given[:5000], given[5000:])
    assert np.linalg.matrix_rank(filter_CC, tol=1e-6) == 1
    # in the direction of the artefact nearly all of it, and the same map comes out
    out_C = filter_CC @ map_C
    assert np.corrcoef(out_C, map_C)[0, 1] > 0.99
    assert 0.9 < out_C @ map_C / (map_C @ map_C) <= 1.05


def test_no_artefact_no_filter(rng: np.random.Generator) -> None:
    assert not wiener_filter(rng.standard_normal((200, 6)), rng.standard_normal((800, 6))).any()
