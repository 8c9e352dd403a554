"""Checksummed Zarr v3 stores of the kinds that `specs` describes: `write_artifact`, `open_artifact`, `verify`.

A store `x.zarr` is trusted through `x.manifest.json`, which is written last, by rename, and lists every file of the
store with its size and sha256. A missing Zarr chunk would read back as fill values without an error, and Snakemake
never looks inside a directory: opening a store therefore checks that every listed file is there with its size and that
its metadata is as written, the CRC32C codec checks each chunk that is decoded, and `verify` rehashes everything.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroloom.manifest import REMEDY, ArtifactError, check_files, check_name, read_manifest, store_path, write_manifest
from neuroloom.manifest import verify as verify
from neuroloom.specs import SPECS as SPECS
from neuroloom.specs import ArraySpec, ArtifactSpec

if TYPE_CHECKING:
    import xarray
    import zarr

WINDOWS_PER_SHARD = 250
SHARD_BYTES = 128 * 2**20  # a shard is encoded in memory as a whole
FAST_READS = "zarrs.ZarrsCodecPipeline"  # Rust codecs, several times faster on single windows of a shard
_PIPELINE = threading.Lock()  # Zarr's config, which chooses the codecs of an array as it is opened, is of all threads


class ShardGridError(ValueError):
    """A Dask array whose chunks are not the shards: two tasks would write one shard and lose data silently."""


@dataclass(frozen=True)
class Artifact:
    """An opened, checked store."""

    path: Path
    spec: ArtifactSpec
    manifest: dict[str, Any]
    group: zarr.Group

    def __getitem__(self, name: str) -> zarr.Array:
        import zarr

        if name not in self.manifest["arrays"]:
            raise KeyError(f"{self.path}: no array {name!r}; it has {', '.join(self.manifest['arrays'])}")
        with _PIPELINE, zarr.config.set({"codec_pipeline.path": FAST_READS}):
            return self.group[name]  # type: ignore[return-value]

    def has(self, name: str) -> bool:
        """Whether an optional array is there."""
        return name in self.manifest["arrays"]

    def read(self, name: str) -> np.ndarray:
        """The whole array, text as an object array of `str`."""
        values = np.asarray(self[name][...])
        return values.astype(object) if self.spec.arrays[name].dtype == "str" else values

    @property
    def attrs(self) -> dict[str, Any]:
        """Root attributes: entities, units, rates and provenance."""
        return dict(self.group.attrs)

    @property
    def digest(self) -> str:
        """Content digest: sha256 over the chunks and shapes of the arrays, provenance left out."""
        return str(self.manifest["digest"])

    def to_xarray(self) -> xarray.Dataset:
        """The store as a labelled, lazy `xarray.Dataset`."""
        import xarray

        return xarray.open_zarr(self.path, consolidated=False)


def write_artifact(
    path: Path | str, kind: str, *, arrays: Mapping[str, Any], attrs: Mapping[str, Any], window: int | None = None
) -> dict[str, Any]:
    """Write a store and, last, its manifest.

    Parameters
    ----------
    path : path
        The store, `….zarr`.
    kind : str
        Key of `SPECS`.
    arrays : mapping
        NumPy arrays; Dask arrays whose chunks are whole shards; or anything else with a shape that gives pieces, which
        is computed and written shard by shard. They are written in this order, so that a later one may hold what is
        found out while a long signal streams past. Floats are stored with NaN as fill value.
    attrs : mapping
        Root attributes; those that the spec names must be there.
    window : int, optional
        Length of one chunk of the windowed array along the axis of windows; default the whole axis.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ArtifactError
        If arrays or attributes do not fit the spec.
    ShardGridError
        If a Dask array's chunks are not the shards.
    """
    import zarr

    spec, store = SPECS[kind], Path(path)
    _check_content(store, spec, arrays, attrs)
    # zarr-python's own codecs write the chunks of a shard in order; zarrs writes them in the order in which its threads
    # finish, so that equal content would have other bytes
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(str(store), mode="w", zarr_format=3)
        for name, values in arrays.items():
            _write_array(group, name, values, spec, window)
        group.attrs.update({"schema": spec.schema, **attrs})
        described = {name: _describe(group[name], array) for name, array in spec.arrays.items() if name in arrays}
    return write_manifest(store, spec.schema, arrays=described)


def open_artifact(path: Path | str, kind: str | None = None) -> Artifact:
    """Open a store or its manifest, after checking that it is the one named and that nothing is missing or replaced.

    Parameters
    ----------
    path : path
        `x.zarr` or `x.manifest.json`.
    kind : str, optional
        Refuse a store of another kind.

    Raises
    ------
    ArtifactError
        No manifest, another schema or recording, a chunk that is missing or has another size, other metadata.
    Quarantined
        The recording was quarantined by an earlier stage.
    """
    import zarr

    store, manifest = store_path(path), read_manifest(path)
    spec = _spec_of(manifest, store)
    if kind is not None and spec.kind != kind:
        raise ArtifactError(f"{store}: is a {spec.kind!r} store, a {kind!r} store is needed; pass the right path")
    check_files(store, manifest)
    check_name(store)
    return Artifact(store, spec, manifest, zarr.open_group(str(store), mode="r", zarr_format=3))


def _check_content(store: Path, spec: ArtifactSpec, arrays: Mapping[str, Any], attrs: Mapping[str, Any]) -> None:
    required = {name for name, array in spec.arrays.items() if not array.optional}
    problems = [f"array {name!r} is missing" for name in sorted(required - arrays.keys())]
    problems += [f"array {name!r} is not in the spec" for name in sorted(arrays.keys() - spec.arrays.keys())]
    problems += [f"attribute {name!r} is missing" for name in spec.attrs if name not in attrs]
    sizes: dict[str, int] = {}
    for name in sorted(arrays.keys() & spec.arrays.keys()):
        dims, shape = spec.arrays[name].dims, np.shape(arrays[name])
        if len(dims) != len(shape):
            problems.append(f"array {name!r} has shape {shape}, the dimensions are {dims}")
            continue
        for dim, size in zip(dims, shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                problems.append(f"array {name!r} has {size} along {dim!r}, another array has {sizes[dim]}")
    if problems:
        raise ArtifactError(f"{store}: cannot write a {spec.schema} store: {'; '.join(problems)}")


def _write_array(group: zarr.Group, name: str, values: Any, spec: ArtifactSpec, window: int | None) -> None:
    from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

    array_spec = spec.arrays[name]
    text = array_spec.dtype == "str"
    dtype = np.dtype(object if text else array_spec.dtype)
    shape = tuple(int(size) for size in np.shape(values))
    window = window if name == spec.windowed else None
    chunks, shards = _grid(shape, window, axis=spec.window_axis, itemsize=dtype.itemsize)
    # lz4 after bitshuffle is as small as zstd on signals and decodes in two thirds of the time
    shuffle = BloscShuffle.noshuffle if text else BloscShuffle.bitshuffle
    blosc = BloscCodec(cname="lz4", clevel=5, shuffle=shuffle, typesize=None if text else dtype.itemsize)
    with _PIPELINE:
        array = group.create_array(
            name,
            shape=shape,
            dtype="str" if text else dtype,
            chunks=chunks,
            shards=shards,
            compressors=[blosc, Crc32cCodec()],
            fill_value=np.nan if dtype.kind == "f" else None,
            dimension_names=array_spec.dims,
        )
    if hasattr(values, "dask"):
        _store_dask(array, values, shards or chunks)
    elif name == spec.windowed and not isinstance(values, np.ndarray):
        _store_pieces(array, values, axis=spec.window_axis, step=(shards or chunks)[spec.window_axis])
    elif 0 not in shape:
        array[...] = np.asarray(values, dtype=str if text else dtype)


def _describe(array: Any, spec: ArraySpec) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": str(array.dtype), "dims": list(spec.dims)}


def _grid(
    shape: tuple[int, ...], window: int | None, *, axis: int, itemsize: int
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Chunk = one window of everything else; shard = the windows that there are, within the two limits above."""
    whole = [max(size, 1) for size in shape]
    if window is None:
        return tuple(whole), None
    chunks, shards = list(whole), list(whole)
    chunks[axis] = window
    fitting = max(SHARD_BYTES // (math.prod(chunks) * itemsize), 1)
    shards[axis] = window * min(-(-whole[axis] // window), WINDOWS_PER_SHARD, fitting)
    return tuple(chunks), tuple(shards)


def _store_pieces(array: zarr.Array, values: Any, *, axis: int, step: int) -> None:
    """Shard by shard, one in memory at a time; dask would take longer to import than a short recording to write."""
    piece = [slice(0, size) for size in array.shape]
    for first in range(0, array.shape[axis], step):
        piece[axis] = slice(first, min(first + step, array.shape[axis]))
        array[tuple(piece)] = np.asarray(values[tuple(piece)])


def _store_dask(array: zarr.Array, values: Any, shards: tuple[int, ...]) -> None:
    import dask.array

    expected = tuple(
        tuple(min(step, size - at) for at in range(0, size, step))
        for size, step in zip(values.shape, shards, strict=True)
    )
    if values.chunks != expected:
        raise ShardGridError(
            f"{array.name}: Dask chunks {values.chunks} are not the shards {expected}; rechunk to {shards} first"
        )
    dask.array.store(values, array, lock=False, scheduler="synchronous")  # one shard in memory at a time


def _spec_of(manifest: dict[str, Any], store: Path) -> ArtifactSpec:
    spec = next((spec for spec in SPECS.values() if spec.schema == manifest.get("schema")), None)
    if spec is None:
        known = ", ".join(spec.schema for spec in SPECS.values())
        raise ArtifactError(f"{store}: schema {manifest.get('schema')!r} is not known here ({known}). {REMEDY}")
    return spec
