"""The marker: a small `.faiss` file beside rows that are stored as safetensors.

Scripts for patchcore-inspection count the files that end in `.faiss`, to see how many models a folder holds. The marker
says in plain words that it is no index, and where the rows are.
"""

from __future__ import annotations

from pathlib import Path

from patchcore.errors import StoreError
from patchcore.files import appearing, opened

_BEGIN = "Not a FAISS index: "  # a FAISS file begins with another four letters


def write(path: Path, rows: Path) -> None:
    """Write a marker at `path` for the rows in the file `rows` beside it. Errors: StoreError."""
    text = (
        f"{_BEGIN}the rows are in {rows.name}, beside this file. patchcore.inspection reads them.\n"
        "This file is for scripts that count the files that end in .faiss.\n"
    )
    with appearing(path) as temporary:
        temporary.write_text(text, "utf-8")


def followed(filename: str | Path, suffix: str) -> Path:
    """The file that has the rows: `filename` itself or, if that is a marker, the one with `suffix` beside it.

    Errors: StoreError for a marker whose rows are missing.
    """
    path = Path(filename)
    try:
        with opened(path) as file:
            found = file.read(len(_BEGIN)) == _BEGIN.encode()
    except OSError:  # whoever reads it says so
        return path
    rows = path.with_suffix(suffix)
    if found and not rows.is_file():
        raise StoreError(f"{path}: a marker, not an index: its rows are in {rows.name}. Copy that file too.")
    return rows if found else path
