"""Linear prediction of 720 windows of 2,500 samples, order 16: ours against one window or one sample at a time.

    python benchmarks/lipcot_features.py [--repeats 5] [--corpus 12]

Plain: statsmodels' `burg`, window by window, and Burg's lattice in NumPy over the 59 channels of a record. Warped: that
lattice with the all-pass in a Python loop over samples, which is how the published code works. Ours runs in one thread
and in two (halves of the windows). The fastest of all repeats counts, and the repeats of all programs take turns, so
that a busy machine slows all of them. Coefficients of all are compared.

With `--corpus`, as many recordings of ten minutes are stored, and the pass of LiPCoT over them is timed: one after the
other, in two threads, and in two worker processes of a Dask cluster that has done one pass before.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measure import keep

os.environ.setdefault("OMP_NUM_THREADS", "1")
W, T, ORDER, WARP, CHANNELS, SFREQ = 720, 2500, 16, 0.2, 59, 500.0
Burg = Callable[[np.ndarray], np.ndarray]


def make_windows() -> np.ndarray:
    """1/f noise with a rhythm of 10 Hz, in µV."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal((W, T)))
    spectrum[:, 1:] /= np.sqrt(np.arange(1, spectrum.shape[1]))
    noise_WT = np.fft.irfft(spectrum, T)
    phase_W1 = rng.uniform(0, 2 * np.pi, (W, 1))
    return 20 * noise_WT / noise_WT.std() + 5 * np.sin(2 * np.pi * 10 * np.arange(T) / SFREQ + phase_W1)


def lattice(x_CT: np.ndarray, warp: float) -> np.ndarray:
    """Coefficients of the channels of one record; a warped delay goes sample by sample."""
    forward_CT, backward_CT, a_CP = x_CT, x_CT, np.ones((len(x_CT), 1))
    for _ in range(ORDER):
        delayed_CT = all_pass(backward_CT, warp) if warp else backward_CT[:, :-1]
        forward_CT = forward_CT[:, 1:]
        norm_C = np.sum(forward_CT * forward_CT, axis=1) + np.sum(delayed_CT * delayed_CT, axis=1)
        k_C1 = (-2 * np.sum(forward_CT * delayed_CT, axis=1) / norm_C)[:, None]
        a_CP = np.pad(a_CP, ((0, 0), (0, 1)))
        a_CP = a_CP + k_C1 * a_CP[:, ::-1]
        forward_CT, backward_CT = forward_CT + k_C1 * delayed_CT, delayed_CT + k_C1 * forward_CT
    return a_CP[:, 1:]


def all_pass(b_CT: np.ndarray, warp: float) -> np.ndarray:
    out_TC, b_TC = np.empty((b_CT.shape[1] - 1, len(b_CT))), np.ascontiguousarray(b_CT.T)
    before_C = np.zeros(len(b_CT))
    for at in range(len(out_TC)):
        before_C = out_TC[at] = b_TC[at] - warp * (b_TC[at + 1] - before_C)
    return out_TC.T


def by_record(x_WT: np.ndarray, warp: float) -> np.ndarray:
    return np.concatenate([lattice(x_WT[at : at + CHANNELS], warp) for at in range(0, len(x_WT), CHANNELS)])


def by_window(x_WT: np.ndarray) -> np.ndarray:
    from statsmodels.regression.linear_model import burg

    return np.stack([-burg(x_T, ORDER, demean=False)[0] for x_T in x_WT])


def ours(x_WT: np.ndarray, warp: float, pool: ThreadPoolExecutor | None = None) -> np.ndarray:
    from neuroloom.tokenizers.lipcot import burg, lipcot_features

    def features(part_WT: np.ndarray) -> np.ndarray:
        return lipcot_features(*burg(part_WT, ORDER, warp), SFREQ, "coefficients")

    found_WD = features(x_WT) if pool is None else np.concatenate(list(pool.map(features, np.array_split(x_WT, 2))))
    return found_WD[:, :-1]


