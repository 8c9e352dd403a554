"""Fast random access to the windows of a store, for training.

A window is one chunk: a ranged read inside one shard, a checksum and one decompression into place. zarr-python and
zarrs do the same through general machinery that costs more than the work itself (`benchmarks/read_windows.py`).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from neuroloom.artifacts import Artifact
from neuroloom.manifest import ArtifactError
from neuroloom.records import Array

_MISSING = np.uint64(2**64 - 1)
_CRC_BYTES = 4
_WORTH_SHARING = 8  # windows; below that, handing them out costs more than it saves
_CRC_RESIDUE = 0x48674BC7


class WindowReader:
    """Reads windows of a store's windowed array.

    Parameters
    ----------
    artifact : Artifact
        Opened, so that its files are known to be there.
    threads : int
        Threads that share the windows of one long run; decoding releases the interpreter's lock.

    Attributes
    ----------
    shape : tuple of int
        Of one window, such as (channels, samples).
    dtype : dtype

    Raises
    ------
    ArtifactError
        If the array is not sharded in windows as `write_artifact` does it.
    """

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        name = str(artifact.spec.windowed)
        array = artifact[name]
        metadata: Any = array.metadata
        codecs = [codec["name"] for codec in metadata.to_dict()["codecs"][0]["configuration"].get("codecs", ())]
        if codecs != ["bytes", "blosc", "crc32c"] or array.shards is None:
            raise ArtifactError(
                f"{artifact.path}: {name!r} is not stored in windows; write it with write_artifact(window=...)"
            )
        self.shape, self.dtype = array.chunks, array.dtype
        axis = range(array.ndim)[artifact.spec.window_axis]
        self._folder = artifact.path.absolute() / name / "c"  # a worker elsewhere has another current folder
        self._key = [["0"] * axis, ["0"] * (array.ndim - 1 - axis)]
        self._per_shard = array.shards[axis] // array.chunks[axis]
        self._n_windows = array.shape[axis] // array.chunks[axis]
        self._index: dict[int, list[tuple[int, int]]] = {}
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __len__(self) -> int:
        """Number of whole windows; a shorter rest at the end is not one."""
        return self._n_windows

    def read(self, first: int, count: int = 1, *, out: Array | None = None) -> Array:
        """Windows `first` to `first + count`.

        Parameters
        ----------
        first, count : int
        out : array (count, *shape), optional
            Filled and returned. Fresh memory for many windows costs as much as decoding them.

        Returns
        -------
        array (count, *shape)

        Raises
        ------
        IndexError
            If there are not that many windows.
        ArtifactError
            If a checksum is wrong; the message names the shard.
        """
        if not (first >= 0 and count >= 1 and first + count <= self._n_windows):
            raise IndexError(f"windows {first} to {first + count} of {self._n_windows}")
        windows = np.empty((count, *self.shape), self.dtype) if out is None else out
        done = 0
        while done < count:
            shard, at = divmod(first + done, self._per_shard)
            n = min(count - done, self._per_shard - at)
            self._read_shard(shard, at, windows[done : done + n])
            done += n
        return windows

    def _read_shard(self, shard: int, at: int, out: Array) -> None:
        before, after = self._key
        path = self._folder.joinpath(*before, str(shard), *after)
        file = os.open(path, os.O_RDONLY)

        def decode(part: slice) -> None:
            _decode(file, extents[part], out[part], path)

        try:
            extents = self._extents(shard, path, file)[at : at + len(out)]
            if self._pool is None or len(out) < _WORTH_SHARING:
                decode(slice(None))
            else:
                list(self._pool.map(decode, [slice(at, None, self._threads) for at in range(self._threads)]))
        finally:
            os.close(file)

    def _extents(self, shard: int, path: Path, file: int) -> list[tuple[int, int]]:
        """Offset and size of each chunk of a shard, from the index at its end."""
        if shard not in self._index:
            size = 16 * self._per_shard + _CRC_BYTES
            index = os.pread(file, size, os.fstat(file).st_size - size)
            _check(index, path)
            table = np.frombuffer(index[:-_CRC_BYTES], "<u8").reshape(-1, 2)
            if (table[: self._n_windows - shard * self._per_shard] == _MISSING).any():
                raise ArtifactError(f"{path}: a window is missing. Run neuroloom verify on the store")
            self._index[shard] = [(int(offset), int(length)) for offset, length in table]
        return self._index[shard]


def _check(stored: bytes, path: Path) -> None:
    """A message followed by its own CRC32C has a CRC32C that is the same for all messages."""
    import google_crc32c

    if google_crc32c.value(stored) != _CRC_RESIDUE:
        raise ArtifactError(f"{path}: a checksum (CRC32C) is wrong, the file has changed. Run neuroloom verify on it")


def _decode(file: int, extents: list[tuple[int, int]], out: Array, path: Path) -> None:
    from numcodecs.blosc import decompress

    for window, (offset, size) in zip(out, extents, strict=True):
        stored = os.pread(file, size, offset)
        _check(stored, path)
        decompress(stored, window)  # Blosc knows its own length, and leaves the checksum behind it alone
