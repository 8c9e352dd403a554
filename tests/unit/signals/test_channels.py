import numpy as np
import pytest

from neuroloom.records import Recording
from neuroloom.signals.channels import fill_gaps, interpolation_matrix, robust_z


def test_gaps_are_bridged_by_a_line() -> None:
    signal_CT = np.array([[0.0, np.nan, np.nan, 3.0], [np.nan, 1.0, 2.0, np.nan], [np.nan] * 4], np.float32)
    np.testing.assert_allclose(fill_gaps(signal_CT), [[0, 1, 2, 3], [1, 1, 2, 2], [0, 0, 0, 0]])
    assert np.isnan(signal_CT).any(), "the original stays as it is"


def test_a_signal_without_gaps_is_not_copied() -> None:
    signal_CT = np.zeros((2, 3), np.float32)
    assert fill_gaps(signal_CT) is signal_CT


def test_robust_z_is_not_moved_by_outliers() -> None:
    sample = np.array([1.0, 1.2, 0.8, 1.1, 0.9, 50.0])
    assert robust_z(2.0, sample) == pytest.approx(robust_z(2.0, sample[:-1]), rel=0.5)
    assert robust_z(1.05, np.ones(5)) == pytest.approx(0.5), "ten per cent is the smallest SD"


def test_weights_of_a_constant_potential_give_that_potential(recording: Recording) -> None:
    """Spherical splines reproduce a constant, so that the weights of each bad channel sum to one."""
    weights, _, good = interpolation_matrix(recording, ["Cz", "P3"], "eeg")
    assert weights.shape == (2, 17)
    assert len(good) == 17
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-3)
