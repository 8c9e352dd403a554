from pathlib import Path

import mne
import numpy as np
import pytest

from neuroloom.config import MeegConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Recording
from neuroloom.signals.empty_room import EmptyRoom, read_empty_room, room_matrix
from neuroloom.signals.magnetic import fit_magnetic
from neuroloom.signals.preprocess import measure_room

SFREQ, N_TIMES, N_MAG, N_GRAD = 200.0, 4000, 24, 12
KINDS = ["mag"] * N_MAG + ["grad"] * N_GRAD + ["eeg"] * 2
COILS = {"mag": 3024, "grad": 3012, "eeg": 1}


def machine(signal_CT: np.ndarray, **site_files: str) -> Recording:
    """Magnetometers, gradiometers and two electrodes, without a geometry: nothing but projections is possible."""
    n_channels = len(signal_CT)
    return Recording(
        signal_CT=signal_CT.astype(np.float32),
        sfreq=SFREQ,
        ch_names=[f"{kind}{at}" for at, kind in enumerate(KINDS)][:n_channels],
        ch_types=KINDS[:n_channels],
        units=["T"] * n_channels,
        status=["good"] * n_channels,
        coil_C=np.array([COILS[kind] for kind in KINDS[:n_channels]], np.int32),
        loc_C12=np.full((n_channels, 12), np.nan, np.float32),
        site_files=site_files,
    )


def noise(n_channels: int = len(KINDS), seed: int = 0) -> np.ndarray:
    worth = np.array([{"mag": 1e-14, "grad": 3e-13, "eeg": 1e-6}[kind] for kind in KINDS[:n_channels]])
    return worth[:, None] * np.random.default_rng(seed).standard_normal((n_channels, N_TIMES))


PATTERN = np.random.default_rng(5).standard_normal((N_MAG, 2)) * [1e-12, 3e-13]


def room(**changes: object) -> EmptyRoom:
    """Two patterns in the magnetometers, and noise."""
    signal_CT = noise(N_MAG + N_GRAD)
    signal_CT[:N_MAG] += PATTERN @ np.random.default_rng(6).standard_normal((2, N_TIMES))
    there = machine(signal_CT)
    facts = {"file": "er.fif", "ch_names": there.ch_names, "ch_types": there.ch_types, "coil_C": there.coil_C}
    return EmptyRoom(**{**facts, "covariance_CC": np.cov(signal_CT), "duration": 20.0, "bads": {}, **changes})


def test_patterns_of_the_room_go_and_nothing_else() -> None:
    recording = machine(noise(seed=1))
    matrix_CC, note = room_matrix(room(), recording, [])
    assert note == "components of the empty room er.fif (20 s) projected out (2 from 24 mag)"
    left = np.linalg.norm(matrix_CC[:N_MAG, :N_MAG] @ PATTERN, axis=0) / np.linalg.norm(PATTERN, axis=0)
    assert left.max() < 0.05
    assert np.linalg.matrix_rank(matrix_CC[:N_MAG, :N_MAG]) == N_MAG - 2
    np.testing.assert_array_equal(matrix_CC[N_MAG:], np.eye(len(matrix_CC))[N_MAG:])


def test_bads_of_both_are_left_out() -> None:
    recording = machine(noise(seed=1))
    matrix_CC, note = room_matrix(room(bads={"mag3": "flat"}), recording, ["mag7"])
    assert "2 from 22 mag" in note
    np.testing.assert_array_equal(matrix_CC[[3, 7]], np.eye(len(matrix_CC))[[3, 7]])
    np.testing.assert_array_equal(matrix_CC[:, [3, 7]], np.eye(len(matrix_CC))[:, [3, 7]])
    assert room(bads={"mag3": "flat", "mag7": "noisy"}).lost(["mag7"]) == {"mag3": "bad in the empty room: flat"}


def test_channels_are_joined_by_name() -> None:
    """The order of the file does not matter, and channels that are there alone do not either."""
    recording = machine(noise(seed=1))
    there = room()
    order = np.random.default_rng(0).permutation(len(there.ch_names))
    shuffled = room(
        ch_names=[there.ch_names[at] for at in order],
        ch_types=[there.ch_types[at] for at in order],
        coil_C=there.coil_C[order],
        covariance_CC=there.covariance_CC[np.ix_(order, order)],
    )
    np.testing.assert_allclose(room_matrix(shuffled, recording, [])[0], room_matrix(there, recording, [])[0], atol=1e-6)


