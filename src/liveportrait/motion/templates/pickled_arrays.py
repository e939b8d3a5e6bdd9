"""Reads pickles of dicts, lists, numbers and numpy arrays without running anything in them.

A pickle is a program. This reader interprets the few instructions that such data needs, and cannot
call anything: the few numpy names that arrays are made of become inert records, and the records
become arrays only after their sizes have been checked against the available bytes. Any other name
or instruction is refused.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from liveportrait.errors import UserError

MAX_BYTES = 64 * 2**20
MAX_INSTRUCTIONS = 8_000_000  # about 200 a frame of a published template
PROTOCOL = 3  # spells numpy's names out in full, and is read by every Python 3

_DTYPES = ("f2", "f4", "f8", "i4", "i8")
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8",
    "BYTEARRAY8", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_SHORT_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class _Refused(Exception):
    """The pickle has something that plain arrays do not need."""


@dataclass(frozen=True)
class _Name:
    """One of numpy's names, as an inert record."""

    name: str


_NAMES = {
    f"{package}.{rest}": _Name(rest.rpartition(".")[2])
    for package, rest in (
        ("numpy.core", "multiarray._reconstruct"),
        ("numpy._core", "multiarray._reconstruct"),
        ("numpy.core", "multiarray.scalar"),
        ("numpy._core", "multiarray.scalar"),
        ("numpy.core", "numeric._frombuffer"),  # of protocol 5
        ("numpy._core", "numeric._frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )
}


class _Dtype:
    """`numpy.dtype(code, False, True)` followed by its state."""

    def __init__(self, arguments: Any) -> None:
        code = arguments[0] if isinstance(arguments, tuple) and len(arguments) == 3 else None
        if not isinstance(code, str) or code not in _DTYPES:
            raise _Refused(f"an array type other than {', '.join(_DTYPES)}")
        self.code = code

    def set_state(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) >= 2 else None
        if order not in ("<", ">"):
            raise _Refused("a malformed array type")
        self.code = order + self.code.lstrip("<>")


class _Array:
    """`numpy._reconstruct(ndarray, (0,), b'b')` followed by its state: the array itself."""

    def __init__(self, arguments: Any) -> None:
        if not (isinstance(arguments, tuple) and len(arguments) == 3 and arguments[0] == _Name("ndarray")):
            raise _Refused("a malformed array")
        self.value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise _Refused("a malformed array")
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran is True else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """The array, after checking that its parts are valid and fit together."""
    if not (
        isinstance(shape, tuple)
        and len(shape) <= 4
        and all(type(side) is int and side >= 0 for side in shape)
        and isinstance(dtype, _Dtype)
        and type(data) in (bytes, bytearray)
        and order in ("C", "F")
        and math.prod(shape) * np.dtype(dtype.code).itemsize == len(data)
    ):
        raise _Refused("an array whose shape does not fit its data")
    return np.frombuffer(bytes(data), dtype=dtype.code).reshape(shape, order=order)


def loads(data: bytes) -> Any:
    """The content of a pickle of dicts (with text keys), lists, tuples, numbers, text and arrays.

    Tuples become lists, arrays become read-only `numpy.ndarray`; `None`, booleans and bytes are allowed too.
    Raises `UserError` for anything else, without running any of it.
    """
    try:
        return _plain(_Machine().run(data), depth=0, done={})
    except _Refused as refusal:
        raise UserError(f"the pickle holds {refusal}, and only plain numpy arrays are read") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeError) as error:
        raise UserError("it is not a complete, well-formed pickle") from error


def read(path: Path) -> Any:
    """`loads` of a file of at most 64 MiB."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(f"it has {size} bytes, more than {MAX_BYTES}, the limit for a pickled template")
    return loads(path.read_bytes())


def dumps(value: Any) -> bytes:
    """A pickle of plain dicts, lists, numbers and numpy arrays that both NumPy 1 and NumPy 2 can read."""
    data = pickle.dumps(value, protocol=PROTOCOL)
    parts, start = [], 0
    for opcode, _, position in pickletools.genops(data):
        if opcode.name == "GLOBAL" and data.startswith(b"cnumpy._core.", position or 0):
            parts += [data[start:position], b"cnumpy.core."]
            start = (position or 0) + len(b"cnumpy._core.")
    return b"".join([*parts, data[start:]])


class _Machine:
    """The pickle machine: a stack, a memo, and the instructions that data needs."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_INSTRUCTIONS:
                raise _Refused(f"more than {MAX_INSTRUCTIONS} instructions")
            name = opcode.name
            if name == "STOP":
                (result,) = self.stack
                return result
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _SHORT_TUPLES:
                self.stack.append(tuple(self._pop_last(_SHORT_TUPLES[name])))
            elif name in ("BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[int(argument or 0)])
            elif name in ("BINPUT", "LONG_BINPUT"):
                self.memo[int(argument or 0)] = self.stack[-1]
            else:
                self._execute(name, argument)
        raise ValueError("no end")

    def _execute(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "APPEND" | "APPENDS":
                items = self._pop_last(1) if name == "APPEND" else self._pop_to_mark()
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop_last(2) if name == "SETITEM" else self._pop_to_mark()
                self._set_items(self._top(dict), items)
            case "GLOBAL":
                stack.append(_named(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                module, attribute = self._pop_last(2)
                stack.append(_named(f"{module}.{attribute}"))
            case "REDUCE":
                what, arguments = self._pop_last(2)
                stack.append(_record(what, arguments))
            case "BUILD":
                (state,) = self._pop_last(1)
                if not isinstance(stack[-1], _Array | _Dtype):
                    raise _Refused("an object")
                stack[-1].set_state(state)
            case _:
                raise _Refused(f"the instruction {name}")

    def _pop_last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("stack underflow")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError("wrong container")
        return self.stack[-1]

    @staticmethod
    def _set_items(target: dict[str, Any], items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str:
                raise _Refused("a dict key that is not text")
            target[key] = value


def _named(full_name: str) -> _Name:
    if full_name not in _NAMES:
        raise _Refused(f"a call of {full_name[:80]!r}")
    return _NAMES[full_name]


def _record(what: Any, arguments: Any) -> _Array | _Dtype | np.ndarray | int | float:
    if what == _Name("_reconstruct"):
        return _Array(arguments)
    if what == _Name("dtype"):
        return _Dtype(arguments)
    if what == _Name("_frombuffer") and isinstance(arguments, tuple) and len(arguments) == 4:
        return _array(*arguments)
    if what == _Name("scalar") and isinstance(arguments, tuple) and len(arguments) == 2:
        number: int | float = _array(arguments[1], arguments[0], (), "C").item()
        return number
    raise _Refused("a call")


def _plain(value: Any, depth: int, done: dict[int, Any]) -> Any:
    """`value` with every record replaced by its array; shared containers are converted once."""
    if depth > 4:
        raise _Refused("deeply nested containers")
    if isinstance(value, _Array):
        if value.value is None:
            raise _Refused("an unfinished array")
        return value.value
    if isinstance(value, dict | list | tuple):
        if id(value) not in done:
            plain: Any
            if isinstance(value, dict):
                plain = {key: _plain(item, depth + 1, done) for key, item in value.items()}
            else:
                plain = [_plain(item, depth + 1, done) for item in value]
            done[id(value)] = plain
        return done[id(value)]
    if isinstance(value, _Name | _Dtype) or value is _MARK:
        raise _Refused("a bare name")
    return value
