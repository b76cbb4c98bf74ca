"""Names: what the output files of images are called."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

_ENDS = 17  # bytes, more than of `_evidence.png`, `_map.tiff` and a number
_LONGEST = 255  # bytes of a name, on the file systems that there are


def file_names(paths: list[tuple[Path, Path]]) -> dict[str, Path]:
    """The path of each image's output files, without extension; images with the same name are numbered.

    `A` and `a` are one name on some file systems, and so are the two ways to write an accented letter.
    """
    names: dict[str, Path] = {}
    used: set[str] = set()
    for path, relative in paths:
        if str(path) in names:
            continue
        base = _short(relative.with_suffix(""))
        name, number = base, 2
        while (key := _key(name)) in used:
            name, number = base.with_name(f"{base.name}_{number}"), number + 1
        used.add(key)
        names[str(path)] = name
    return names


def _key(name: Path) -> str:
    return unicodedata.normalize("NFC", str(name)).casefold()


def _short(path: Path) -> Path:
    """A path whose name has room for an ending: the end of one that has not becomes a digest of it."""
    raw = os.fsencode(path.name)
    if len(raw) <= _LONGEST - _ENDS:
        return path
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return path.with_name(f"{raw[: _LONGEST - _ENDS - 17].decode(errors='ignore')}-{digest}")
