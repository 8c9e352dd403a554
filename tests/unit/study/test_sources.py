import numpy as np
import pytest
from scipy.signal import welch

from neuroloom.bold.parcels import template_parcels
from neuroloom.study import sources
from neuroloom.study.sources import Traits, coloured_noise, draw_traits, near, simulate_brain, task_events

HAND_LEFT, HAND_RIGHT, OCCIPITAL = (-38.0, -25.0, 55.0), (38.0, -25.0, 55.0), (18.0, -88.0, 5.0)


@pytest.fixture(scope="module")
def centroid_P3() -> np.ndarray:
    return template_parcels(32).centroid_P3


@pytest.fixture
def traits() -> Traits:
    return Traits(10.0, 1.0, 2.5, 0.5, (0.2, -1.0, 0.4), 30, "F", "R")


def test_noise_has_its_slope_and_stays_in_its_band() -> None:
    noise = coloured_noise(np.random.default_rng(0), 40, 20000, 100.0, exponent=1.5, l_freq=1.0, h_freq=30.0)
    freqs, power = welch(noise, 100.0, nperseg=2000)
    mean = power.mean(axis=0)
    inside = (freqs > 2) & (freqs < 28)
    slope = np.polyfit(np.log(freqs[inside]), np.log(mean[inside]), 1)[0]
    assert slope == pytest.approx(-1.5, abs=0.05)
    assert mean[freqs > 32].max() < 1e-3 * mean[inside].min()
    np.testing.assert_allclose(np.sqrt((noise**2).mean(axis=1)), 1, rtol=1e-5)


def test_rest_alternates_and_fills_the_recording() -> None:
    events = task_events("rest", 100.0, np.random.default_rng(0))
    assert events.label == ["eyes_open", "eyes_closed", "eyes_open", "eyes_closed"]
    np.testing.assert_allclose(np.diff(np.append(events.onset, 100.0)), events.duration)


def test_imagery_is_balanced_and_its_trials_do_not_touch() -> None:
    events = task_events("imagery", 150.0, np.random.default_rng(0))
    gaps = np.diff(events.onset) - 4.0
    assert gaps.min() >= 3.4
    assert gaps.max() <= 4.6
    assert abs(events.label.count("left_hand") - events.label.count("right_hand")) <= 1
    assert events.onset[-1] + 4 <= 150


def test_people_differ_and_are_reproducible() -> None:
    people = [draw_traits(np.random.default_rng(seed)) for seed in (0, 1, 0)]
    assert people[0] == people[2]
    assert people[0].alpha_hz != people[1].alpha_hz
    assert people[0].erd != people[1].erd


def band_power(source_PT: np.ndarray, mask_T: np.ndarray, low: float, high: float) -> np.ndarray:
    from mne.filter import filter_data

    return (filter_data(source_PT.astype(float), 100.0, low, high, verbose="error") ** 2)[:, mask_T].mean(axis=1)


def inside(events: sources.Events, label: str, n_times: int) -> np.ndarray:
    time_T = np.arange(n_times) / 100.0
    spans = zip(events.onset, events.duration, events.label, strict=True)
    return np.any([(time_T > on + 0.5) & (time_T < on + d - 0.5) for on, d, found in spans if found == label], axis=0)


def test_closed_eyes_raise_occipital_alpha_by_the_planted_gain(centroid_P3: np.ndarray, traits: Traits) -> None:
    brain = simulate_brain(
        centroid_P3=centroid_P3, task="rest", duration=400, sfreq=100, traits=traits, rng=np.random.default_rng(1)
    )
    masks = [inside(brain.events, label, brain.source_PT.shape[1]) for label in ("eyes_closed", "eyes_open")]
    closed_P, open_P = (band_power(brain.source_PT, mask, 8, 12) for mask in masks)
    ratio_P = closed_P / open_P
    visual = int(np.argmax(near(centroid_P3, OCCIPITAL)))
    assert 0.6 * traits.closed_gain**2 < ratio_P[visual] < 1.4 * traits.closed_gain**2
    assert ratio_P[near(centroid_P3, OCCIPITAL, (-18.0, -88.0, 5.0)) < 0.01].max() < 2


