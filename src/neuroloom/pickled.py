"""What a pickle describes, read without unpickling: no class or function that it names is looked up or called.

Files of others (tables of pandas, checkpoints of torch) are pickles. Their opcodes are followed here as far as numbers,
text, lists, dicts and tuples go; whatever else they ask for is left as a description, `Made`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

PERSISTENT = "a persistent object"  # `args` are its identifier
DAMAGED = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError, RecursionError)


@dataclass
class Made:
    """What a pickle asks to be made: the name of a class or function, what it is called with, and its state.

    `items` and `values` are what is put into it afterwards, as into a dict or a list.
    """

    name: str
    args: Any = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    values: list[Any] = field(default_factory=list)


_MARK = object()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_VALUES = ("UNICODE", "BININT", "BINFLOAT", "LONG", "STRING", "BYTES", "BYTEARRAY")
_SIZES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def describe(data: bytes) -> Any:
    """The structure that a pickle describes, every call in it left as `Made`.

    Raises
    ------
    ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError
        Damaged, or of opcodes that no table or checkpoint needs (`DAMAGED`).
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name, arg = opcode.name, cast(Any, argument)
        if name in ("PROTO", "FRAME", "STOP"):
            continue
        if name == "MEMOIZE" or name.endswith("BINPUT"):
            memo[len(memo) if arg is None else arg] = stack[-1]
        elif name.endswith("BINGET"):
            stack.append(memo[arg])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif any(word in name for word in _VALUES):
            stack.append(arg)
        else:
            _combine(name, arg, stack)
    return stack[-1]


def _combine(name: str, arg: Any, stack: list[Any]) -> None:
    """One opcode that takes what lies on the stack together."""
    if name == "TUPLE" or name in _SIZES:
        stack.append(tuple(_popped(stack, _SIZES.get(name))))
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        stack.append(Made(".".join(arg.split(" ") if arg else _popped(stack, 2))))
    elif name in ("REDUCE", "NEWOBJ"):
        made, args = _popped(stack, 2)
        stack.append(Made(made.name, args))
    elif name == "BINPERSID":
        stack.append(Made(PERSISTENT, *_popped(stack, 1)))
    elif name == "BUILD":
        (state,) = _popped(stack, 1)
        stack[-1].state = state
    elif name in ("APPEND", "APPENDS"):
        added = _popped(stack, 1 if name == "APPEND" else None)
        (stack[-1].values if isinstance(stack[-1], Made) else stack[-1]).extend(added)
    elif name in ("SETITEM", "SETITEMS"):
        pairs = iter(_popped(stack, 2 if name == "SETITEM" else None))
        (stack[-1].items if isinstance(stack[-1], Made) else stack[-1]).update(zip(pairs, pairs, strict=True))
    else:
        raise ValueError(f"it holds {name}, which no table or checkpoint needs")


def _popped(stack: list[Any], count: int | None) -> list[Any]:
    """The last `count` values taken off the stack, or those after the last mark."""
    if count is None:
        count = next((at for at, value in enumerate(reversed(stack)) if value is _MARK), None)
        if count is None:
            raise ValueError("it breaks off")
        values = stack[len(stack) - count :]
        del stack[len(stack) - count - 1 :]
        return values
    values = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return values
