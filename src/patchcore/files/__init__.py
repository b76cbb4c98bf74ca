"""Files: read within bounds, and written so that they appear whole or not at all, whatever happens meanwhile.

What is written lies in a folder beside its place, `.patchcore-*.tmp`, until it is complete and on the disk; then it
takes the place in one step. A process holds a lock on that folder while it lives, so that the next one to write there
can tell what a killed one has left, and removes it. A link stays: what it leads to is replaced.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from patchcore.errors import PatchcoreError, StoreError, UsageError

_DEEPEST = 100  # JSON of ours has a handful of levels; what handles it calls itself for each
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def as_path(given: object, what: str) -> Path:
    """What a caller gives as the path of something. Errors: UsageError for what is none."""
    if isinstance(given, str | os.PathLike) and not isinstance(path := os.fspath(given), bytes) and "\0" not in path:
        return Path(path)
    kind = "a text with a zero in it" if isinstance(given, str) else type(given).__name__
    raise UsageError(f"got {kind}; expected the path of {what}. What is in memory goes to a file first.")


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
def appearing(path: str | Path, *, needed: int = 0, tidy: bool = True) -> Iterator[Path]:
    """An empty file, to be written, which then takes the place of `path`, or vanishes.

    `needed`: bytes, for the message if there are fewer. `tidy`: first remove what killed processes have left there.
    Errors: StoreError; before anything is written, where the folder does not exist or `path` is no regular file.
    """
    target = check(path)
    if tidy:
        tidy_up(target.parent)
    told = partial(writing, path, target.parent, needed)
    with told(), _workplace(target.parent) as folder, told():  # the inner one before there is room again
        temporary = folder / "new"
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # what the umask makes of a new file
        yield temporary
        temporary.chmod(mode)  # safetensors puts a file of its own there, for the owner alone
        keep(temporary)
        os.replace(temporary, target)
        keep(target.parent)


@contextmanager
def writing(what: str | Path, folder: Path, needed: int = 0) -> Iterator[None]:
    """What the system refuses while something is written into a folder is an error that names it. Errors: StoreError"""
    free = _free(folder)
    try:
        yield
    except PatchcoreError:
        raise
    except Exception as error:
        if (code := _refused(error, folder)) is None:
            raise
        sizes = f"{needed / 1e6:.1f} MB are needed, " * bool(needed) + f"{free / 1e6:.1f} MB were free in {folder}"
        advice = f"{sizes}. Make room there, or" if code in _FULL else "Mend that, or"
        raise StoreError(f"{what}: cannot be written ({os.strerror(code)}). {advice} give another place.") from error


def _refused(error: Exception, folder: Path) -> int | None:
    """The system's number for why something could not be written; None for an error of another kind."""
    if said := re.search(r"\(os error (\d+)\)|(?i:writ\w* fail|fail\w* (to )?writ)", str(error)):  # safetensors; torch
        return int(said[1] or errno.EIO) if _free(folder) >= 1 << 16 else errno.ENOSPC
    if _free(folder) < 1 << 16:
        return errno.ENOSPC  # of which not every library tells
    if not isinstance(error, OSError):
        return None
    own = f"{folder}{os.sep}.patchcore-" in str(error.filename or "") and error.errno != errno.ENOENT
    known = own or error.errno in (*_FULL, errno.EIO, errno.EROFS, None)
    return (error.errno or errno.EIO) if known else None


def _free(folder: Path) -> float:
    """Bytes."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return float("inf")


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A new folder that is locked until it vanishes. Its name is short however long that of the file will be."""
    from filelock import FileLock, Timeout

    locked = False
    while not locked:
        folder = parent / f".patchcore-{secrets.token_hex(8)}.tmp"
        folder.mkdir()
        lock = FileLock(folder / "lock")
        with suppress(Timeout):  # somebody takes it for one that was left
            with suppress(OSError, NotImplementedError):  # a file system without locks, for `tidy_up` too
                lock.acquire(timeout=0)
            locked = folder.exists()
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def tidy_up(folder: Path) -> None:
    """Remove what killed processes of this user have left in a folder."""
    from filelock import FileLock, Timeout

    for left in folder.glob(".patchcore-*.tmp"):
        with suppress(OSError, Timeout, NotImplementedError):
            about, lock = left.lstat(), FileLock(left / "lock")
            fresh = time.time() - about.st_mtime < 60 and not (left / "lock").exists()  # about to be locked
            if stat.S_ISDIR(about.st_mode) and about.st_uid == getattr(os, "geteuid", int)() and not fresh:
                lock.acquire(timeout=0)
                lock.release()
                shutil.rmtree(left, ignore_errors=True)


def check(path: str | Path) -> Path:
    """Where a file that is written at a path ends up; for use before long work, too. Errors: StoreError, UsageError."""
    path = as_path(path, "a file to write")
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        if target.is_symlink():
            raise StoreError(f"{path}: a link that leads in a circle. Delete it, or give another path.")
        if not target.parent.is_dir():
            raise StoreError(f"{path}: the folder {target.parent} does not exist. Create it first.")
        if path.exists() and not path.is_file():  # `path`: what a link of /proc leads to may have no other
            kind = "a folder" if path.is_dir() else "a device, pipe or socket"
            raise StoreError(f"{path}: {kind}; expected the path of a file, new or to be replaced. Give another path.")
        closed = next((one for one in (target.parent, target) if one.exists() and not os.access(one, os.W_OK)), None)
    except OSError as error:
        raise StoreError(f"{path}: nothing can be written there ({error.strerror}). Give another path.") from error
    if closed:
        raise StoreError(f"{path}: {closed} is read-only, or you lack the permission. Mend that, or give another path.")
    return target


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