def test_a_quiet_room_leaves_the_recording_to_its_own_loud_seconds() -> None:
    signal_CT = noise(seed=1)
    signal_CT[:N_MAG, 1000:1800] += PATTERN[:, :1] @ np.random.default_rng(2).standard_normal((1, 800))
    recording = machine(signal_CT)
    quiet = room(covariance_CC=np.cov(noise(N_MAG + N_GRAD)))
    assert room_matrix(quiet, recording, []) == (None, "no component of the empty room er.fif stands out of its noise")
    fit = fit_magnetic(recording, signal_CT, [], room=lambda: quiet)
    assert fit.method == "ssp"
    assert "er.fif stands out of its noise; components of the recording's loud seconds projected out" in fit.note
    assert fit.lost == {}


def test_a_room_is_measured_only_where_it_is_needed() -> None:
    def never() -> EmptyRoom:
        raise AssertionError("measured")

    recording = machine(noise(seed=1))
    assert fit_magnetic(recording, recording.signal_CT, [], method="none", room=never).method == "none"
    with pytest.raises(AssertionError, match="measured"):
        fit_magnetic(recording, recording.signal_CT, [], method="ssp", room=never)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ch_names": [f"other{at}" for at in range(N_MAG + N_GRAD)]}, r"er\.fif: .* lacks 36 of 36 channels \(mag0, "),
        ({"ch_names": ["x", *room().ch_names[1:]]}, r"er\.fif: .* lacks 1 of 36 channels \(mag0\)"),
        (
            {"coil_C": np.full(N_MAG + N_GRAD, 5001)},
            r"another machine \(mag0 is a coil of type 5001 there, 3024 here\)",
        ),
    ],
)
def test_another_machine_is_an_error(changes: dict[str, object], message: str) -> None:
    recording = machine(noise(seed=1))
    with pytest.raises(ValueError, match=message):
        room_matrix(room(**changes), recording, [])
    if "ch_names" in changes and changes["ch_names"][0] == "x":
        assert room_matrix(room(**changes), recording, ["mag0"])[0] is not None


def test_versions_of_one_coil_are_one_coil() -> None:
    older = np.where(room().coil_C == 3024, 3022, room().coil_C)
    assert room_matrix(room(coil_C=older), machine(noise(seed=1)), [])[0] is not None


def test_a_room_is_measured_through_the_filter_with_its_own_bads() -> None:
    """What is slower than the band-pass does not count, however strong."""
    signal_CT = noise(N_MAG + N_GRAD)
    time_T = np.arange(N_TIMES) / SFREQ
    signal_CT[:N_MAG] += PATTERN[:, :1] * np.sin(2 * np.pi * 12 * time_T)
    signal_CT[:N_MAG] += 100 * PATTERN[:, 1:] * np.sin(2 * np.pi * 0.05 * time_T)
    signal_CT[4] = 0.0
    found = measure_room(
        machine(signal_CT, empty_room="er.fif"), config=MeegConfig(sfreq=SFREQ), rng=np.random.default_rng(0)
    )
    assert (found.file, found.duration) == ("er.fif", 20.0)
    assert list(found.bads) == ["mag4"]
    first = np.linalg.svd(found.covariance_CC[:N_MAG, :N_MAG])[0][:, 0]
    expected = np.where(np.arange(N_MAG) == 4, 0, PATTERN[:, 0])
    assert abs(first @ expected) / np.linalg.norm(expected) > 0.99


def test_reading_looks_at_coils_alone(tmp_path: Path) -> None:
    """Electrodes without positions, and whatever else is on, are left out."""
    info = mne.create_info(["MEG0111", "MEG0112", "EEG001", "STI001"], SFREQ, ["mag", "grad", "eeg", "stim"])
    for channel in info["chs"][:2]:
        channel["loc"][:] = np.r_[0.1, 0, 0, np.eye(3).ravel()]
    path = tmp_path / "er_raw.fif"
    mne.io.RawArray(1e-13 * np.random.default_rng(0).standard_normal((4, 400)), info, verbose="error").save(
        path, verbose="error"
    )
    found = read_empty_room(path)
    assert found.ch_names == ["MEG0111", "MEG0112"]
    assert found.site_files == {"empty_room": str(path)}


def test_a_room_without_coils_is_named(tmp_path: Path) -> None:
    path = tmp_path / "er_raw.fif"
    raw = mne.io.RawArray(np.zeros((1, 400)), mne.create_info(["Cz"], SFREQ, "eeg"), verbose="error")
    raw.save(path, verbose="error")
    with pytest.raises(UnusableRecording, match=r"er_raw\.fif: no MEG channel"):
        read_empty_room(path)
