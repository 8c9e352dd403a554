import numpy as np
import pytest

from neuroloom.config import ArtefactConfig
from neuroloom.study.artefacts import Measured, plant_artefacts
from neuroloom.study.sensors import Sensors, eeg_sensors, meg_sensors

SFREQ, SECONDS = 200.0, 120.0
NOTHING = ArtefactConfig(
    dead_channels=0, flat_channels=0, noisy_channels=0, blinks_per_min=0, drift_uv=0, line_uv=0, muscle_per_min=0
)
SOURCE = np.array([[0.0, 0.02, 0.08]])


@pytest.fixture(scope="module")
def cap() -> Sensors:
    return eeg_sensors(n_eeg=32, reference="ears", sfreq=SFREQ, line_freq=50, position_P3=SOURCE)


def plant(sensors: Sensors, artefacts: ArtefactConfig, *, noise: float = 1e-9, open_s: float = SECONDS) -> Measured:
    silence_CT = np.zeros((len(sensors.ch_names), int(SECONDS * SFREQ)), np.float32)
    return plant_artefacts(
        silence_CT,
        sensors=sensors,
        artefacts=artefacts,
        noise=noise,
        open_eyes=[(0.0, open_s)],
        rng=np.random.default_rng(0),
    )


def test_nothing_planted_is_noise_alone(cap: Sensors) -> None:
    measured = plant(cap, NOTHING, noise=2e-6)
    np.testing.assert_allclose(measured.signal_CT.std(axis=1), 2e-6, rtol=0.05)
    assert {fact.kind for fact in measured.facts if fact.value} == {"noise", "line_freq"}


def test_blinks_are_frontal_counted_and_sized(cap: Sensors) -> None:
    measured = plant(cap, NOTHING.model_copy(update={"blinks_per_min": 15, "blink_uv": 100}), open_s=60.0)
    blinks = [fact for fact in measured.facts if fact.kind == "blink"]
    assert len(blinks) == 15
    assert max(fact.onset + fact.duration for fact in blinks) <= 60.5
    assert np.diff([fact.onset for fact in blinks]).min() >= 0.3
    peaks = dict(zip(cap.ch_names, measured.signal_CT.max(axis=1), strict=True))
    assert 90e-6 < peaks["Fp1"] < 100.5e-6
    assert peaks["Fp2"] > 0.9 * peaks["Fp1"] > 3 * peaks["Fz"]
    assert abs(peaks["O1"]) < 0.05 * peaks["Fp1"]
    first = blinks[0]
    span = slice(int(first.onset * SFREQ), int((first.onset + first.duration) * SFREQ))
    fp1 = measured.signal_CT[cap.ch_names.index("Fp1")]
    assert fp1[span].max() == pytest.approx(first.value, rel=0.02)
    np.testing.assert_allclose(fp1, measured.blink_T, atol=1e-8)


def test_muscle_bursts_lie_over_one_temporal_side(cap: Sensors) -> None:
    measured = plant(cap, NOTHING.model_copy(update={"muscle_per_min": 3, "muscle_uv": 20}))
    bursts = [fact for fact in measured.facts if fact.kind == "muscle"]
    assert len(bursts) == 6
    for burst in bursts:
        span = slice(int((burst.onset + 0.1) * SFREQ), int((burst.onset + burst.duration - 0.1) * SFREQ))
        rms = dict(zip(cap.ch_names, measured.signal_CT[:, span].std(axis=1), strict=True))
        assert rms[burst.channel] == pytest.approx(20e-6, rel=0.4)
        assert rms[burst.channel] > 4 * rms[{"T7": "T8", "T8": "T7"}[burst.channel]]


def test_mains_has_the_planted_size_in_each_channel(cap: Sensors) -> None:
    measured = plant(cap, NOTHING.model_copy(update={"line_uv": 8}))
    angle_T = 2 * np.pi * 50 * np.arange(measured.signal_CT.shape[1]) / SFREQ
    found_C = np.abs(measured.signal_CT @ np.exp(1j * angle_T)) * np.sqrt(2) / len(angle_T)
    planted_C = [fact.value for fact in measured.facts if fact.kind == "line"]
    np.testing.assert_allclose(found_C, planted_C, rtol=0.01)


def test_drift_is_slow_and_sized(cap: Sensors) -> None:
    measured = plant(cap, NOTHING.model_copy(update={"drift_uv": 30}))
    spectrum = np.abs(np.fft.rfft(measured.signal_CT, axis=1)) ** 2
    freqs = np.fft.rfftfreq(measured.signal_CT.shape[1], 1 / SFREQ)
    assert spectrum[:, freqs > 0.5].sum() < 0.01 * spectrum[:, 1:].sum()
    assert 15e-6 < np.median(np.sqrt((measured.signal_CT**2).mean(axis=1))) < 60e-6


def test_bad_channels_are_different_and_as_described(cap: Sensors) -> None:
    counts = {"dead_channels": 2, "flat_channels": 1, "noisy_channels": 3, "drift_uv": 10}
    measured = plant(cap, NOTHING.model_copy(update=counts), noise=2e-6)
    bad = {kind: [f.channel for f in measured.facts if f.kind == kind] for kind in ("dead", "flat", "noisy")}
    names = [name for kind in bad.values() for name in kind]
    assert [len(kind) for kind in bad.values()] == [2, 1, 3]
    assert len(set(names)) == 6
    signal = dict(zip(cap.ch_names, measured.signal_CT, strict=True))
    assert all(not signal[name].any() for name in bad["dead"])
    assert 0 < signal[bad["flat"][0]].std() < 0.1e-6


def test_meg_gets_mains_and_bad_channels_but_no_blinks() -> None:
    helmet = meg_sensors(system="neuromag", n_places=8, sfreq=SFREQ, line_freq=60, position_P3=SOURCE)
    measured = plant(helmet, ArtefactConfig())
    kinds = {fact.kind for fact in measured.facts}
    assert {"dead", "flat", "noisy", "line", "drift", "noise"} <= kinds
    assert not {"blink", "muscle"} & kinds
    assert not measured.blink_T.any()
    assert {fact.unit for fact in measured.facts if fact.kind == "line"} == {"T", "T/m"}
