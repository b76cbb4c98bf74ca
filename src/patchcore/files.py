"""Files that are read within bounds, and that appear whole or not at all, whatever happens meanwhile.

What is written has a name of its own beside its place until it is complete and on the disk; then it takes the place
in one step. A link stays: what it leads to is replaced.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from patchcore.errors import StoreError

_DEEPEST = 100  # JSON of ours has a handful of levels; what handles it calls itself for each


def opened(path: str | Path) -> BinaryIO:
    """A regular file, opened to be read; a pipe would be waited for, and a device has no end. Errors: OSError."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        what = "a folder" if stat.S_ISDIR(kind) else "a device, pipe or socket"
        raise OSError(0, f"{what}, where a file was expected", str(path))
    return open(handle, "rb")


def contents(path: str | Path, most: int) -> bytes:
    """All bytes of a regular file that has at most so many. Errors: OSError, ValueError."""
    with opened(path) as file:
        if len(found := file.read(most + 1)) > most:
            raise ValueError(f"more than {most} bytes")
    return found


def from_json(text: str | bytes) -> Any:
    """What JSON says. Errors: ValueError, also for endless lists within lists, and for a key that is given twice."""
    try:
        found = json.loads(text, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError(f"values within more than {_DEEPEST} others") from None
    level: list[Any] = [found]
    for _ in range(_DEEPEST):
        level = [own for one in level if isinstance(one, dict | list) for own in _inside(one)]
        if not level:
            return found
    raise ValueError(f"values within more than {_DEEPEST} others")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object: by itself JSON takes the last of several values. Errors: ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is in it twice; give each key once")
    return found


def _inside(one: dict[str, Any] | list[Any]) -> Iterator[Any]:
    return (own for own in (one.values() if isinstance(one, dict) else one) if isinstance(own, dict | list))


@contextmanager
def appearing(path: str | Path) -> Iterator[Path]:
    """An empty file beside `path`, to be written: it then takes the place of `path`, or vanishes.

    Errors: StoreError, before anything is written, where the folder does not exist or `path` is no regular file.
    """
    target = check(path)
    temporary = _beside(target)
    try:
        temporary.touch(exist_ok=False)  # by O_EXCL: nobody else's file, and no link
        mode = temporary.stat().st_mode  # what the umask makes of a new file
        yield temporary
        temporary.chmod(mode)  # safetensors puts a file of its own there, for the owner alone
        keep(temporary)
        os.replace(temporary, target)
        keep(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check(path: str | Path) -> Path:
    """Where a file that is written at a path ends up; for use before long work, too. Errors: StoreError."""
    path = Path(path)
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise StoreError(f"{path}: a link that leads in a circle. Delete it, or give another path.")
    if not target.parent.is_dir():
        raise StoreError(f"{path}: the folder {target.parent} does not exist. Create it first.")
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "a device, pipe or socket"
        raise StoreError(f"{path}: {kind}; expected the path of a file, new or to be replaced. Give another path.")
    return target


def _beside(target: Path) -> Path:
    """A new name in the same folder, short however long the target's own is."""
    return target.with_name(f".{secrets.token_hex(8)}.tmp")


def keep(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if not path.is_dir():
        with path.open("rb" if os.name == "posix" else "rb+") as file:  # Windows wants to be allowed to write
            os.fsync(file.fileno())
    elif os.name == "posix":
        with suppress(OSError):  # some file systems do not do that for folders
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
