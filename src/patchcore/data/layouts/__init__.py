"""Layouts: public datasets are read as published, each by a file of this folder (docs/datasets.md)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

from patchcore.data.sample import Dataset, folders_in
from patchcore.errors import DataError

_INSTALLED = "installed:"
_DEPTH = 3  # a folder of datasets, a dataset, a category


@dataclass(frozen=True)
class About:
    """A public dataset: where it comes from, on which terms, and what is read of it."""

    name: str
    title: str
    source: str  # its public page
    licence: str
    get: str  # how to get it; nothing here does that by itself
    tree: str  # the folders as they come
    reading: str  # what is taken to train and to test on
    cite: str


@dataclass(frozen=True)
class Layout:
    """A shape of folders and files. A module of this folder that has one, `LAYOUT`, is found and used.

    Attributes:
        order: Layouts are tried in this order: a special case of another one comes before it.
        holds: Whether a path is one category in this shape, whole or half.
        read: Reads it, or says what is missing.
        about: The public datasets that come in this shape.
        dataset: The dataset that alone has it, if any.
        single: Whether that dataset is one category.
        categories: The categories at a dataset's root that are no folders of their own.
        installed: The dataset's root, where a package has installed it.
    """

    order: int
    holds: Callable[[Path], bool]
    read: Callable[[Path], Dataset]
    about: tuple[About, ...] = ()
    dataset: str | None = None
    single: bool = False
    categories: Callable[[Path], list[Path]] = lambda root: []
    installed: Callable[[], Path | None] = lambda: None


class Category(NamedTuple):
    """One category of a dataset: what it is called in tables, and the path that `detect` takes."""

    dataset: str
    category: str
    path: Path


@cache
def layouts() -> tuple[Layout, ...]:
    """All layouts, in the order in which they are tried. A new one is a new file in this folder, and nothing else."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    found: list[Layout] = [module.LAYOUT for module in modules if hasattr(module, "LAYOUT")]
    return tuple(sorted(found, key=lambda layout: layout.order))


def datasets() -> list[tuple[About, Path | None]]:
    """The public datasets that are read as they come, and where those are that a package has installed."""
    found = [(about, layout.installed()) for layout in layouts() for about in layout.about]
    return sorted(found, key=lambda one: one[0].name)


def located(place: str | os.PathLike[str]) -> Path:
    """The path of a place; `installed:NAME`, or `installed:NAME/CATEGORY`, is that of a dataset in a package.

    Errors: DataError if there is no such dataset, or it is not installed.
    """
    name, slash, category = os.fspath(place).removeprefix(_INSTALLED).partition("/")
    if not os.fspath(place).startswith(_INSTALLED):
        return Path(place)
    known = {about.name: (about, root) for about, root in datasets() if about.get.startswith("pip ")}
    if name not in known:
        raise DataError(f"{place}: no package brings a dataset {name!r}. Known: {', '.join(known)}.")
    about, root = known[name]
    if root is None:
        raise DataError(f"{place}: not installed. {about.get}")
    return root / category if slash else root


def is_there(path: Path) -> bool:
    """Whether a path names something: a file, a folder, or a category that is no folder of its own."""
    return path.exists() or layout_of(path) is not None


def layout_of(path: Path) -> Layout | None:
    """The layout of one category at a path, or None: also for a plain folder, and for a folder of categories."""
    try:
        return next((layout for layout in layouts() if layout.holds(path)), None)
    except OSError:  # nothing can be seen there, or it is no path; reading it says so
        return None


def categories(root: str | Path) -> list[Category]:
    """The categories at a path: itself, those of a dataset, or those of several datasets in one folder.

    The name of the dataset is that of `patchcore datasets` where its layout is its alone; in the MVTec AD layout,
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
    elif depth and os.access(path, os.R_OK | os.X_OK):
        inner = [category for one in layouts() for category in one.categories(path)]
        for category in [*inner, *folders_in(path)]:
            yield from _walk(category, depth - 1)
