import numpy as np

from neuroloom.records import Recording
from neuroloom.signals.channels import interpolation_matrix


def test_weights_of_a_constant_potential_give_that_potential(recording: Recording) -> None:
    """Spherical splines reproduce a constant, so that the weights of each bad channel sum to one."""
    weights, _, good = interpolation_matrix(recording, ["Cz", "P3"], "eeg")
    assert weights.shape == (2, 17)
    assert len(good) == 17
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-3)
