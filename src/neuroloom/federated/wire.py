"""What crosses the wire: named tensors of a declared set as raw bytes, checked before anything is made of them.

A reply is refused if a tensor is missing or not declared, has another shape, type or number of bytes, is not finite, if
it started from other weights than it was sent, or if it moved further than allowed. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array as WireArray
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from neuroloom.records import Array

ARRAYS, METRICS, FACTS = "arrays", "metrics", "facts"  # records of a message
WEIGHT = "n-windows"  # what averages are weighted by
RAW = "neuroloom.raw.float32"  # little-endian bytes in C order, without a header
Tensors = dict[str, Array]


class RefusedError(ValueError):
    """A reply that is not used; the message says what was found."""


@dataclass(frozen=True)
class Schema:
    """The tensors that are shared.

    Attributes
    ----------
    shapes : mapping
        Name -> shape, in the order of the network; all float32.
    max_update : float
        Largest norm of an update over the norm of the state that it started from (at least 1).
    """

    shapes: Mapping[str, tuple[int, ...]]
    max_update: float = 10.0

    @property
    def n_bytes(self) -> int:
        """Bytes of one state."""
        return 4 * sum(int(np.prod(shape)) for shape in self.shapes.values())

    def pack(self, tensors: Mapping[str, Array]) -> ArrayRecord:
        """A state as a record, in the order of the schema.

        Raises
        ------
        RefusedError
            If it is not of this schema.
        """
        _check_names(set(tensors), set(self.shapes))
        for name, shape in self.shapes.items():
            if tensors[name].shape != shape:
                raise RefusedError(f"{name}: shape {tensors[name].shape}, declared {shape}")
        return ArrayRecord(
            {name: WireArray("float32", shape, RAW, _bytes(tensors[name])) for name, shape in self.shapes.items()}
        )

    def unpack(self, record: ArrayRecord) -> Tensors:
        """A record as a state; nothing is decoded before its description fits.

        Raises
        ------
        RefusedError
            Naming the tensor, what was found and what is declared.
        """
        _check_names(set(record), set(self.shapes))
        return {name: _decoded(name, record[name], shape) for name, shape in self.shapes.items()}

    def check_update(self, tensors: Mapping[str, Array], base: Mapping[str, Array]) -> float:
        """Norm of what changed, if it is not too much.

        Raises
        ------
        RefusedError
            With the norm and its bound.
        """
        moved = norm({name: tensors[name] - base[name] for name in self.shapes})
        allowed = self.max_update * max(norm(base), 1.0)
        if not moved <= allowed:
            raise RefusedError(f"the update has norm {moved:.3g}, more than {allowed:.3g} (federate.max_update)")
        return moved


def norm(tensors: Mapping[str, Array]) -> float:
    """Euclidean norm over all tensors."""
    return float(np.sqrt(sum(float(np.sum(np.square(one, dtype=np.float64))) for one in tensors.values())))


def digest(tensors: Mapping[str, Array]) -> str:
    """What a state is called: the first 16 digits of the sha256 of its names and bytes."""
    found = hashlib.sha256()
    for name, values in tensors.items():
        found.update(name.encode() + b"\n" + _bytes(values))
    return found.hexdigest()[:16]


def _check_names(found: set[str], declared: set[str]) -> None:
    if found != declared:
        missing, unknown = sorted(declared - found), sorted(found - declared)
        raise RefusedError(
            f"{len(missing)} declared tensors are missing ({', '.join(missing[:3]) or 'none'}) and {len(unknown)} are "
            f"not declared ({', '.join(unknown[:3]) or 'none'})"
        )


def _decoded(name: str, given: WireArray, shape: tuple[int, ...]) -> Array:
    described, wanted = (given.stype, given.dtype, tuple(given.shape)), (RAW, "float32", shape)
    if described != wanted:
        raise RefusedError(f"{name}: {described}, declared {wanted}")
    if len(given.data) != (size := 4 * int(np.prod(shape))):
        raise RefusedError(f"{name}: {len(given.data)} bytes, declared {size}")
    values = np.frombuffer(given.data, dtype="<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(values).all():
        raise RefusedError(f"{name}: {int((~np.isfinite(values)).sum())} values are not finite")
    return values


def _bytes(values: Array) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def task_message(
    kind: str, node: int, *, tensors: ArrayRecord, facts: Mapping[str, str | int | float | bool]
) -> Message:
    """A message to a site: the shared state, and what round it is of."""
    content = RecordDict({ARRAYS: tensors, FACTS: ConfigRecord(dict(facts))})
    return Message(content=content, dst_node_id=node, message_type=kind, group_id=str(facts["round"]))


def reply_message(
    message: Message,
    *,
    tensors: ArrayRecord | None,
    metrics: Mapping[str, float | list[float]],
    facts: Mapping[str, str | int | float | bool],
) -> Message:
    """What a site answers."""
    content = RecordDict({METRICS: MetricRecord(dict(metrics)), FACTS: ConfigRecord(dict(facts))})
    if tensors is not None:
        content[ARRAYS] = tensors
    return Message(content=content, reply_to=message)
