"""Interference of an empty room out of simulated MEG, through the whole of preprocessing, against the same without."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from neuroloom.bold.parcels import template_parcels
from neuroloom.config import MeegConfig
from neuroloom.dims import UNITS
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Recording
from neuroloom.signals.filters import apply_kernel, design_kernel
from neuroloom.signals.ingest import head_locations
from neuroloom.signals.magnetic_scores import dipole_change, interference_drop
from neuroloom.signals.preprocess import preprocess_meeg
from neuroloom.study.interference import dipole_course, dipole_topography, plant_interference, strongest_parcel
from neuroloom.study.sensors import Sensors, meg_sensors, orientations, source_positions
from neuroloom.study.sources import draw_traits, simulate_brain

Array = np.ndarray
SFREQ, SECONDS, SIZE = 200.0, 60.0, 28.0
PLACES = {"neuromag": 34, "ctf": 60}
CONFIG = MeegConfig(sfreq=SFREQ, notch=False, mantissa_bits=None)


@cache
def helmet(system: str) -> Sensors:
    """Without reference coils, so that the axial gradiometers have nothing better than a projection."""
    position_P3 = source_positions(template_parcels(64).centroid_P3)
    return meg_sensors(system=system, n_places=PLACES[system], sfreq=SFREQ, line_freq=50.0, position_P3=position_P3)


def recording_of(sensors: Sensors, signal_CT: Array, **site_files: str) -> Recording:
    n_channels = len(sensors.ch_names)
    return Recording(
        signal_CT=signal_CT.astype(np.float32),
        sfreq=SFREQ,
        ch_names=sensors.ch_names,
        ch_types=sensors.ch_types,
        units=[UNITS[kind] for kind in sensors.ch_types],
        status=["good"] * n_channels,
        coil_C=np.array([int(channel["coil_type"]) for channel in sensors.info["chs"]], np.int32),
        loc_C12=head_locations(sensors.info),
        line_freq=50.0,
        site_files=site_files,
    )


@cache
def session(system: str, seed: int) -> tuple[Array, Array, Array]:
    """A brain with noise of SQUIDs and a planted dipole, interference, and the same room at another time, empty."""
    sensors, rng = helmet(system), np.random.default_rng(seed)
    centroid_P3 = template_parcels(64).centroid_P3
    brain = simulate_brain(
        centroid_P3=centroid_P3, task="rest", duration=SECONDS, sfreq=SFREQ, traits=draw_traits(rng), rng=rng
    )
    direction_P3 = orientations(source_positions(centroid_P3), np.random.default_rng(0))
    clean_CT = np.einsum("cpk,pk->cp", sensors.leadfield_CP3, direction_P3) @ brain.source_PT
    now, later = (
        plant_interference(clean_CT, sensors=sensors, size=SIZE, rng=np.random.default_rng(seed)) for _ in "ab"
    )
    later = replace(
        later, course_ST=np.stack([np.roll(course_T, 997 * at) for at, course_T in enumerate(later.course_ST, 1)])
    )
    noise_C1 = np.where(np.array(sensors.ch_types) == "grad", 3e-13, 3e-15)[:, None] * np.sqrt(SFREQ / 2)
    room_CT = later.at(sensors.info) + noise_C1 * rng.standard_normal(clean_CT.shape)
    clean_CT = (
        clean_CT + noise_C1 * rng.standard_normal(clean_CT.shape) + dipole(system)[0][:, None] * dipole(system)[1]
    )
    return clean_CT, now.signal_CT, room_CT


@cache
def dipole(system: str) -> tuple[Array, Array]:
    sensors = helmet(system)
    return dipole_topography(sensors, parcel=strongest_parcel(sensors)), dipole_course(int(SECONDS * SFREQ), SFREQ)


def cleaned(system: str, seed: int, *, with_room: bool, magnetic: str, bads: tuple[str, ...] = ()):
    """The recording as preprocessed and its notes, and figures by coil type: drop, and change of the dipole."""
    sensors = helmet(system)
    clean_CT, interference_CT, room_CT = session(system, seed)
    room = recording_of(sensors, room_CT, empty_room="sub-emptyroom_meg.fif")
    room = replace(room, status=["bad: marked in the file" if name in bads else "good" for name in room.ch_names])
    clean, qc = preprocess_meeg(
        recording=recording_of(sensors, clean_CT + interference_CT),
        config=CONFIG.model_copy(update={"magnetic": magnetic}),
        window=5.0,
        file="sub-01_meg.fif",
        rng=np.random.default_rng(0),
        empty_room=room if with_room else None,
    )
    assert clean.mixing is not None
    matrix_CC = clean.mixing[0]
    kernel = design_kernel(SFREQ, l_freq=CONFIG.l_freq, h_freq=CONFIG.h_freq)
    brain_CT, room_now_CT = (apply_kernel(part.astype(np.float32), kernel) for part in (clean_CT, interference_CT))
    topography_C, course_T = dipole(system)
    drop = interference_drop(room_now_CT, matrix_CC @ room_now_CT, ch_types=sensors.ch_types)
    change = dipole_change(
        brain_CT,
        matrix_CC @ (brain_CT + room_now_CT),
        topography_C=topography_C,
        course_T=course_T,
        ch_types=sensors.ch_types,
        matrix_CC=matrix_CC,
    )
    return clean, qc, drop, change


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("system", "magnetic"), [("neuromag", "ssp"), ("ctf", "auto")])
def test_a_room_takes_interference_out_and_leaves_the_dipole(system: str, magnetic: str, seed: int) -> None:
    """The amplitude is that of a source model that knows of the projection, as it is in the store."""
    _, qc, drop, change = cleaned(system, seed, with_room=True, magnetic=magnetic)
    assert "components of the empty room sub-emptyroom_meg.fif (60 s) projected out" in qc.notes
    assert min(drop.values()) >= 20
    assert max(map(abs, change.values())) < 0.05
    _, _, without, _ = cleaned(system, seed, with_room=False, magnetic=magnetic)
    assert min(drop.values()) >= min(without.values()) + 10


def test_a_helmet_that_tells_inner_from_outer_fields_needs_no_room() -> None:
    _, qc, _, _ = cleaned("neuromag", 1, with_room=True, magnetic="auto")
    assert "signal space separation with 102 good coils" in qc.notes
    assert "empty room" not in qc.notes


def test_a_coil_that_is_bad_in_the_room_is_rebuilt_from_its_neighbours() -> None:
    """It could not be cleaned, so it must not stay as it was."""
    name = helmet("ctf").ch_names[20]
    clean, qc, drop, _ = cleaned("ctf", 1, with_room=True, magnetic="auto", bads=(name,))
    assert qc.bads == {name: "bad in the empty room: marked in the file"}
    assert clean.status[20] == "interpolated: bad in the empty room: marked in the file"
    assert clean.mixing is not None
    assert clean.mixing[0][20, 20] == 0
    assert "from 59 mag" in qc.notes
    assert min(drop.values()) >= 20


def test_a_room_of_another_machine_is_refused_with_both_files() -> None:
    sensors = helmet("ctf")
    clean_CT, interference_CT, room_CT = session("ctf", 1)
    room = recording_of(sensors, room_CT, empty_room="sub-emptyroom_meg.fif")
    other = replace(room, ch_names=[f"X{name}" for name in room.ch_names])
    with pytest.raises(UnusableRecording, match=r"sub-01_meg\.fif: sub-emptyroom_meg\.fif: .* lacks 60 of 60 channels"):
        preprocess_meeg(
            recording=recording_of(sensors, clean_CT + interference_CT),
            config=CONFIG,
            window=5.0,
            file="sub-01_meg.fif",
            rng=np.random.default_rng(0),
            empty_room=other,
        )
