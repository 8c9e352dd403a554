from dataclasses import replace

import numpy as np
import pytest
from tests.unit.signals.test_components import contracted

from neuroloom.config import MeegConfig
from neuroloom.records import Recording
from neuroloom.signals import mixing
from neuroloom.signals.mixing import Mixing, average_reference, fit_mixing, interpolation

PLAIN = MeegConfig(ocular="none", muscle="none", magnetic="none", reference="none", interpolate=False)


def fit(recording: Recording, bads: dict[str, str], **changes: object) -> Mixing:
    config = PLAIN.model_copy(update=changes)
    return fit_mixing(recording, [recording.signal_CT], bads, config=config, rng=np.random.default_rng(0))


def mix(recording: Recording, bads: dict[str, str], **changes: object) -> tuple[np.ndarray, list[str]]:
    found = fit(recording, bads, **changes)
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


def test_eyes_and_muscle_come_from_one_decomposition(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    real = mixing.find_components

    def counted(*args: object, fast: bool, **options: object) -> object:
        calls.append(fast)
        return real(*args, fast=fast, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mixing, "find_components", counted)
    tense = replace(recording, signal_CT=recording.signal_CT + contracted(recording, "T7", starts=(4.0, 11.0)))
    found = fit(tense, {}, ocular="ica", muscle="ica")
    assert [name.split()[0] for name in found.muscle.found] == ["T7"]
    assert fit(tense, {}, ocular="ica").muscle.found == []
    assert fit(tense, {}).muscle.found == []
    assert calls == [True, False]


def test_muscle_is_no_part_of_the_matrix(recording: Recording) -> None:
    tense = replace(recording, signal_CT=recording.signal_CT + contracted(recording, "T7", starts=(4.0, 11.0)))
    np.testing.assert_array_equal(fit(tense, {}, muscle="ica").matrix_CC, np.eye(19))


def test_what_cannot_be_decomposed_is_said_once(recording: Recording) -> None:
    few = {name: "dead" for name in recording.ch_names[5:]}
    found = fit(recording, few, ocular="ica", muscle="ica")
    assert found.notes == ["no components: 5 good EEG channels, 8 needed"]
