import mne
import numpy as np
import pytest
from mne.filter import filter_data
from mne.io.constants import FIFF

from neuroloom.bold.parcels import template_parcels
from neuroloom.study.sensors import (
    ELECTRODES,
    HELMET_RADIUS,
    eeg_sensors,
    head,
    meg_sensors,
    orientations,
    source_positions,
)
from neuroloom.study.sources import draw_traits, simulate_brain

RATES = {"sfreq": 200.0, "line_freq": 50.0}


@pytest.fixture(scope="module")
def position_P3() -> np.ndarray:
    return source_positions(template_parcels(32).centroid_P3)


def test_montages_have_their_sizes_and_known_names() -> None:
    known = set(mne.channels.make_standard_montage("colin27_1005").ch_names)
    for size, names in ELECTRODES.items():
        assert len(set(names.split())) == size
        assert set(names.split()) <= known


def test_sources_lie_inside_the_innermost_shell(position_P3: np.ndarray) -> None:
    far_P3 = source_positions(np.array([[0.0, -200.0, 0.0], [0.0, -40.0, 20.0]]))
    radius = [np.linalg.norm(p - head().sphere["r0"], axis=1) for p in (position_P3, far_P3)]
    inner = head().sphere["layers"][0]["rad"]
    assert radius[0].max() < inner
    assert radius[1][0] == pytest.approx(0.9 * inner)
    # A rigid transform: what is inside is not scaled.
    pair = source_positions(np.array([[10.0, -40.0, 20.0], [-10.0, -40.0, 20.0]]))
    assert np.linalg.norm(pair[0] - pair[1]) == pytest.approx(0.020, rel=1e-6)


def test_left_is_left_and_the_back_is_the_back(position_P3: np.ndarray) -> None:
    sensors = eeg_sensors(n_eeg=64, reference="average", position_P3=position_P3, **RATES)
    centroid_P3 = template_parcels(32).centroid_P3
    back, left = int(np.argmin(centroid_P3[:, 1])), int(np.argmin(centroid_P3[:, 0]))
    radial_P3 = position_P3 - head().sphere["r0"]
    radial_P3 /= np.linalg.norm(radial_P3, axis=1, keepdims=True)
    map_CP = np.einsum("cpk,pk->cp", sensors.leadfield_CP3, radial_P3)
    assert sensors.ch_names[int(np.argmax(map_CP[:, back]))] in {"O1", "O2", "Oz", "Iz", "PO7", "PO8", "PO3", "PO4"}
    assert sensors.ch_names[int(np.argmax(map_CP[:, left]))] in {"T7", "FT7", "TP7", "C5", "FC5", "CP5", "F7", "TP9"}


@pytest.mark.parametrize(("reference", "lost"), [("average", set()), ("Cz", {"Cz"}), ("ears", set())])
def test_references(position_P3: np.ndarray, reference: str, lost: set[str]) -> None:
    sensors = eeg_sensors(n_eeg=19, reference=reference, position_P3=position_P3, **RATES)  # type: ignore[arg-type]
    assert set(ELECTRODES[19].split()) - set(sensors.ch_names) == lost
    assert sensors.leadfield_CP3.shape == (19 - len(lost), 32, 3)
    np.testing.assert_allclose(sensors.reference_CA.sum(axis=1), 0, atol=1e-12)
    if reference == "average":
        np.testing.assert_allclose(sensors.leadfield_CP3.sum(axis=0), 0, atol=1e-9 * sensors.leadfield_CP3.max())


def test_one_brain_seen_against_two_references(position_P3: np.ndarray) -> None:
    average, ears = (
        eeg_sensors(n_eeg=32, reference=name, position_P3=position_P3, **RATES)  # type: ignore[arg-type]
        for name in ("average", "ears")
    )
    again_CP3 = ears.leadfield_CP3 - ears.leadfield_CP3.mean(axis=0)
    np.testing.assert_allclose(again_CP3, average.leadfield_CP3, atol=1e-4 * np.abs(again_CP3).max())


