from functools import cache

import numpy as np
import pytest

from neuroloom.signals.filters import welch_psd
from neuroloom.study.interference import (
    DISTANCE_M,
    Interference,
    dipole_course,
    dipole_topography,
    far_field,
    join_sensors,
    measure_references,
    plant_interference,
    reference_sensors,
    strongest_parcel,
)
from neuroloom.study.sensors import Sensors, meg_sensors

SFREQ, SECONDS = 200.0, 60.0
SOURCES = np.array([[0.0, 0.02, 0.08], [-0.04, 0.0, 0.06], [0.04, 0.0, 0.06]])


@cache
def helmet(system: str) -> Sensors:
    return meg_sensors(system=system, n_places=20, sfreq=SFREQ, line_freq=50, position_P3=SOURCES)


@cache
def references() -> Sensors:
    return reference_sensors(sfreq=SFREQ, line_freq=50, position_P3=SOURCES)


def brain(sensors: Sensors) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal((len(sensors.ch_names), int(SFREQ * SECONDS)))
    worth = np.where(np.array(sensors.ch_types) == "mag", 200e-15, 3e-12)
    return (worth[:, None] * noise).astype(np.float32)


def planted(system: str, *, size: float = 26.0, seed: int = 0) -> Interference:
    sensors = helmet(system)
    return plant_interference(brain(sensors), sensors=sensors, size=size, rng=np.random.default_rng(seed))


def rms(signal_CT: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(signal_CT.astype(float) ** 2, axis=1))


def test_size_is_that_of_the_median_magnetometer() -> None:
    mags = np.array(helmet("neuromag").ch_types) == "mag"
    ratio = np.median(rms(planted("neuromag", size=26).signal_CT[mags])) / np.median(
        rms(brain(helmet("neuromag"))[mags])
    )
    assert 20 * np.log10(ratio) == pytest.approx(26, abs=0.1)


def test_distant_sources_are_almost_homogeneous() -> None:
    """Differences across 17 and 50 mm are a few per cent of the field, and magnetometers differ by their direction."""
    found = planted("neuromag")
    kinds = np.array(helmet("neuromag").ch_types)
    field = np.median(rms(found.signal_CT[kinds == "mag"]))
    assert np.median(rms(found.signal_CT[kinds == "grad"])) * 0.0168 < 0.05 * field
    axial = planted("ctf")
    assert np.median(rms(axial.signal_CT)) < 0.15 * np.median(rms(axial.at(references().info)[[0, 1, 2]]))
    distance = np.linalg.norm(found.position_S3, axis=1)
    assert ((distance > 1.9) & (distance < 10.1)).all()


def test_each_source_has_its_band() -> None:
    course_ST = planted("neuromag").course_ST
    freqs, psd = welch_psd(course_ST, SFREQ, seconds=8.0)
    inside = {"lift": (0, 1.5), "traffic": (0, 2.5), "machine": (15, 25), "switching": (2.5, 95)}
    for kind, row in zip(DISTANCE_M, psd, strict=True):
        low, high = inside[kind]
        assert row[(freqs >= low) & (freqs <= high)].sum() > 0.95 * row.sum()


def test_facts_tell_the_field_of_each_source_and_the_bursts() -> None:
    found = planted("neuromag")
    fields = {fact.kind: fact.value for fact in found.facts if fact.unit == "T"}
    assert set(fields) == {f"interference_{kind}" for kind in DISTANCE_M}
    values = np.array(list(fields.values()))
    assert values.max() < 1.05 * values.min()  # each as strong as the others
    bursts = [fact for fact in found.facts if fact.kind == "interference_burst"]
    assert len(bursts) == 6
    quiet = np.ones(int(SFREQ * SECONDS), bool)
    for burst in bursts:
        quiet[int(burst.onset * SFREQ) : int((burst.onset + burst.duration) * SFREQ) + 2] = False
    assert not found.course_ST[3, quiet].any()


def test_equal_generators_plant_equal_interference() -> None:
    np.testing.assert_array_equal(planted("ctf").signal_CT, planted("ctf").signal_CT)
    r = np.corrcoef(planted("ctf").signal_CT[0], planted("ctf", seed=1).signal_CT[0])[0, 1]
    assert abs(r) < 0.3


def test_unknown_coils_are_named() -> None:
    info = helmet("neuromag").info.copy()
    info["chs"][0]["coil_type"] = 6001
    with pytest.raises(ValueError, match="MEG0011: coil type 6001"):
        planted("neuromag").at(info)


def test_references_see_the_room_and_hardly_the_brain() -> None:
    found = planted("ctf")
    source_PT = 20e-9 * np.random.default_rng(2).standard_normal((3, int(SFREQ * SECONDS)))
    direction_P3 = np.tile([1.0, 0.0, 0.0], (3, 1))
    rng = np.random.default_rng(3)
    measured = measure_references(
        references(), interference=found, source_PT=source_PT, direction_P3=direction_P3, rng=rng
    )
    rest = measured - found.at(references().info)
    np.testing.assert_allclose(rms(rest), 3e-15 * np.sqrt(SFREQ / 2), rtol=0.1)
    assert (rms(found.at(references().info)) > 3 * rms(rest)).all()
    seen = np.abs(references().leadfield_CP3[:, 0]).max() / np.abs(helmet("ctf").leadfield_CP3[:, 0]).max()
    assert seen < 0.03


def test_references_determine_field_and_gradients() -> None:
    """Eight coils of one height, eight unknowns: three components and five derivatives."""
    far = np.random.default_rng(0).standard_normal((30, 3))
    far *= 6.0 / np.linalg.norm(far, axis=1, keepdims=True)
    seen = far_field(references().info, far).reshape(16, -1)
    scaled = seen[:8] / np.linalg.norm(seen[:8], axis=1, keepdims=True)
    assert np.linalg.cond(scaled) < 100


def test_joined_sensors_keep_coils_and_order() -> None:
    joined = join_sensors(helmet("ctf"), references())
    assert joined.ch_types == ["mag"] * 20 + ["ref_meg"] * 16 == joined.info.get_channel_types()
    assert joined.info["ch_names"] == joined.ch_names
    coils = [int(channel["coil_type"]) for channel in joined.info["chs"]]
    assert coils == [5001] * 20 + [5002, 5002, 5002, 5003, 5003, 5004, 5004, 5004] * 2
    assert joined.leadfield_CP3.shape == (36, 3, 3)
    assert joined.info["dig"]
    assert joined.info["line_freq"] == 50


def test_the_dipole_is_the_best_seen_one_of_its_parcel() -> None:
    sensors = helmet("neuromag")
    mags = np.array(sensors.ch_types) == "mag"
    parcel = strongest_parcel(sensors)
    topography = dipole_topography(sensors, parcel=parcel)
    best = max(np.linalg.norm(sensors.leadfield_CP3[mags, parcel] @ axis) for axis in np.eye(3))
    assert np.linalg.norm(topography[mags]) >= best
    others = [np.linalg.norm(dipole_topography(sensors, parcel=at)[mags]) for at in range(3)]
    assert np.argmax(others) == parcel


def test_the_course_is_a_burst_every_two_seconds() -> None:
    course = dipole_course(int(SFREQ * 10), SFREQ, moment=1.0)
    freqs, psd = welch_psd(course[None], SFREQ, seconds=2.0)
    assert freqs[psd[0].argmax()] == pytest.approx(31, abs=0.6)
    assert np.abs(course).max() == pytest.approx(1, abs=0.05)
    assert not course[int(1.01 * SFREQ) : int(1.99 * SFREQ)].any()
