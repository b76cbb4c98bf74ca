"""The exported folder: its files, and whether they are those that were written."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from patchcore_runtime import manifest as manifests
from patchcore_runtime.errors import ExportError

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"  # of every other file but the signature, as `sha256sum` writes and checks them
VECTORS = "vectors/vectors.json"
AGAIN = "Copy the folder again, or export again."

_MOST = 100_000_000  # bytes of a file that is taken into memory as a whole
_DEEPEST = 32  # lists in lists, in JSON


def place(folder: object) -> Path:
    """What a caller gives as a folder. Errors: ExportError for what is no path."""
    if isinstance(folder, str | os.PathLike) and not isinstance(path := os.fspath(folder), bytes):
        return Path(path)
    raise ExportError(f"got {type(folder).__name__}; expected the path of an exported folder.")


def read(folder: str | Path) -> dict[str, Any]:
    """The manifest, after every file has been compared with its SHA-256 and all values were checked.

    Only regular files are opened. Errors: ExportError.
    """
    folder = place(folder)
    path = folder / MANIFEST
    if not os.path.isfile(path):  # which answers for what can be no path, too
        raise ExportError(f"{folder}: no {MANIFEST} in it; expected a folder that `patchcore export` has written.")
    sums = listed(folder)
    for name, expected in sums.items():
        if sha256(folder / name) != expected:
            raise ExportError(f"{folder / name}: altered or damaged (SHA-256). Copy it again, or export again.")
    manifest = manifests.checked(parsed(path), path)
    graph = str(manifest["graph"])
    weights = [graph.removesuffix(".xml") + ".bin"] if graph.endswith(".xml") else []  # opened by the engine, unasked
    if absent := [name for name in (MANIFEST, graph, *weights) if name not in sums]:
        raise ExportError(f"{folder / SUMS}: {MANIFEST} and the graph, {', '.join([graph, *weights])}, have to be in "
                          f"it; it lacks {absent[0]}. {AGAIN}")  # fmt: skip
    return manifest


def listed(folder: Path) -> dict[str, str]:
    """Names and digests, as SHA256SUMS lists them. Errors: ExportError."""
    path = folder / SUMS
    lines = content(path).decode("utf-8", "replace").split("\n")
    pairs = [line.rstrip("\r").partition("  ")[::2] for line in lines if line.strip()]
    sums = {name: digest for digest, name in pairs}
    if not sums or len(sums) < len(pairs) or not all(name and _is_digest(digest) for digest, name in pairs):
        raise ExportError(f"{path}: damaged. {AGAIN}")
    if outside := next((name for name in sums if not _is_inside(name)), None):
        raise ExportError(f"{path}: it lists {outside!r}; expected names of files in the folder. {AGAIN}")
    return sums


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file, to be read; a pipe or a device is never waited for. Errors: ExportError, in the block, too."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ExportError(f"{path}: a folder, pipe or device; expected a file. {AGAIN}")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise ExportError(f"{path} is missing. {AGAIN}") from None
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or error or "not enough memory"
        raise ExportError(f"{path}: it cannot be read ({reason}). {AGAIN}") from error


def content(path: Path) -> bytes:
    """All of a small file. Errors: ExportError."""
    with opened(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > _MOST:
            raise ExportError(f"{path}: {size} bytes; expected {_MOST} at most. {AGAIN}")
        return file.read(_MOST)


def parsed(path: Path) -> Any:
    """The JSON in a small file: numbers are finite, texts can be written, and nothing is nested beyond reason."""
    try:
        value = json.loads(content(path).decode("utf-8"), parse_constant=_refuse)
        _check(value, _DEEPEST)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}: damaged ({str(error)[:200]}). {AGAIN}") from error
    return value


def _check(value: Any, deeper: int) -> None:
    if not deeper:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number beyond all bounds")
    if isinstance(value, str):
        value.encode()
    for one in (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check(one, deeper - 1)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _is_inside(name: str) -> bool:
    plain = name.isprintable() and "\\" not in name
    return plain and all(one not in ("", ".", "..") for one in name.split("/"))
