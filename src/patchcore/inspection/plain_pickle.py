"""Read a pickle that may contain plain values only: it can neither call nor import anything.

There are two safeguards. Before unpickling, every instruction is checked, and one that does more than
build strings, numbers, None, tuples, lists and dicts is refused. And the unpickler finds no class except
`torch.Size`, which it replaces by `tuple`.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from patchcore.errors import StoreError

_LARGEST = 1 << 20  # bytes; such a file has a few hundred
_BUILDING = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND "
    "APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS GET BINGET LONG_BINGET PUT "
    "BINPUT LONG_BINPUT MEMOIZE"
)
_CALLING = "GLOBAL STACK_GLOBAL REDUCE"  # which `torch.Size` needs
_ADMITTED = {("torch", "Size"): tuple}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def load(path: Path) -> Any:
    """The value in a file. Errors: StoreError if the file contains more than plain values, or is damaged."""
    try:
        if path.stat().st_size > _LARGEST:
            raise StoreError(f"{path}: {path.stat().st_size} bytes; expected a few hundred. It was not read.")
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}.") from None
    if data.startswith(b"version https://git-lfs"):
        raise StoreError(f"{path}: a Git LFS pointer, not the file itself. Fetch it with: git lfs pull")
    try:
        _check(data)
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise StoreError(
            f"{path}: refused: {error}. Expected only strings, numbers, tuples, lists and dicts; a pickle with more "
            "in it could run any program. Do not open it with anything that unpickles."
        ) from None


def _check(data: bytes) -> None:
    admitted = {*_BUILDING.split(), *_CALLING.split()}
    for code, argument, _ in pickletools.genops(data):
        if code.name not in admitted:
            raise pickle.UnpicklingError(f"it has the instruction {code.name}")
        if code.name == "GLOBAL" and tuple(str(argument).split(" ")) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {str(argument).replace(' ', '.')}")
        if code.name.endswith("PUT") and int(argument or 0) > len(data):  # would reserve that much memory
            raise pickle.UnpicklingError(f"it has the instruction {code.name} {argument}")
