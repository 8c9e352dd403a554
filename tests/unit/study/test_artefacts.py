import numpy as np
import pytest

from neuroloom.config import ArtefactConfig
from neuroloom.records import Array
from neuroloom.study.artefacts import Measured, plant_artefacts, spoil_channels
from neuroloom.study.sensors import Sensors, eeg_sensors, meg_sensors
from neuroloom.study.truth import Fact

SFREQ, SECONDS = 200.0, 120.0
NOTHING = ArtefactConfig(
    dead_channels=0,
    flat_channels=0,
    noisy_channels=0,
    loose_channels=0,
    bridged_pairs=0,
    blinks_per_min=0,
    drift_uv=0,
    line_uv=0,
    muscle_per_min=0,
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


def spoil(sensors: Sensors, **counts: int) -> tuple[Array, Array, Array, list[Fact]]:
    """Signal before and after, contacts and facts."""
    rng = np.random.default_rng(0)
    before_CT = (10e-6 * rng.standard_normal((len(sensors.ch_names), 4000))).astype(np.float32)
    after_CT = before_CT.copy()
    contact_CC, facts = spoil_channels(
        after_CT,
        sensors=sensors,
        artefacts=NOTHING.model_copy(update=counts),
        typical_C=np.full(len(before_CT), 10e-6),
        rng=rng,
    )
    return before_CT, after_CT, contact_CC, facts


def test_bad_channels_are_different_and_as_described(cap: Sensors) -> None:
    counts = {"dead_channels": 2, "flat_channels": 1, "noisy_channels": 3, "loose_channels": 1, "bridged_pairs": 2}
    before_CT, after_CT, contact_CC, facts = spoil(cap, **counts)
    kinds = ("dead", "flat", "noisy", "loose", "bridged")
    bad = {kind: [cap.ch_names.index(f.channel) for f in facts if f.kind == kind] for kind in kinds}
    every = [at for picks in bad.values() for at in picks]
    assert [len(bad[kind]) for kind in kinds] == [2, 1, 3, 1, 4]
    assert len(set(every)) == 11
    assert not after_CT[bad["dead"]].any()
    assert 0 < after_CT[bad["flat"][0]].std() < 0.1e-6
    assert (after_CT[bad["noisy"]].std(axis=1) > 80e-6).all()
    assert after_CT[bad["loose"][0]].std() == pytest.approx(10e-6, rel=0.1)
    assert abs(np.corrcoef(after_CT[bad["loose"][0]], before_CT[bad["loose"][0]])[0, 1]) < 0.1
    assert len(np.unique(after_CT[bad["bridged"]].round(12), axis=0)) == 2, "each pair has one signal"
    sound = np.setdiff1d(np.arange(len(before_CT)), every)
    np.testing.assert_array_equal(after_CT[sound], before_CT[sound])
    through = [*sound, *bad["dead"], *bad["bridged"]]
    np.testing.assert_allclose(after_CT[through], contact_CC[through] @ before_CT, atol=1e-11)


def test_bridged_electrodes_are_neighbours(cap: Sensors) -> None:
    _, _, contact_CC, facts = spoil(cap, bridged_pairs=1)
    first, second = (cap.ch_names.index(fact.channel) for fact in facts)
    assert contact_CC[first, second] == 0.5
    distance = np.linalg.norm(cap.position_A3[: len(cap.ch_names)] - cap.position_A3[first], axis=1)
    assert np.argsort(distance).tolist().index(second) <= 3


def test_meg_gets_mains_and_bad_channels_but_no_blinks() -> None:
    helmet = meg_sensors(system="neuromag", n_places=8, sfreq=SFREQ, line_freq=60, position_P3=SOURCE)
    measured = plant(helmet, ArtefactConfig())
    kinds = {fact.kind for fact in measured.facts}
    assert {"line", "drift", "noise"} <= kinds
    assert not {"blink", "muscle"} & kinds
    counts = {"dead_channels": 1, "loose_channels": 1, "bridged_pairs": 1}
    assert [fact.kind for fact in spoil(helmet, **counts)[3]] == ["dead"], "only electrodes are loose or bridged"
    assert not measured.blink_T.any()
    assert {fact.unit for fact in measured.facts if fact.kind == "line"} == {"T", "T/m"}
