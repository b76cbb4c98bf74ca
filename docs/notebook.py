"""Run examples/first_inspection.ipynb, and keep what it shows.

python docs/notebook.py            needs nbclient and ipykernel
python docs/notebook.py --check    writes nothing, and fails if a cell does, or shows another kind of thing
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples" / "first_inspection.ipynb"


def executed() -> nbformat.NotebookNode:
    """The notebook with fresh outputs: without the log, which names folders, and each image in its smaller form."""
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        kept = [one for one in cell.get("outputs", []) if one.get("name") != "stderr"]
        for one in kept:
            if "image/jpeg" in one.get("data", {}):
                one.data.pop("image/png", None)
        if "outputs" in cell:
            cell.outputs = kept
    return notebook


def kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell shows: text, or an image of some type. Printed text may come in any number of pieces, and the
    forms of an image in any order."""
    shown = (
        (kind for one in cell.get("outputs", []) for kind in sorted(one.get("data", [one.output_type])))
        for cell in notebook.cells
    )
    return [[kind for kind, _ in groupby(cell)] for cell in shown]


if __name__ == "__main__":
    fresh = executed()
    if "--check" not in sys.argv:
        nbformat.write(fresh, NOTEBOOK)
    elif (now := kinds(fresh)) != (kept := kinds(nbformat.read(NOTEBOOK, nbformat.NO_CONVERT))):
        raise SystemExit(f"{NOTEBOOK.name} shows {now} now, and has {kept}. Run python docs/notebook.py.")
