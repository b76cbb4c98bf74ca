"""Read a pickle that contains one array, as patchcore-inspection saves features: nothing in it is called or imported.

Its instructions are followed here, on a stack of plain values. The names with which NumPy makes an array are recognised
as words; every other name, and every instruction that such a file does not need, is refused.
"""

from __future__ import annotations

import math
import mmap
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore.errors import StoreError
from patchcore.files import opened
from patchcore.inspection.plain_pickle import check_is_there, instructions

_MOST_STEPS = 200  # instructions; such a file has about 50
_ALONE = (
    "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8"
)
_FIXED = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KINDS, _ORDERS = ("f2", "f4", "f8"), "<>=|"
_MARK = object()


@dataclass
class _Name:
    """A function or class, which is never looked up."""

    module: str
    name: str

    def __post_init__(self) -> None:
        core, _, part = self.module.rpartition(".")
        if (self.module, self.name) not in (("numpy", "dtype"), ("numpy", "ndarray")) and (
            core not in ("numpy.core", "numpy._core")
            or (part, self.name) not in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
        ):
            raise pickle.UnpicklingError(f"it asks for {self.module}.{self.name}")


@dataclass
class _Kind:
    """The kind of an array's numbers, and the order of their bytes."""

    code: str
    order: str = "="


@dataclass
class _Array:
    kind: _Kind
    shape: tuple[int, ...] = ()
    order: Any = "C"
    data: bytes | bytearray | None = None

    def made(self) -> NDArray[Any]:
        kind = np.dtype(f"{self.kind.order}{self.kind.code}")
        if not isinstance(self.data, bytes | bytearray) or not isinstance(self.shape, tuple):
            raise pickle.UnpicklingError("its array has no numbers, or no shape")
        if [type(n) for n in self.shape] != [int, int] or min(self.shape) < 0:
            raise pickle.UnpicklingError("its array does not have two dimensions")
        if math.prod(self.shape) * kind.itemsize != len(self.data):
            raise pickle.UnpicklingError(f"it has {len(self.data)} bytes for an array of shape {self.shape}")
        return np.frombuffer(self.data, kind).reshape(self.shape, order="F" if self.order == "F" else "C")


def read(path: Path) -> NDArray[np.float32]:
    """The array (N, D) in a file. Errors: StoreError if it contains anything else, or is damaged."""
    try:
        with opened(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            check_is_there(path, data[:100])
            return np.require(_followed(data).made(), np.float32, ["C", "W"])
    except StoreError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = str(error)[:300] or type(error).__name__
        raise StoreError(
            f"{path}: refused: {reason}. Expected one array of floats (N, D), as patchcore-inspection saves features; "
            "a pickle with more in it could run any program. Do not open it with anything that unpickles."
        ) from None


def _followed(data: Any) -> _Array:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for name, argument in instructions(data, _MOST_STEPS):
        if name in _ALONE.split():
            stack.append(argument if argument is not None else {"NEWTRUE": True, "NEWFALSE": False}.get(name))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _FIXED or name == "TUPLE":
            stack.append(_taken(stack, _FIXED.get(name)))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(str(argument))] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(argument))])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, own = str(argument).split(" ") if name == "GLOBAL" else _taken(stack, 2)
            stack.append(_Name(module, own))
        elif name == "REDUCE":
            called, given = _taken(stack, 2)
            stack.append(_made(called, given))
        elif name == "BUILD":
            target, state = _taken(stack, 2)
            stack.append(_filled(target, state))
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise pickle.UnpicklingError(f"it has the instruction {name}")
    (array,) = stack
    if not isinstance(array, _Array):
        raise pickle.UnpicklingError(f"it has a {type(array).__name__.strip('_').lower()}")
    return array


def _taken(stack: list[Any], count: int | None) -> tuple[Any, ...]:
    """The uppermost values, so many or down to the mark, taken off the stack."""
    taken: list[Any] = []
    while count is None or len(taken) < count:
        if (top := stack.pop()) is _MARK:
            if count is not None:
                raise pickle.UnpicklingError("its instructions do not fit together")
            break
        taken.append(top)
    return tuple(taken[::-1])


def _made(called: Any, given: Any) -> _Kind | _Array:
    """What NumPy would make of some arguments."""
    if not isinstance(called, _Name):
        raise pickle.UnpicklingError("it calls something else than a function of NumPy")
    if called.name == "dtype":
        if given[0] not in _KINDS:
            raise pickle.UnpicklingError(f"its numbers are {given[0]!r}"[:100])
        return _Kind(given[0])
    if called.name == "_reconstruct":
        return _Array(_Kind("f4"))  # to be filled
    if called.name != "_frombuffer" or len(given) != 4 or not isinstance(given[1], _Kind):
        raise pickle.UnpicklingError("it makes something else than an array of floats")
    return _Array(given[1], given[2], given[3], given[0])


def _filled(target: Any, state: Any) -> _Kind | _Array:
    """A kind with its order of bytes, or an array with its numbers."""
    if isinstance(target, _Kind):
        if state[1] not in list(_ORDERS):
            raise pickle.UnpicklingError("its numbers have an unknown order of bytes")
        return _Kind(target.code, state[1])
    _, shape, kind, by_columns, data = state
    if not isinstance(target, _Array) or not isinstance(kind, _Kind):
        raise pickle.UnpicklingError("it fills something else than an array of floats")
    return _Array(kind, shape, "F" if by_columns else "C", data)
