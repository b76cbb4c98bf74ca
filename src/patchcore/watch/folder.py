"""Folder: the images that arrive in one, each once, in the order in which they came."""

from __future__ import annotations

import time
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from patchcore.data.sample import search

SETTLE = 1.0  # seconds that a file must have been left alone: it may still be being written
TRIES = 3  # before a file that cannot be read is given up

Mark = tuple[int, str]


class Arrived(NamedTuple):
    """A file, and when it came: the last time, in nanoseconds, that its data, name or place changed.

    That of writing alone would not do: a copy may keep it, and a file that is moved here has an old one.
    """

    path: Path
    mark: Mark


def arrived(
    folder: Path, after: Mark, until: float | None = None, without: Container[Path] = ()
) -> tuple[list[Arrived], bool]:
    """The images that came after a mark and have settled, in order; and whether others have not settled yet.

    Sub-folders are searched too, but not `without`. `until`: only those that came up to then, in seconds of the
    system's clock.
    Errors: DataError for a folder that cannot be read.
    """
    now, found, fresh = time.time(), list[Arrived](), False
    for path in search(folder, recursive=True, without=without)[0]:
        try:
            changed = path.stat().st_ctime_ns
        except OSError:  # it has gone again
            continue
        one = Arrived(path, (changed, str(path)))
        if one.mark <= after or (until is not None and changed / 1e9 > until):
            continue
        if abs(now - changed / 1e9) < SETTLE:  # a clock elsewhere may be ahead by more; then nothing is waited for
            fresh = True
        else:
            found.append(one)
    return sorted(found, key=lambda one: one.mark), fresh
