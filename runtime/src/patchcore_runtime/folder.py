"""The exported folder: its manifest, and whether its files are those that were written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from patchcore_runtime.errors import ExportError

FORMAT = 1
MANIFEST = "manifest.json"


def read(folder: str | Path, check: bool = True) -> dict[str, Any]:
    """The manifest. `check` also compares every file with its SHA-256. Errors: ExportError."""
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise ExportError(f"{folder}: no {MANIFEST} in it; expected a folder that `patchcore export` has written.")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        version = int(manifest["format"])
        files = dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path}: damaged ({error}). Copy the folder again, or export again.") from error
    if version > FORMAT:
        raise ExportError(f"{path}: format {version}; this version reads formats up to {FORMAT}. Upgrade it.")
    for name, expected in files.items() if check else ():
        if not (folder / name).is_file():
            raise ExportError(f"{folder}: {name} is missing. Copy the folder again, or export again.")
        if sha256(folder / name) != expected:
            raise ExportError(f"{folder / name}: altered or damaged (SHA-256). Copy it again, or export again.")
    return dict(manifest)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