@pytest.mark.parametrize(("system", "n_coils"), [("neuromag", 3), ("ctf", 1)])
def test_helmets(position_P3: np.ndarray, system: str, n_coils: int) -> None:
    sensors = meg_sensors(system=system, n_places=30, position_P3=position_P3, **RATES)  # type: ignore[arg-type]
    assert len(sensors.ch_names) == len(set(sensors.ch_names)) == 30 * n_coils
    coils = [channel["coil_type"] for channel in sensors.info["chs"][:n_coils]]
    expected = [FIFF.FIFFV_COIL_VV_MAG_T3, FIFF.FIFFV_COIL_VV_PLANAR_T1, FIFF.FIFFV_COIL_VV_PLANAR_T1]
    assert coils == (expected if system == "neuromag" else [FIFF.FIFFV_COIL_CTF_GRAD])
    for channel in sensors.info["chs"]:
        axes = channel["loc"][3:12].reshape(3, 3)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(axes) == pytest.approx(1)
        np.testing.assert_allclose(axes[2] * HELMET_RADIUS, channel["loc"][:3] - head().sphere["r0"], atol=1e-6)
    face = sensors.position_A3 - head().sphere["r0"]
    assert not np.any((face[:, 1] > 0.08) & (face[:, 2] < -0.02))
    assert np.linalg.norm(face, axis=1).min() > head().sphere["layers"][-1]["rad"]


def test_meg_does_not_see_radial_sources(position_P3: np.ndarray) -> None:
    sensors = meg_sensors(system="neuromag", n_places=20, position_P3=position_P3, **RATES)
    radial_P3 = position_P3 - head().sphere["r0"]
    radial_P3 /= np.linalg.norm(radial_P3, axis=1, keepdims=True)
    radial_CP = np.einsum("cpk,pk->cp", sensors.leadfield_CP3, radial_P3)
    fixed_CP = np.einsum("cpk,pk->cp", sensors.leadfield_CP3, orientations(position_P3, np.random.default_rng(0)))
    assert np.abs(radial_CP).max() < 1e-6 * np.abs(fixed_CP).max()


def test_orientations_are_mixtures_of_radial_and_tangential(position_P3: np.ndarray) -> None:
    direction_P3 = orientations(position_P3, np.random.default_rng(0))
    radial_P3 = position_P3 - head().sphere["r0"]
    tilt_P = np.rad2deg(np.arccos((direction_P3 * radial_P3).sum(axis=1) / np.linalg.norm(radial_P3, axis=1)))
    np.testing.assert_allclose(np.linalg.norm(direction_P3, axis=1), 1)
    assert 15 <= tilt_P.min() < 30
    assert 45 < tilt_P.max() <= 60


def test_desynchronisation_is_seen_over_the_other_hand() -> None:
    """C3 loses mu and beta power in imagery of the right hand, C4 of the left."""
    centroid_P3 = template_parcels(64).centroid_P3
    position_P3 = source_positions(centroid_P3)
    cap = eeg_sensors(n_eeg=64, reference="average", sfreq=100, line_freq=50, position_P3=position_P3)
    leadfield_CP = np.einsum("cpk,pk->cp", cap.leadfield_CP3, orientations(position_P3, np.random.default_rng(0)))
    person = draw_traits(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    brain = simulate_brain(centroid_P3=centroid_P3, task="imagery", duration=600, sfreq=100, traits=person, rng=rng)
    power_CT = filter_data(leadfield_CP @ brain.source_PT, 100.0, 8, 25, verbose="error") ** 2
    time_T = np.arange(power_CT.shape[1]) / 100
    power = {}
    for hand in ("left_hand", "right_hand"):
        onsets = [onset for onset, label in zip(brain.events.onset, brain.events.label, strict=True) if label == hand]
        inside_T = np.any([(time_T > onset + 0.5) & (time_T < onset + 3.5) for onset in onsets], axis=0)
        power[hand] = dict(zip(cap.ch_names, power_CT[:, inside_T].mean(axis=1), strict=True))
    assert 0.5 < power["right_hand"]["C3"] / power["left_hand"]["C3"] < 0.85
    assert 0.5 < power["left_hand"]["C4"] / power["right_hand"]["C4"] < 0.85
