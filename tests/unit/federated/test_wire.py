"""What a site may send: the declared tensors and nothing else."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Array as WireArray
from flwr.app import ArrayRecord

from neuroloom.federated.wire import RAW, RefusedError, Schema, digest

SCHEMA = Schema({"a": (2, 3), "b": (4,)}, max_update=10.0)
STATE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}


def test_a_state_comes_back_as_it_went() -> None:
    back = SCHEMA.unpack(SCHEMA.pack(STATE))
    assert list(back) == ["a", "b"]
    for name, values in STATE.items():
        np.testing.assert_array_equal(back[name], values)
    assert SCHEMA.n_bytes == 40
    assert digest(back) == digest(STATE) != digest({**STATE, "b": 2 * STATE["b"]})


FLAT = np.concatenate([values.ravel() for values in STATE.values()])


def raw(values: np.ndarray, **changes: Any) -> WireArray:
    given = {"dtype": "float32", "shape": values.shape, "stype": RAW, "data": values.astype("<f4").tobytes(), **changes}
    return WireArray(given["dtype"], given["shape"], given["stype"], given["data"])


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("state", raw(FLAT[:9]), r"\(9,\)\), declared .*\(10,\)"),
        ("state", raw(FLAT, dtype="float64"), "float64"),
        ("state", raw(FLAT, stype="numpy.ndarray"), "numpy.ndarray"),
        ("state", raw(FLAT, data=b"x" * 4000), "4000 bytes, declared 40"),
        ("state", raw(np.where(np.arange(10) > 7, np.nan, FLAT)), "b: 2 values are not finite"),
        ("more", raw(FLAT), "arrays more, state, declared state"),
    ],
)
def test_whatever_is_not_declared_is_refused(name: str, array: WireArray, reason: str) -> None:
    record = SCHEMA.pack(STATE)
    record[name] = array
    with pytest.raises(RefusedError, match=reason):
        SCHEMA.unpack(record)


def test_a_missing_tensor_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"1 declared tensors are missing \(b\)"):
        SCHEMA.pack({"a": STATE["a"]})
    with pytest.raises(RefusedError, match=r"arrays \(none\), declared state"):
        SCHEMA.unpack(ArrayRecord({}))
    assert Schema({"b": (4,), "a": (2, 3)}).digest != SCHEMA.digest != Schema({"a": (3, 2), "b": (4,)}).digest
    with pytest.raises(RefusedError, match="a: shape"):
        SCHEMA.pack({**STATE, "a": STATE["b"]})


def test_a_huge_update_is_refused() -> None:
    near = {name: values + 1 for name, values in STATE.items()}
    assert SCHEMA.check_update(near, STATE) == pytest.approx(np.sqrt(10))
    far = {name: values + 100 for name, values in STATE.items()}
    with pytest.raises(RefusedError, match="norm 316, more than"):
        SCHEMA.check_update(far, STATE)


def test_bytes_that_would_be_unpickled_are_refused_unread() -> None:
    import pickle

    record = SCHEMA.pack(STATE)
    record["state"] = raw(FLAT, dtype="object", stype="numpy.ndarray", data=pickle.dumps({"a": 1}))
    with pytest.raises(RefusedError, match="object"):
        SCHEMA.unpack(record)