def make_corpus(folder: Path, n_recordings: int) -> list[Any]:
    """Recordings of 59 channels and ten minutes, as `preprocess_meeg` leaves them."""
    from neuroloom.artifacts import open_artifact, write_artifact
    from neuroloom.records import Events, Recording
    from neuroloom.tokenizers.segments import Segments

    signal_CT = 1e-6 * make_windows()[: CHANNELS * 4].reshape(CHANNELS, -1).repeat(30, axis=1).astype(np.float32)
    loc_C12 = np.random.default_rng(1).normal(size=(CHANNELS, 12)).astype(np.float32)
    corpus = []
    for at in range(n_recordings):
        recording = Recording(
            signal_CT=np.roll(signal_CT, at, axis=0),
            sfreq=SFREQ,
            ch_names=[f"E{channel}" for channel in range(CHANNELS)],
            ch_types=["eeg"] * CHANNELS,
            units=["V"] * CHANNELS,
            status=["good"] * CHANNELS,
            coil_C=np.ones(CHANNELS, np.int32),
            loc_C12=loc_C12,
            events=Events(np.zeros(0), np.zeros(0), []),
            line_freq=50.0,
        )
        attrs = {**recording.attrs(), "recording": f"r{at}"}
        write_artifact(folder / f"r{at}.zarr", "recording", arrays=recording.arrays(), attrs=attrs, window=5000)
        corpus.append(Segments(open_artifact(folder / f"r{at}.zarr"), sfreq=SFREQ))
    return corpus


@contextmanager
def places() -> Iterator[dict[str, Any]]:
    from distributed import LocalCluster

    from neuroloom.passes.mapping import Placement

    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        yield {
            "1 thread": Placement(threads=1),
            "2 threads": Placement(threads=2),
            "2 worker processes": Placement(scheduler="address", address=cluster.scheduler_address),
        }


def time_passes(n_recordings: int, repeats: int) -> None:
    from neuroloom.passes.mapping import corpus_map
    from neuroloom.tokenizers.config import LipcotConfig
    from neuroloom.tokenizers.lipcot import Lipcot

    tokenizer = Lipcot(LipcotConfig(), SFREQ)
    with tempfile.TemporaryDirectory() as folder, places() as where:
        corpus = make_corpus(Path(folder), n_recordings)
        seconds = {name: np.inf for name in where}
        found: dict[str, np.ndarray] = {}
        for repeat in range(repeats + 1):
            for name, place in where.items():
                with corpus_map(place) as over:
                    started = time.perf_counter()
                    parts = list(over(tokenizer._series_features, corpus))
                    taken = time.perf_counter() - started
                found[name] = np.concatenate([part for part, _ in parts])
                seconds[name] = min(seconds[name], taken if repeat else np.inf)
    first = next(iter(where))
    rows = [
        {
            "where": name,
            "recordings": n_recordings,
            "seconds": taken,
            "speed_ratio": seconds[first] / taken,
            "equal": np.array_equal(found[name], found[first]),
        }
        for name, taken in seconds.items()
    ]
    keep(rows, "lipcot_corpus")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--corpus", type=int, default=0)
    given = parser.parse_args()
    if given.corpus:
        time_passes(given.corpus, given.repeats)
        return
    repeats = given.repeats
    x_WT, pool = make_windows(), ThreadPoolExecutor(2)
    programs: dict[tuple[str, str], Burg] = {
        ("plain", "statsmodels, by window"): by_window,
        ("plain", "NumPy, by record"): lambda x: by_record(x, 0.0),
        ("plain", "ours, 1 thread"): lambda x: ours(x, 0.0),
        ("plain", "ours, 2 threads"): lambda x: ours(x, 0.0, pool),
        ("warped", "NumPy, by record and sample"): lambda x: by_record(x, WARP),
        ("warped", "ours, 1 thread"): lambda x: ours(x, WARP),
        ("warped", "ours, 2 threads"): lambda x: ours(x, WARP, pool),
    }
    wall, cpu, found = dict.fromkeys(programs, np.inf), dict.fromkeys(programs, np.inf), {}
    for _ in range(repeats):
        for key, program in programs.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            found[key] = program(x_WT)
            wall[key] = min(wall[key], time.perf_counter() - started)
            cpu[key] = min(cpu[key], time.process_time() - cpu_started)
    rows: list[dict[str, Any]] = []
    first: dict[str, tuple[str, str]] = {}
    for kind, name in programs:
        base = first.setdefault(kind, (kind, name))
        row = {"kind": kind, "program": name, "windows_per_s": W / wall[kind, name]}
        row |= {"windows_per_cpu_s": W / cpu[kind, name], "speed_ratio": wall[base] / wall[kind, name]}
        rows.append({**row, "largest_difference": float(np.abs(found[kind, name] - found[base]).max())})
    keep(rows, "lipcot_features")


if __name__ == "__main__":
    main()
