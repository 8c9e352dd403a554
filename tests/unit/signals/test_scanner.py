from dataclasses import replace

import numpy as np
import pytest

from neuroloom.config import MeegConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Events, Recording
from neuroloom.signals.scanner import without_gradients, without_heartbeats

T_R = 1.0


def scanned(recording: Recording, *, triggers: bool = True) -> tuple[Recording, np.ndarray]:
    """The recording with pulses that repeat each second, and the pulses."""
    times = np.arange(recording.signal_CT.shape[1]) / recording.sfreq
    pulse_T = 2e-3 * np.sin(2 * np.pi * 20 * (times % T_R)) * ((times % T_R) < 0.7)
    onsets = np.arange(0.0, 19.0, T_R) if triggers else np.zeros(0)
    events = Events(onsets, np.zeros(len(onsets)), ["volume"] * len(onsets))
    pulses_CT = np.outer(np.linspace(0.5, 1.5, 19), pulse_T)
    signal_CT = (recording.signal_CT + pulses_CT).astype(np.float32)
    return replace(recording, signal_CT=signal_CT, events=events, scanner_t_r=T_R), pulses_CT


def clean(recording: Recording, **changes: object) -> tuple[Recording, list[str]]:
    config = MeegConfig(cardiac="none").model_copy(update=changes)
    return without_gradients(recording, config=config, file="x.edf", rng=np.random.default_rng(0))


def test_pulses_go_and_the_eeg_stays(recording: Recording) -> None:
    given, _ = scanned(recording)
    cleaned, notes = clean(given)
    middle = slice(500, 4000)
    assert "19 volumes from volume triggers `volume`" in notes[0]
    assert (
        np.asarray(cleaned.signal_CT)[:, middle].std(axis=1) < 1.3 * recording.signal_CT[:, middle].std(axis=1)
    ).all()
    assert (given.signal_CT[:, middle].std(axis=1) > 20 * recording.signal_CT[:, middle].std(axis=1)).all()


def test_missing_triggers_are_an_error_with_a_remedy(recording: Recording) -> None:
    given, _ = scanned(recording, triggers=False)
    with pytest.raises(UnusableRecording, match=r"x\.edf: no trigger repeats every 1 s"):
        clean(given)


def test_outside_a_scanner_and_switched_off_nothing_is_done(recording: Recording) -> None:
    given, _ = scanned(recording)
    assert clean(given, gradient="none") == (given, [])
    outside = replace(given, scanner_t_r=None)
    assert clean(outside) == (outside, [])
    assert without_heartbeats(given, config=MeegConfig(cardiac="none"), rng=np.random.default_rng(0)) == (given, [])


def test_the_ecg_keeps_its_beats(recording: Recording) -> None:
    times = np.arange(recording.signal_CT.shape[1]) / recording.sfreq
    beat_T = np.exp(-(((times % 0.9) - 0.3) ** 2) / 4e-4)
    late_T = np.exp(-(((times % 0.9) - 0.55) ** 2) / 4e-3)
    signal_CT = recording.signal_CT + 40e-6 * np.outer(np.linspace(-1, 1, 19), late_T)
    signal_CT[18] = 1e-3 * beat_T
    given = replace(recording, signal_CT=signal_CT.astype(np.float32), ch_types=["eeg"] * 18 + ["ecg"])
    cleaned, notes = without_heartbeats(given, config=MeegConfig(), rng=np.random.default_rng(0))
    assert "heartbeats from the ECG: 67 beats a minute" in notes[0]
    after_CT = np.asarray(cleaned.signal_CT[:, :])
    np.testing.assert_array_equal(after_CT[18], given.signal_CT[18])
    related = [abs(np.corrcoef(signal_CT[0], late_T)[0, 1]) for signal_CT in (given.signal_CT, after_CT)]
    assert related[1] < 0.2 < 0.6 < related[0]
