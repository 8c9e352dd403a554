from dataclasses import replace

import numpy as np
import pytest

from neuroloom.config import MeegConfig
from neuroloom.records import Recording
from neuroloom.signals.components import find_components
from neuroloom.signals.ocular import OcularFit, fit_ocular
from neuroloom.signals.preprocess import preprocess_meeg
from neuroloom.signals.scores import correlations


@pytest.fixture
def blinking(recording: Recording) -> tuple[Recording, np.ndarray]:
    """The recording with a blink every four seconds, largest at Fp1 and Fp2, and its time course."""
    n_times = recording.signal_CT.shape[1]
    blink_T = np.zeros(n_times, np.float32)
    for start in range(250, n_times - 100, 1000):
        blink_T[start : start + 75] = np.hanning(75)
    distance_C = np.linalg.norm(recording.position_C3 - recording.position_C3[:2].mean(axis=0), axis=1)
    signal_CT = recording.signal_CT + 120e-6 * np.outer(np.exp(-((distance_C / 0.05) ** 2)), blink_T)
    return replace(recording, signal_CT=signal_CT.astype(np.float32)), blink_T


def fit(recording: Recording, *, bads: dict[str, str] | None = None, fast: bool = False) -> OcularFit:
    pieces, bads = [recording.signal_CT], bads or {}
    components = find_components(recording, pieces, bads, fast=fast, seed=1)
    return fit_ocular(recording, pieces, bads, components, config=MeegConfig())


@pytest.mark.parametrize("fast", [False, True], ids=["alone", "with muscle"])
def test_blinks_go_and_the_rest_stays(blinking: tuple[Recording, np.ndarray], recording: Recording, fast: bool) -> None:
    spoilt, blink_T = blinking
    found = fit(spoilt, fast=fast)
    assert len(found.correlations) == 1
    cleaned_CT = found.matrix_CC @ spoilt.signal_CT
    assert np.abs(correlations(spoilt.signal_CT, blink_T)).max() > 0.6
    assert np.abs(correlations(cleaned_CT, blink_T)).max() < 0.1
    kept = np.diag(np.corrcoef(cleaned_CT, recording.signal_CT)[:19, 19:])
    assert np.median(kept) > 0.95


def test_a_recording_without_blinks_is_left_alone(recording: Recording) -> None:
    found = fit(recording)
    np.testing.assert_array_equal(found.matrix_CC, np.eye(19))
    assert found.chosen == []


def test_equal_seeds_find_equal_matrices(blinking: tuple[Recording, np.ndarray]) -> None:
    np.testing.assert_array_equal(fit(blinking[0]).matrix_CC, fit(blinking[0]).matrix_CC)


def test_bad_channels_take_no_part(blinking: tuple[Recording, np.ndarray]) -> None:
    found = fit(blinking[0], bads={"Fp1": "dead", "Pz": "flat"})
    for name in ("Fp1", "Pz"):
        at = blinking[0].ch_names.index(name)
        np.testing.assert_array_equal(found.matrix_CC[at], np.eye(19)[at])
        assert not np.delete(found.matrix_CC[:, at], at).any()


def test_without_eyes_or_channels_nothing_is_taken_out(blinking: tuple[Recording, np.ndarray]) -> None:
    spoilt, _ = blinking
    assert "neither EOG nor a good frontal channel" in fit(spoilt, bads={"Fp1": "dead", "Fp2": "dead"}).note
    few = {name: "dead" for name in spoilt.ch_names[5:]}
    np.testing.assert_array_equal(fit(spoilt, bads=few).matrix_CC, np.eye(19))


def test_the_step_can_be_switched_off_and_says_what_it_did(blinking: tuple[Recording, np.ndarray]) -> None:
    spoilt, blink_T = blinking
    left = {}
    for method in ("ica", "none"):
        config = MeegConfig(ocular=method, mantissa_bits=None, sfreq=250.0)
        rng = np.random.default_rng(0)
        clean, qc = preprocess_meeg(recording=spoilt, config=config, window=5.0, file="a", rng=rng)
        left[method] = np.abs(correlations(clean.load().signal_CT, blink_T)).max()
        assert qc.row()["n_ocular"] == int(method == "ica")
    assert left["ica"] < 0.1 < 0.5 < left["none"]


def test_eog_channels_are_regressed_out_of_few_electrodes(blinking: tuple[Recording, np.ndarray]) -> None:
    spoilt, blink_T = blinking
    signal_CT = spoilt.signal_CT[[0, 1, 7, 9, 11, 18]].copy()
    signal_CT[0] = 150e-6 * blink_T + 1e-6 * np.random.default_rng(0).standard_normal(len(blink_T))
    few = replace(
        spoilt,
        signal_CT=signal_CT.astype(np.float32),
        ch_names=["EOG", "Fp2", "T7", "Cz", "T8", "O2"],
        ch_types=["eog"] + ["eeg"] * 5,
        status=["good"] * 6,
        units=["V"] * 6,
        loc_C12=spoilt.loc_C12[[0, 1, 7, 9, 11, 18]],
        coil_C=spoilt.coil_C[:6],
    )
    found = fit(few)
    assert found.note == "eyes by regression on EOG"
    assert np.abs(correlations(signal_CT, blink_T)[1]) > 0.6
    assert np.abs(correlations(found.matrix_CC @ signal_CT, blink_T)[1:]).max() < 0.1
