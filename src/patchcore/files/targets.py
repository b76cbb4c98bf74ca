"""Targets: where a command writes, checked before its work begins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from patchcore.errors import StoreError, UsageError
from patchcore.files import check, tidy_up


def file(path: str | Path, inputs: Iterable[object] = ()) -> Path:
    """That a file can be written at a path and is none of the inputs, by whatever name. Returns where it ends up.

    It is in a folder that exists, new or in the place of a regular file; a link is followed. A device or pipe is
    refused: what is written there would have to be complete first, and could not take its place.
    Errors: UsageError, StoreError.
    """
    path = Path(path)
    _folder_above(path)
    target = check(path)
    no_input([path], inputs)
    writable(path, target.parent)
    tidy_up(target.parent)
    return target


def folder(path: str | Path, names: Iterable[str | Path] = (), inputs: Iterable[object] = ()) -> None:
    """That a folder is there or can be made, and files of these names in it. Errors: UsageError, StoreError."""
    path = Path(path)
    try:
        if path.is_dir():
            writable(path, path)
            tidy_up(path)
        elif os.path.lexists(path):
            kind = "a link that leads nowhere" if path.is_symlink() else "a file"
            raise UsageError(f"{path}: {kind}; expected a folder, new or existing. Give another path.")
        else:
            _can_be_made(path)
        _names(path, [path / name for name in names], inputs)
    except OSError as error:  # a name that is too long, for example
        raise StoreError(f"{path}: nothing can be written there ({error.strerror}). Give another path.") from error


def no_input(paths: Iterable[Path], inputs: Iterable[object]) -> None:
    """That none of the paths leads to one of the inputs: files, by any name and link. Errors: UsageError."""
    there = {found: path for path in paths if (found := _identity(path)) is not None}
    for one in inputs if there else ():
        if not isinstance(one, str | Path) or (found := _identity(one)) is None:
            continue  # pixels that are no file
        if path := there.get(found):
            raise UsageError(f"{path} is an input ({one}), and would be overwritten. Choose another output.")


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return None
    return about.st_dev, about.st_ino


def _folder_above(path: Path) -> None:
    try:
        missing = not path.is_symlink() and not path.parent.is_dir()
    except OSError as error:
        raise StoreError(f"{path}: nothing can be written there ({error.strerror}). Give another path.") from error
    if missing:
        what = "is a file" if path.parent.exists() else "does not exist. Create it first"
        raise UsageError(f"{path}: the folder {path.parent} {what}.")


def _can_be_made(path: Path) -> None:
    above = next(one for one in path.absolute().parents if os.path.lexists(one))
    if not above.is_dir():
        raise UsageError(f"{path}: {above} is no folder. Give another path.")
    writable(path, above)


def _names(path: Path, files: Sequence[Path], inputs: Iterable[object]) -> None:
    no_input(files, inputs)
    for parent in dict.fromkeys(one.parent for one in files):
        place = next(one for one in (parent, *parent.parents) if one == path or os.path.lexists(one))
        if place.is_dir():
            writable(path, place)
            tidy_up(place)
        elif place != path:
            raise UsageError(f"{path}: {place} is a file; expected a folder for results. Give another path.")
    for one in files:
        if os.path.lexists(one):
            check(one)


def writable(path: str | Path, folder: Path) -> None:
    """Permissions alone do not tell: a file system may be read-only, or full. Errors: StoreError."""
    try:
        tempfile.TemporaryFile(prefix=".patchcore-", dir=folder).close()
    except OSError as error:
        raise StoreError(
            f"{path}: nothing can be written in {folder} ({error.strerror}). Mend that, or give another path."
        ) from error
