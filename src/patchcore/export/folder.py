"""The folder of an export: it appears whole or not at all, and two exports never write one at once.

What is written has a name of its own beside its place until it is complete and on the disk. Where the system can
exchange two names in one step, there is an export in the place at every moment, the old one or the new one. Where it
cannot, the old one is put aside first, and whoever exports next puts it back, should nobody have had the time to.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from patchcore import files
from patchcore.errors import StoreError, UsageError
from patchcore.model.signature import IN_FOLDER

log = logging.getLogger(__name__)
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def check(path: str | Path) -> Path:
    """That an export can be written at a path, for use before long work: nothing is there, or an export alone.

    Returns where it ends up. Errors: UsageError; StoreError where the system does not allow it.
    """
    path = Path(path)
    target = Path(os.path.abspath(path))
    if not target.parent.is_dir():
        raise UsageError(f"{path}: the folder {target.parent} does not exist. Create it first.")
    there = target.exists() or target.is_symlink()
    if there and (other := _foreign(target)):
        raise UsageError(f"{path}: there is something else already ({other}). Give the path of a new folder.")
    if Path.cwd().is_relative_to(target) or os.path.ismount(target):
        what = "a mounted file system" if os.path.ismount(target) else "the folder that the program runs in"
        raise UsageError(f"{path}: {what}, which cannot be replaced. Give the path of a new folder in it.")
    inside = [Path(place) for place, _, _ in os.walk(target)] if there else []
    if closed := next((one for one in [target.parent, *inside] if not os.access(one, os.W_OK | os.X_OK)), None):
        what = "written beside it" if closed == target.parent else "replaced in it"
        raise StoreError(
            f"{path}: nothing can be {what}: {closed} is read-only, or you lack the permission. Give another path."
        )
    return target


@contextmanager
def appearing(path: str | Path) -> Iterator[Path]:
    """An empty folder beside `path`, to be filled: it then takes the place of `path` and all in it, or vanishes.

    Errors: as for `check`, before anything is written; UsageError while another export writes there.
    """
    target = check(path)
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]  # short however long the target's own is
    new, aside = (target.with_name(f".{name}.{ending}") for ending in ("tmp", "old"))
    with _alone(path, target.with_name(f".{name}.lock")):
        _tidy(path, target, new, aside)
        try:
            new.mkdir()
            yield new
            check(path)  # somebody may have put something else there meanwhile
            for one in [*new.rglob("*"), new]:
                files.keep(one)
            _put(path, new, target, aside)
            files.keep(target.parent)
        except BaseException:
            if aside.exists() and not target.exists():
                os.replace(aside, target)
            raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
            if target.exists():
                shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _alone(path: str | Path, place: Path) -> Iterator[None]:
    """The system holds the lock, and gives it back however the process ends. Errors: UsageError, if it is another's."""
    from filelock import FileLock, Timeout

    lock = FileLock(place)
    busy = f"{path}: another export is being written there. Wait until it has ended, or give another folder."
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(busy) from None
    except OSError as error:
        raise StoreError(f"{path}: nothing can be written beside it ({error.strerror}). Give another path.") from error
    try:
        if not place.exists():  # of one that has just ended, and taken the file with it
            raise UsageError(busy)
        yield
    finally:
        with suppress(OSError):  # Windows does it itself
            place.unlink()
        lock.release()


def _tidy(path: str | Path, target: Path, new: Path, aside: Path) -> None:
    """What an export that was killed has left."""
    if aside.exists() and not target.exists():
        os.replace(aside, target)
        log.warning("%s: an export that was stopped had put the older one aside. It is back in its place.", path)
    left = [one for one in (new, aside) if one.exists()]
    for one in left:
        shutil.rmtree(one, ignore_errors=True)
    if left:
        log.info("%s: removed what an export that was stopped had left beside it.", path)


def _put(path: str | Path, new: Path, target: Path, aside: Path) -> None:
    try:
        if not target.exists():
            os.replace(new, target)
        elif not _exchange(new, target):
            os.replace(target, aside)
            os.replace(new, target)
    except OSError as error:
        raise StoreError(
            f"{path}: the new folder cannot take its place ({error.strerror}). Give another path."
        ) from error


def _exchange(one: Path, other: Path) -> bool:
    """Give two folders each other's names in one step; false where the system, or the file system, cannot."""
    with suppress(OSError, AttributeError):
        rename = ctypes.CDLL(None).renameat2
        return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), ctypes.c_uint(_EXCHANGE)) == 0
    return False


def _foreign(folder: Path) -> str:
    """What is at a path that an export must not replace; empty if nothing is."""
    from patchcore_runtime import ExportError as Unlisted
    from patchcore_runtime.folder import SUMS, listed

    if folder.is_symlink() or not folder.is_dir():
        return "a link" if folder.is_symlink() else "a file"
    found = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    if not found:
        return ""
    try:
        return min(found - {*listed(folder), SUMS, IN_FOLDER}, default="")
    except Unlisted:
        return min(found)
