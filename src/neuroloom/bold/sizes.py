"""What a NIfTI header says about the size of its file, checked before anything is made as large."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any, BinaryIO

from neuroloom.quarantine import UnusableRecording

LONGEST_HEADER = 540
BLOCK = 2**22
SPARE = 2**20  # what may follow the last voxel
BOMB_BYTES, BOMB_FACTOR = 2**28, 200  # masked volumes of whole numbers shrink to a fiftieth, zeros to a thousandth
REMEDY = "The file is damaged or incomplete: bring it again from its origin"


def check_sizes(path: Path) -> None:
    """Refuse a file that has not the bytes that its header says; a compressed one is read to its end, in blocks.

    The end is where gzip keeps its checksum, which nibabel never looks at: it stops at the last voxel.

    Raises
    ------
    UnusableRecording
        It has fewer bytes, or, compressed, more, or so many that only an attack compresses so well.
    OSError, EOFError, zlib.error
        Not gzip, or damaged.
    """
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            _check_stream(path, stream)
        return
    with path.open("rb") as stream:
        wanted, has = said_bytes(path, stream.read(LONGEST_HEADER)), path.stat().st_size
    if has < wanted:
        raise UnusableRecording(path, f"cannot be read: the header says {wanted} bytes, the file has {has}", REMEDY)


def _check_stream(path: Path, stream: BinaryIO | gzip.GzipFile) -> None:
    head = stream.read(LONGEST_HEADER)
    wanted, has = said_bytes(path, head), len(head)
    if wanted > max(BOMB_BYTES, BOMB_FACTOR * path.stat().st_size):
        reason = f"{path.stat().st_size} bytes that would expand to {wanted}, more than {BOMB_FACTOR}-fold"
        raise UnusableRecording(path, reason, "No recording compresses so well; bring it from a source that you trust")
    while block := stream.read(BLOCK):
        has += len(block)
        if has > wanted + SPARE:
            reason = f"it expands beyond the {wanted} bytes that its header says"
            raise UnusableRecording(path, reason, "Bring it again from a source that you trust")
    if has < wanted:
        raise UnusableRecording(path, f"cannot be read: the header says {wanted} bytes, there are {has}", REMEDY)


def said_bytes(path: Path, head: bytes) -> int:
    """Bytes of a whole file, from the start of it.

    Raises
    ------
    UnusableRecording
        If this is no header of a single NIfTI file.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        kind: Any = Nifti2Header if LONGEST_HEADER in _lengths(head) else Nifti1Header
        header = kind(head[: kind.sizeof_hdr], check=False)
        shape, itemsize = [int(size) for size in header.get_data_shape()], header.get_data_dtype().itemsize
        start = int(header["vox_offset"])
    except (WrapStructError, HeaderDataError, ValueError, OverflowError) as error:
        raise UnusableRecording(path, f"cannot be read: no NIfTI header ({str(error)[:200]})", REMEDY) from error
    if min([start, *shape]) < 0:
        raise UnusableRecording(path, f"cannot be read: shape {shape} from byte {start} on", REMEDY)
    return start + math.prod(shape) * itemsize


def _lengths(head: bytes) -> set[int]:
    return {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
