"""What crosses the wire: the tensors of a declared set as raw bytes, checked before anything is made of them.

All tensors are one array, because each array of Flower is a message of its own and costs as much time as the rest of a
round. A reply is refused if it is of other tensors than declared (their names, shapes and order have a digest), of
another type or number of bytes, not finite, if it started from other weights than it was sent, or if it moved further
than allowed. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from flwr.app import Array as WireArray
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from neuroloom.records import Array

ARRAYS, METRICS, FACTS = "arrays", "metrics", "facts"  # records of a message
WEIGHT = "n-windows"  # what averages are weighted by
STATE = "state"  # the array of all tensors
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

    @classmethod
    def of(cls, tensors: Mapping[str, Array], *, max_update: float = 10.0) -> Self:
        """The schema of a state."""
        return cls({name: one.shape for name, one in tensors.items()}, max_update)

    @property
    def digest(self) -> str:
        """What the set is called: digest of names and shapes, in their order."""
        return hashlib.sha256(repr(list(self.shapes.items())).encode()).hexdigest()[:16]

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
        content = b"".join(_bytes(tensors[name]) for name in self.shapes)
        return ArrayRecord({STATE: WireArray("float32", (len(content) // 4,), RAW, content)})

    def unpack(self, record: ArrayRecord) -> Tensors:
        """A record as a state; nothing is decoded before its description fits.

        Raises
        ------
        RefusedError
            With what was found and what is declared, or the tensor that is not finite.
        """
        if list(record) != [STATE]:
            raise RefusedError(f"arrays {', '.join(sorted(record)) or '(none)'}, declared {STATE}")
        given, n_values = record[STATE], self.n_bytes // 4
        described, wanted = (given.stype, given.dtype, tuple(given.shape)), (RAW, "float32", (n_values,))
        if described != wanted:
            raise RefusedError(f"{STATE}: {described}, declared {wanted}")
        if len(given.data) != self.n_bytes:
            raise RefusedError(f"{STATE}: {len(given.data)} bytes, declared {self.n_bytes}")
        return self.split(np.frombuffer(given.data, dtype="<f4"))

    def flat(self, tensors: Mapping[str, Array]) -> Array:
        """All tensors one after the other, (N,)."""
        return np.concatenate([tensors[name].ravel() for name in self.shapes])

    def split(self, values: Array) -> Tensors:
        """Back from `flat`.

        Raises
        ------
        RefusedError
            If their number is another one, or one is not finite.
        """
        if values.shape != (self.n_bytes // 4,):
            raise RefusedError(f"{STATE}: {values.shape} values, declared {self.n_bytes // 4}")
        at, tensors = 0, Tensors()
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            tensors[name] = values[at : at + size].reshape(shape).astype(np.float32)
            at += size
            if not np.isfinite(tensors[name]).all():
                raise RefusedError(f"{name}: {int((~np.isfinite(tensors[name])).sum())} values are not finite")
        return tensors

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
    for name, values in sorted(tensors.items()):
        found.update(name.encode() + b"\n" + _bytes(values))
    return found.hexdigest()[:16]


def _check_names(found: set[str], declared: set[str]) -> None:
    if found != declared:
        missing, unknown = sorted(declared - found), sorted(found - declared)
        raise RefusedError(
            f"{len(missing)} declared tensors are missing ({', '.join(missing[:3]) or 'none'}) and {len(unknown)} are "
            f"not declared ({', '.join(unknown[:3]) or 'none'})"
        )


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
