from dataclasses import replace

import numpy as np
import pytest

from neuroloom.config import MeegConfig
from neuroloom.records import Recording
from neuroloom.signals.mixing import average_reference, fit_mixing, interpolation

PLAIN = MeegConfig(ocular="none", magnetic="none", reference="none", interpolate=False)


def mix(recording: Recording, bads: dict[str, str], **changes: object) -> tuple[np.ndarray, list[str]]:
    config = PLAIN.model_copy(update=changes)
    found = fit_mixing(recording, [recording.signal_CT], bads, config=config, rng=np.random.default_rng(0))
    return found.matrix_CC, found.status


def test_with_every_step_off_nothing_is_mixed(recording: Recording) -> None:
    matrix_CC, status = mix(recording, {"Cz": "flat"})
    np.testing.assert_array_equal(matrix_CC, np.eye(19))
    assert status[9] == "bad: flat"


def test_interpolated_channels_come_from_good_ones_alone(recording: Recording) -> None:
    matrix_CC, done = interpolation(recording, ["Cz", "Pz"])
    assert sorted(done) == ["Cz", "Pz"]
    lost = [recording.ch_names.index(name) for name in done]
    assert not matrix_CC[np.ix_(lost, lost)].any()
    np.testing.assert_allclose(matrix_CC[lost].sum(axis=1), 1.0, atol=1e-3)


def test_the_reference_leaves_bad_channels_out(recording: Recording) -> None:
    status = ["bad: loose"] + ["good"] * 18
    referenced_CT = average_reference(recording, status) @ recording.signal_CT
    np.testing.assert_allclose(referenced_CT[1:].mean(axis=0), 0, atol=1e-9)


def test_the_matrix_does_what_the_steps_do_one_after_the_other(recording: Recording) -> None:
    bads = {"Cz": "flat"}
    matrix_CC, status = mix(recording, bads, interpolate=True, reference="average")
    weights_CC, _ = interpolation(recording, list(bads))
    expected_CT = average_reference(recording, status) @ (weights_CC @ recording.signal_CT)
    np.testing.assert_allclose(matrix_CC @ recording.signal_CT, expected_CT, atol=1e-10)
    assert status[9] == "interpolated: flat"


@pytest.mark.parametrize("magnetic", ["auto", "ssp", "hfc"])
def test_eeg_is_left_alone_by_what_is_done_to_meg(recording: Recording, magnetic: str) -> None:
    mixed = replace(recording, ch_types=["mag"] * 6 + ["eeg"] * 13, coil_C=np.array([3024] * 6 + [1] * 13, np.int32))
    matrix_CC, _ = mix(mixed, {}, magnetic=magnetic)
    np.testing.assert_array_equal(matrix_CC[6:], np.eye(19)[6:])
