"""Fixtures that many tests share: a small recording, its store, and where the real recordings are."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neuroloom.artifacts import write_artifact
from neuroloom.records import Events, Recording

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that a test has asked for end with it.

    Networks of a few hundred weights are many times slower on several threads, and those of BLAS spin while they wait:
    they would take the cores from all later tests of this process.
    """
    _use_one_thread()
    yield
    _use_one_thread()


def _use_one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch and torch.get_num_threads() > 1:
        from neuroloom.training.processes import set_threads

        set_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real recordings; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("NEUROLOOM_REAL_DATA", ROOT / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}; set NEUROLOOM_REAL_DATA")
    return folder


def make_recording(
    rng: np.random.Generator, *, n_channels: int = 19, sfreq: float = 250.0, seconds: float = 20.0
) -> Recording:
    """EEG with 1/f noise shared between neighbours, at electrodes of the 10-20 system."""
    import mne

    names = mne.channels.make_standard_montage("colin27_1020").ch_names
    wanted = [
        "Fp1",
        "Fp2",
        "F7",
        "F3",
        "Fz",
        "F4",
        "F8",
        "T7",
        "C3",
        "Cz",
        "C4",
        "T8",
        "P7",
        "P3",
        "Pz",
        "P4",
        "P8",
        "O1",
        "O2",
    ]
    names = [name for name in wanted if name in names][:n_channels]
    montage = mne.channels.make_standard_montage("colin27_1020").get_positions()["ch_pos"]
    position_C3 = np.array([montage[name] for name in names])
    n_times = int(seconds * sfreq)
    spectrum = np.fft.rfft(rng.standard_normal((n_channels, n_times)))
    spectrum[:, 1:] /= np.sqrt(np.fft.rfftfreq(n_times, 1 / sfreq)[1:])
    noise_CT = np.fft.irfft(spectrum, n_times)
    near_CC = np.exp(-((np.linalg.norm(position_C3[:, None] - position_C3[None], axis=2) / 0.07) ** 2))
    signal_CT = near_CC @ noise_CT
    signal_CT *= 10e-6 / signal_CT.std(axis=1, keepdims=True)
    loc_C12 = np.full((n_channels, 12), np.nan)
    loc_C12[:, :3] = position_C3
    return Recording(
        signal_CT=signal_CT.astype(np.float32),
        sfreq=sfreq,
        ch_names=names,
        ch_types=["eeg"] * n_channels,
        units=["V"] * n_channels,
        status=["good"] * n_channels,
        coil_C=np.ones(n_channels, np.int32),
        loc_C12=loc_C12.astype(np.float32),
        events=Events(np.array([1.0, 5.0]), np.array([0.5, 0.5]), ["left", "right"]),
        line_freq=50.0,
    )


@pytest.fixture
def recording(rng: np.random.Generator) -> Recording:
    return make_recording(rng)


@pytest.fixture
def store(recording: Recording, tmp_path: Path) -> Path:
    """A written `recording` store of 20 s in windows of 2 s."""
    path = tmp_path / "a.zarr"
    write_artifact(path, "recording", arrays=recording.arrays(), attrs=recording.attrs(), window=500)
    return path
