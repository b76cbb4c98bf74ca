"""Public datasets are read as published; each layout has a file in `patchcore.data.layouts`.

`patchcore fit` and `patchcore evaluate` take one category, for example `MVTec/bottle`, `VisA/candle` or
`BTAD/01`: the folder that contains the folders listed below. A path that holds several categories is an
error that names them; `patchcore.data.layouts.categories` lists them, for a dataset and for a folder of
datasets. An incomplete dataset is an error that says what was found and what was expected, so that no
defective image is taken for a good one.

Nothing is downloaded or copied: get a dataset from its page, and read its licence there. The facts below
come from public copies of those pages, from READMEs in the archives and from the documentation of
anomalib, as of November 2026.

In a mask, a value above half of the range of the file's type is defective. If there is none, the file
numbers kinds of defect, and every value other than 0 is defective. Pixel metrics need a mask for every
defective image; otherwise `evaluate` gives the image metrics alone.

Data of your own: a folder of good images, the MVTec AD layout (masks and even `test` may be missing;
a mask may also be called `STEM.png`), or a CSV table with the columns `path`, `label`, `mask`, `split`
and `part` (which part an image shows: `patchcore tune` keeps all images of one part together).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from patchcore.data.layouts import (
    btad,
    elpv,
    kolektor,
    magnetic_tile,
    mvtec_ad,
    mvtec_ad2,
    mvtec_loco,
    table,
    visa,
)
from patchcore.data.layouts.tree import About, folders_in
from patchcore.data.sample import Dataset
from patchcore.errors import DataError

DATASETS: tuple[About, ...] = (
    mvtec_ad.ABOUT,
    mvtec_ad2.ABOUT,
    mvtec_loco.ABOUT,
    visa.ABOUT,
    btad.ABOUT,
    mvtec_ad.MPDD,
    kolektor.ABOUT,
    magnetic_tile.ABOUT,
    elpv.ABOUT,
)

_DEPTH = 3  # a folder of datasets, a dataset, a category


@dataclass(frozen=True)
class Layout:
    """A shape of folders and files.

    `holds`: whether a path is one category in this shape, whole or half; `read`: reads it, or says what
    is missing. `dataset`: the dataset that alone has it, if any; `single`: whether that is one category.
    """

    holds: Callable[[Path], bool]
    read: Callable[[Path], Dataset]
    dataset: str | None = None
    single: bool = False


class Category(NamedTuple):
    """One category of a dataset: what it is called in tables, and the path that `detect` takes."""

    dataset: str
    category: str
    path: Path


# Tried in this order: a layout that is a special case of another stands before it.
LAYOUTS = (
    Layout(table.holds, table.read),
    Layout(elpv.holds, elpv.read, elpv.ABOUT.name),
    Layout(kolektor.holds, kolektor.read, kolektor.ABOUT.name, single=True),
    Layout(magnetic_tile.holds, magnetic_tile.read, magnetic_tile.ABOUT.name, single=True),
    Layout(visa.holds, visa.read, visa.ABOUT.name),
    Layout(btad.holds, btad.read, btad.ABOUT.name),
    Layout(mvtec_ad2.holds, mvtec_ad2.read, mvtec_ad2.ABOUT.name),
    Layout(mvtec_loco.holds, mvtec_loco.read, mvtec_loco.ABOUT.name),
    Layout(mvtec_ad.holds, mvtec_ad.read),
)


def layout_of(path: Path) -> Layout | None:
    """The layout of one category at a path, or None: also for a plain folder, and for a folder of categories."""
    return next((layout for layout in LAYOUTS if layout.holds(path)), None)


def categories(root: str | Path) -> list[Category]:
    """The categories at a path: itself, those of a dataset, or those of several datasets in one folder.

    The name of the dataset is that of DATASETS where its layout is its alone; in the MVTec AD layout,
    which many share, it is the folder that the categories lie in. A half category is listed too: reading
    it says what is missing. Nothing but names of files and folders is looked at. Errors: DataError.
    """
    root = Path(root)
    if found := within(root):
        return found
    raise DataError(
        f"{root} holds no labelled dataset. Expected one in a layout that `patchcore datasets` lists, a folder of "
        "such, or a CSV table."
    )


def within(root: Path) -> list[Category]:
    """As `categories`, but an empty list if there are none."""
    return list(_walk(root, _DEPTH))


def _walk(path: Path, depth: int) -> Iterator[Category]:
    if layout := layout_of(path):
        whole = Path(os.path.abspath(path))  # `.` has a name, too
        named = whole.stem if path.is_file() else whole.name
        dataset = layout.dataset or (named if path.is_file() else whole.parent.name)
        yield Category(dataset, dataset if layout.single else named, path)
    elif depth:
        for part in [*elpv.parts(path), *folders_in(path)]:
            yield from _walk(part, depth - 1)
