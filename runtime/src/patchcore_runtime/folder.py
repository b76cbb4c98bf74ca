"""The exported folder: its manifest, and whether its files are those that were written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from patchcore_runtime.errors import ExportError

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"  # of every other file but the signature, as `sha256sum` writes and checks them
_USED = {"engine", "graph", "static", "value_ranges", "check_float"}  # of the manifest
_USED |= {"threshold", "pixel_threshold", "tolerance", "floor"}


def read(folder: str | Path) -> dict[str, Any]:
    """The manifest, after every file has been compared with its SHA-256. Errors: ExportError."""
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise ExportError(f"{folder}: no {MANIFEST} in it; expected a folder that `patchcore export` has written.")
    sums = listed(folder)
    for name, expected in sums.items():
        if not (folder / name).is_file():
            raise ExportError(f"{folder}: {name} is missing. Copy the folder again, or export again.")
        if sha256(folder / name) != expected:
            raise ExportError(f"{folder / name}: altered or damaged (SHA-256). Copy it again, or export again.")
    try:
        manifest = dict(json.loads(path.read_text("utf-8")))
        version, graph = int(manifest["format"]), Path(manifest.get("graph", ""))
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path}: damaged ({error!r}). Copy the folder again, or export again.") from error
    if version > FORMAT:
        raise ExportError(f"{path}: format {version}; this version reads formats up to {FORMAT}. Upgrade it.")
    if missing := sorted(_USED - manifest.keys()):
        raise ExportError(f"{path}: it lacks {', '.join(missing)}. Copy the folder again, or export again.")
    if not all(isinstance(manifest[name], int | float | None) for name in ("threshold", "pixel_threshold")):
        raise ExportError(f"{path}: damaged (a threshold that is no number). Export again.")
    if not {MANIFEST, str(graph)} <= sums.keys() or graph.name != str(graph):
        raise ExportError(f"{folder / SUMS}: {MANIFEST} and the graph, {graph}, have to be in it. Export again.")
    return manifest


def listed(folder: Path) -> dict[str, str]:
    """Names and digests, as SHA256SUMS lists them. Errors: ExportError."""
    path = folder / SUMS
    if not path.is_file():
        raise ExportError(f"{folder}: {SUMS} is missing. Copy the folder again, or export again.")
    lines = path.read_text("utf-8", "replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if not sums or not all(name and len(digest) == 64 for name, digest in sums.items()):
        raise ExportError(f"{path}: damaged. Copy the folder again, or export again.")
    return sums


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
