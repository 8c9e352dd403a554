"""Random training windows (19 channels x 10 s) from a 2 GB store: ours, zarrs, zarr-python, HDF5 and np.memmap.

    python benchmarks/read_windows.py [--windows 10000] [--draws 3000]

Two stores of ours: `whole` keeps every bit, `rounded` keeps ten mantissa bits as preprocessing does. Each reader draws
the same random windows, first with its file evicted from the page cache, then again with it cached; then runs of 64
neighbouring windows, cached. Every reader's sum over its windows is compared. On a virtual machine the host may keep
evicted files in its own memory, so the first pass is not a cold disk.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measure import keep

C, T, RUN = 19, 2560, 64
Reader = Callable[[int, int], np.ndarray]


def make_signal(n_windows: int) -> np.ndarray:
    """1/f noise in steps of 0.1 µV, as V."""
    rng = np.random.default_rng(0)
    n_times = n_windows * T
    signal_CT = np.empty((C, n_times), np.float32)
    for row in signal_CT:
        spectrum = np.fft.rfft(rng.standard_normal(n_times, dtype=np.float32))
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        noise = np.fft.irfft(spectrum, n_times)
        row[:] = np.round(noise * (20 / noise.std()), 1) * 1e-6
    return signal_CT


def write_stores(signal_CT: np.ndarray, folder: Path) -> dict[str, Path]:
    import h5py

    from neuroloom.artifacts import write_artifact
    from neuroloom.signals.preprocess import round_mantissa

    empty = np.zeros(0)
    facts = {name: [""] * C for name in ("channel", "type", "unit", "status")}
    facts |= {
        "coil": np.ones(C),
        "loc": np.zeros((C, 12)),
        "position": np.zeros((C, 3)),
        "orientation": np.zeros((C, 3)),
    }
    facts |= {"event_onset": empty, "event_duration": empty, "event_label": []}
    attrs = {"sfreq": T / 10, "line_freq": None, "reference": ""}
    for name, signal in (("whole", signal_CT), ("rounded", round_mantissa(signal_CT, 10))):
        write_artifact(folder / f"{name}.zarr", "recording", arrays={"signal": signal, **facts}, attrs=attrs, window=T)
    windows_NCT = signal_CT.reshape(C, -1, T).transpose(1, 0, 2)
    memmap = np.lib.format.open_memmap(folder / "memmap.npy", mode="w+", dtype="f4", shape=windows_NCT.shape)
    with h5py.File(folder / "hdf5.h5", "w") as file:
        dataset = file.create_dataset("signal", windows_NCT.shape, "f4", chunks=(1, C, T))
        for at in range(0, len(windows_NCT), 500):
            memmap[at : at + 500] = dataset[at : at + 500] = windows_NCT[at : at + 500]
    memmap.flush()
    return {path.stem: path for path in folder.iterdir() if path.suffix != ".json"}


def readers(stores: dict[str, Path]) -> Iterator[tuple[str, Path, Reader]]:
    import h5py
    import zarr

    from neuroloom.artifacts import open_artifact
    from neuroloom.windows import WindowReader

    memmap = np.load(stores["memmap"], mmap_mode="r")
    yield "memmap", stores["memmap"], lambda at, n: np.array(memmap[at : at + n])
    hdf5 = h5py.File(stores["hdf5"])["signal"]
    yield "hdf5", stores["hdf5"], lambda at, n: hdf5[at : at + n]
    for name in ("whole", "rounded"):
        artifact = open_artifact(stores[name])
        buffer = {n: np.empty((n, C, T), np.float32) for n in (1, RUN)}
        for threads in (1, 2):
            reader = WindowReader(artifact, threads=threads)
            yield f"ours, {name}, {threads} threads", stores[name], partial(into_place, reader, buffer)
        rust, plain = artifact["signal"], zarr.open_group(str(stores[name]), mode="r")["signal"]
        yield f"zarrs, {name}", stores[name], lambda at, n, array=rust: array[:, at * T : (at + n) * T]
        yield f"zarr-python, {name}", stores[name], lambda at, n, array=plain: array[:, at * T : (at + n) * T]


def into_place(reader: Any, buffer: dict[int, np.ndarray], at: int, n: int) -> np.ndarray:
    return reader.read(at, n, out=buffer[n])


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def evict(path: Path) -> None:
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def rate(read: Reader, starts: np.ndarray, n: int) -> tuple[float, float]:
    """Windows per second, and a sum that tells whether all readers read the same."""
    started, total = time.perf_counter(), 0.0
    for at in starts:
        total += float(read(int(at), n).ravel()[-1])
    return len(starts) * n / (time.perf_counter() - started), total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=3000)
    given = parser.parse_args()
    order = np.random.default_rng(1).permutation(given.windows)[: given.draws]
    starts = np.random.default_rng(2).integers(0, given.windows - RUN, max(given.draws // RUN, 4))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        stores = write_stores(make_signal(given.windows), Path(folder))
        raw = given.windows * C * T * 4
        for name, path, read in readers(stores):
            read(0, 1)
            evict(path)
            first, total = rate(read, order, 1)
            cached, _ = rate(read, order, 1)
            rate(read, starts, RUN)  # brings what the draws left out into the cache
            runs, _ = rate(read, starts, RUN)
            row = {"reader": name, "bytes_ratio": size_of(path) / raw, "first_pass": first, "cached": cached}
            rows.append({**row, "runs_of_64": runs, "sum": total})
    base = rows[0]
    for row in rows:
        row |= {f"{key}_vs_memmap": row[key] / base[key] for key in ("first_pass", "cached")}
        row["runs_vs_memmap_first_pass"] = row["runs_of_64"] / base["first_pass"]
    keep(rows, "read_windows")


if __name__ == "__main__":
    main()
