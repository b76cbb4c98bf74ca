"""Read a pickle that may contain plain values only: it can neither call nor import anything.

There are two safeguards. Before unpickling, every instruction is followed, and one that does more than build
strings, numbers, None, tuples, lists and dicts is refused: a tree of few values, none of which stands in two places,
so that what is built is no larger than the file. And the unpickler finds no class except `torch.Size`, which it
replaces by `tuple`.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcore.errors import StoreError
from patchcore.files import contents

_LARGEST = 1 << 20  # bytes; such a file has a few hundred
_MOST_STEPS, _DEEPEST = 10_000, 20  # instructions; a tuple within a list within...
_LONGEST, _WIDEST = 10_000, 256  # characters of a text, bits of a whole number
_ALONE = (
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8"
)
_FIXED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
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
        data = contents(path, _LARGEST)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: {getattr(error, 'strerror', '') or error}.") from None
    check_is_there(path, data)
    try:
        _check(data)
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = str(error)[:300] or type(error).__name__
        raise StoreError(
            f"{path}: refused: {reason}. Expected only strings, numbers, tuples, lists and dicts; a pickle with more "
            "in it could run any program. Do not open it with anything that unpickles."
        ) from None


@dataclass
class _Value:
    """What is known of a value: what it is, how deep it goes, the kinds of what a tuple holds, and a text itself."""

    kind: str = "single"
    depth: int = 0
    held: tuple[str, ...] = ()
    text: str = ""


_MARK = _Value("mark")


class _Follower:
    """Follows the instructions of a pickle without building anything."""

    def __init__(self) -> None:
        self.stack: list[_Value] = []
        self.memo: dict[int, _Value] = {}

    def step(self, name: str, argument: object) -> None:
        """Errors: UnpicklingError for an instruction that is not admitted, IndexError and others for a broken one."""
        if name in _ALONE.split():
            self.stack.append(_single(argument))
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name.startswith(("TUPLE", "EMPTY_")) or name in ("LIST", "DICT"):
            self._hold(name)
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            self._add(name)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else int(str(argument))] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET", "DUP"):
            found = self.stack[-1] if name == "DUP" else self.memo[int(str(argument))]
            if found.kind not in ("single", "class"):
                raise pickle.UnpicklingError(f"it has a {found.kind} in two places")
            self.stack.append(found)
        elif name == "POP":
            self.stack.pop()
        elif name == "POP_MARK":
            self._since_mark()
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._name(name, str(argument))
        elif name == "REDUCE":  # torch.Size((3, 224, 224)): of a text a tuple would be long
            given, called = self.stack.pop(), self.stack.pop()
            if called.kind != "class" or given.held not in (("tuple",), ("list",)):
                raise pickle.UnpicklingError("it calls something else than torch.Size of a tuple")
            self.stack.append(_Value("tuple", given.depth))
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise pickle.UnpicklingError(f"it has the instruction {name}")

    def _hold(self, name: str) -> None:
        """A new tuple, list or dict."""
        if name.startswith("EMPTY_"):
            items = []
        elif name in _FIXED:
            items = [self.stack.pop() for _ in range(_FIXED[name])]
        else:
            items = self._since_mark()
        kind = name.removeprefix("EMPTY_").rstrip("123").lower()
        self.stack.append(_holding(kind, items))

    def _add(self, name: str) -> None:
        """Items for the list or dict below them."""
        kind, size = ("list", 1) if name.startswith("APPEND") else ("dict", 2)
        items = self._since_mark() if name.endswith("S") else [self.stack.pop() for _ in range(size)][::-1]
        target = self.stack[-1]
        if target.kind != kind:
            raise pickle.UnpicklingError(f"it has the instruction {name} for a {target.kind}")
        target.depth = max(target.depth, _holding(kind, items).depth)

    def _name(self, name: str, text: str) -> None:
        """A class."""
        if name == "STACK_GLOBAL":
            own, module = self.stack.pop(), self.stack.pop()
            text = f"{module.text} {own.text}"
        if tuple(text.split(" ")) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {text.replace(' ', '.')}")
        self.stack.append(_Value("class"))

    def _since_mark(self) -> list[_Value]:
        items = []
        while (top := self.stack.pop()) is not _MARK:
            items.append(top)
        return items[::-1]


def _holding(kind: str, items: list[_Value]) -> _Value:
    depth = 1 + max((item.depth for item in items), default=0)
    if depth > _DEEPEST or any(item.kind in ("mark", "class") for item in items):
        raise pickle.UnpicklingError(f"it has a {kind} of more than {_DEEPEST} levels, or of what is no value")
    if kind == "dict" and any(key.kind != "single" for key in items[::2]):
        raise pickle.UnpicklingError("it has a key that is no text or number")
    return _Value(kind, depth, tuple(item.kind for item in items) if kind == "tuple" else ())


def _single(argument: object) -> _Value:
    if isinstance(argument, int) and argument.bit_length() > _WIDEST:
        raise pickle.UnpicklingError(f"it has a whole number of {argument.bit_length()} bits")
    if isinstance(argument, str | bytes) and len(argument) > _LONGEST:
        raise pickle.UnpicklingError(f"it has a text of {len(argument)} characters")
    return _Value(text=argument if isinstance(argument, str) else "")


def _check(data: bytes) -> None:
    follower = _Follower()
    for name, argument in instructions(data, _MOST_STEPS):
        if name.endswith("PUT") and int(argument or 0) > len(data):  # would reserve memory for so many
            raise pickle.UnpicklingError(f"it has the instruction {name} {argument}")
        follower.step(name, argument)


def instructions(data: Any, most: int) -> Iterator[tuple[str, Any]]:
    """Name and argument of each instruction of a pickle. Errors: UnpicklingError for more than so many."""
    for number, (code, argument, _) in enumerate(pickletools.genops(data)):
        if number >= most:
            raise pickle.UnpicklingError(f"it has more than {most} instructions")
        yield code.name, argument


def check_is_there(path: Path, begin: bytes) -> None:
    """Errors: StoreError for what Git LFS leaves in a file's place."""
    if begin.startswith(b"version https://git-lfs"):
        raise StoreError(f"{path}: a Git LFS pointer, not the file itself. Fetch it with: git lfs pull")
