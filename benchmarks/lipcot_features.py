"""Linear prediction of 720 windows of 2,500 samples, order 16: ours against one window or one sample at a time.

    python benchmarks/lipcot_features.py [--repeats 5]

Plain: statsmodels' `burg`, window by window, and Burg's lattice in NumPy over the 59 channels of a record. Warped: that
lattice with the all-pass in a Python loop over samples, which is how the published code works. Ours runs in one thread
and in two (halves of the windows). The fastest of all repeats counts, and the repeats of all programs take turns, so
that a busy machine slows all of them. Coefficients of all are compared.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
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
