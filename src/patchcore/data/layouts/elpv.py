"""ELPV: solar cells in electroluminescence, as the PyPI package elpv-dataset brings them.

Its two categories are no folders: they are asked for as `ROOT/mono` and `ROOT/poly`, ROOT being the
folder with labels.csv and images/ in it.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from patchcore.data.layouts import About, Layout
from patchcore.data.layouts.tree import counts
from patchcore.data.sample import GOOD, Dataset, Sample
from patchcore.errors import DataError, counted

_TYPES = ("mono", "poly")

ABOUT = About(
    name="elpv",
    title="ELPV (solar cells)",
    source="https://github.com/zae-bayern/elpv-dataset",
    licence="CC BY-NC-SA 4.0 (non-commercial)",
    get="pip install 'patchcore[demo]', or elpv-dataset alone. 2 categories: mono, poly.",
    tree="labels.csv, images/cellNNNN.png",
    reading="Image level: it has no masks. Give ROOT/mono or ROOT/poly, where ROOT holds labels.csv. A defect "
    "probability of 0 is good, 1 a defect; 1/3 and 2/3 are left out. There is no official split: a good cell is for "
    "testing if the SHA-1 of its file name, as an integer modulo 100, is less than 30. Cells of one module can be "
    "on both sides.",
    cite="Buerhop-Lutz et al., EU PVSEC 2018; Deitsch et al., Solar Energy 185 (2019); Deitsch et al., MVA 32 (2021)",
)


def installed() -> Path | None:
    """The folder of the images in the package elpv-dataset, if that is installed."""
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "data"


def cells(root: Path, cell_type: str) -> list[tuple[str, bool]]:
    """The cells of a type that are surely good or surely not: path below `root`, and whether it is good.

    Errors: DataError.
    """
    found = []
    for number, line in enumerate((root / "labels.csv").read_text("utf-8").splitlines(), 1):
        try:
            name, probability, kind = line.split()
            certain = float(probability) in (0.0, 1.0)
        except ValueError:
            raise DataError(
                f"{root / 'labels.csv'}, line {number}: {line!r}; expected a path, a probability and mono or poly."
            ) from None
        if kind == cell_type and certain:
            found.append((name, float(probability) == 0.0))
    return found


def parts(root: Path) -> list[Path]:
    """The two categories, if this is the folder that holds both."""
    labels = root / "labels.csv"
    if not labels.is_file():
        return []
    with labels.open(encoding="utf-8", errors="replace") as file:
        first = file.readline().split()
    return [root / name for name in _TYPES] if len(first) == 3 and first[2] in _TYPES else []


def holds(path: Path) -> bool:
    return path.name in _TYPES and not path.exists() and bool(parts(path.parent))


def read(path: Path) -> Dataset:
    root = path.parent
    found = cells(root, path.name)
    missing = [name for name, _ in found if not (root / name).is_file()]
    if missing:
        raise DataError(
            f"{root}: half a dataset ({ABOUT.title}). Of the {counted(len(found), 'image')} of {path.name} that "
            f"labels.csv names {len(missing)} are not there, for example {missing[0]}. {ABOUT.get}"
        )
    train: list[Sample] = []
    test: list[Sample] = []
    for name, good in found:
        sample = Sample(name, root / name, GOOD if good else "defect")
        digest = hashlib.sha1(Path(name).name.encode(), usedforsecurity=False).hexdigest()
        (test if not good or int(digest, 16) % 100 < 30 else train).append(sample)
    return Dataset(f"{ABOUT.title}, {path.name}, {counts(train, test)}, at image level", train, test)


LAYOUT = Layout(1, holds, read, (ABOUT,), ABOUT.name, categories=parts, installed=installed)