def test_imagery_lowers_mu_and_beta_on_the_other_side(centroid_P3: np.ndarray, traits: Traits) -> None:
    brain = simulate_brain(
        centroid_P3=centroid_P3, task="imagery", duration=600, sfreq=100, traits=traits, rng=np.random.default_rng(1)
    )
    masks = [inside(brain.events, label, brain.source_PT.shape[1]) for label in ("left_hand", "right_hand")]
    for low, high in ((8, 13), (15, 25)):
        left_P, right_P = (band_power(brain.source_PT, mask, low, high) for mask in masks)
        left_cortex, right_cortex = (int(np.argmax(near(centroid_P3, at))) for at in (HAND_LEFT, HAND_RIGHT))
        assert right_P[left_cortex] / left_P[left_cortex] == pytest.approx(1 - traits.erd, abs=0.2)
        assert left_P[right_cortex] / right_P[right_cortex] == pytest.approx(1 - traits.erd, abs=0.2)


def test_the_drive_is_the_weighted_band_power_of_the_source(centroid_P3: np.ndarray, traits: Traits) -> None:
    from mne.filter import filter_data
    from scipy.signal import hilbert

    brain = simulate_brain(
        centroid_P3=centroid_P3, task="rest", duration=300, sfreq=100, traits=traits, rng=np.random.default_rng(2)
    )
    visual = int(np.argmax(near(centroid_P3, OCCIPITAL)))
    alpha_T = filter_data(brain.source_PT[visual].astype(float), 100.0, 8, 12, verbose="error")
    power_G = (np.abs(hilbert(alpha_T)) ** 2).reshape(-1, 10).mean(axis=1)
    assert np.corrcoef(power_G, brain.drive_PG[visual, : len(power_G)])[0, 1] < -0.9


def test_an_invisible_parcel_has_a_field_and_a_bold_that_do_not_know_each_other(
    centroid_P3: np.ndarray, traits: Traits
) -> None:
    given = {"centroid_P3": centroid_P3, "task": "imagery", "duration": 2000, "sfreq": 50, "traits": traits}
    plain, hidden = (
        simulate_brain(**given, rng=np.random.default_rng(3), invisible=parcels) for parcels in ((), (2, 11))
    )
    np.testing.assert_array_equal(hidden.source_PT, plain.source_PT)
    np.testing.assert_array_equal(hidden.power_BPG, plain.power_BPG)
    others = np.setdiff1d(np.arange(len(centroid_P3)), (2, 11))
    np.testing.assert_array_equal(hidden.drive_PG[others], plain.drive_PG[others])
    series_KG = np.concatenate([hidden.drive_PG[others], *hidden.power_BPG])
    related = np.corrcoef(np.concatenate([hidden.drive_PG[[2, 11]], series_KG]))[:2, 2:]
    assert np.abs(related).max() < 0.35  # of 0.1 Hz noise: some 200 independent values
    assert np.abs(np.corrcoef(plain.drive_PG[[2, 11]], plain.drive_PG[others])[:2, 2:]).max() > 0.5


def test_neighbours_and_mirrored_parcels_fluctuate_together(centroid_P3: np.ndarray, traits: Traits) -> None:
    brain = simulate_brain(
        centroid_P3=centroid_P3, task="imagery", duration=1000, sfreq=100, traits=traits, rng=np.random.default_rng(3)
    )
    related_PP = np.corrcoef(brain.drive_PG)
    apart_PP = np.linalg.norm(centroid_P3[:, None] - centroid_P3, axis=2)
    across_PP = np.linalg.norm(centroid_P3[:, None] - centroid_P3 * [-1, 1, 1], axis=2)
    unrelated = related_PP[(apart_PP > 80) & (across_PP > 80)].mean()
    assert related_PP[(apart_PP < 30) & (apart_PP > 0)].mean() > unrelated + 0.3
    assert related_PP[(across_PP < 1) & (apart_PP > 60)].mean() > unrelated + 0.15
