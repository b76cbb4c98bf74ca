"""What a benchmark measures: cells, one for each data set x category x recipe x seed, and their keys."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from patchcore import __version__
from patchcore.data import MAX_PIXELS, datasets
from patchcore.errors import DataError, UsageError
from patchcore.recipe import Recipe


@dataclass(frozen=True)
class Source:
    """One category of a data set, and where it lies."""

    dataset: str
    category: str
    path: Path


@dataclass(frozen=True)
class Options:
    """How cells are measured. `threads` and `memory` move times and peaks, but no score."""

    device: str = "auto"
    engine: str = "torch"
    precision: str = "fp32"
    skip_bad: bool = False
    max_pixels: int = MAX_PIXELS
    threads: int | None = None
    memory: int | str | None = None


@dataclass(frozen=True)
class Cell:
    """One fit and one evaluation. `data` is the digest of what the category holds (see `digest`)."""

    source: Source
    recipe_name: str
    recipe: Recipe
    seed: int
    assignments: tuple[str, ...] = ()
    data: str = ""
    options: Options = Options()

    @property
    def names(self) -> dict[str, Any]:
        """The columns that say which cell this is."""
        return {
            "dataset": self.source.dataset,
            "category": self.source.category,
            "recipe": self.recipe_name,
            "seed": self.seed,
        }

    @property
    def key(self) -> str:
        """A digest of all that the cell's scores depend on: what has the same key need not be run again.

        Names, the pictures' names, kinds and sizes, the whole recipe with its weights, the engine, and the
        version of patchcore; not where the data lie, nor threads.
        """
        options = asdict(self.options)
        of = {
            **self.names,
            "data": self.data,
            "fields": self.recipe.to_dict(),
            "weights": [_content(one.weights) for one in self.recipe.parts],
            "options": {name: value for name, value in options.items() if name not in ("threads", "memory")},
            "version": __version__,
        }
        return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return " ".join(f"{'seed ' if name == 'seed' else ''}{value}" for name, value in self.names.items())


@cache
def _content(weights: str) -> str:
    """The digest of a weights file; of weights that have a name, the name."""
    return hashlib.sha256(Path(weights).read_bytes()).hexdigest() if Path(weights).is_file() else weights


def plan(
    sources: Sequence[Source],
    recipes: Mapping[str, Recipe],
    seeds: Iterable[int],
    assignments: tuple[str, ...] = (),
    options: Options | None = None,
) -> list[Cell]:
    """The cells of a benchmark, in the order in which they are run. Errors: UsageError."""
    places = [(source.dataset, source.category) for source in sources]
    for place in places:
        if places.count(place) > 1:
            both = " and ".join(str(source.path) for source in sources if (source.dataset, source.category) == place)
            raise UsageError(
                f"{both} have the same name, {'/'.join(place)}. Give each of them once, or give names in a config "
                'file: {"data": {"name": "path", ...}}.'
            )
    seeds = list(seeds)
    return [
        Cell(source, name, recipe.replace(seed=seed), seed, assignments, content, options or Options())
        for source in sources
        for content in [digest(source.path)]
        for name, recipe in recipes.items()
        for seed in seeds
    ]


def digest(path: Path) -> str:
    """What a category holds: its pictures' and masks' names, kinds and sizes in bytes; nothing if it is broken."""
    try:
        found = datasets.detect(path)
    except (DataError, OSError):  # the cell's own process says what is wrong
        return ""
    parts = [
        (part, sample.name, sample.kind, *(_size(file) for file in (sample.picture, sample.mask)))
        for part, samples in (("train", found.train), ("test", found.test))
        for sample in samples
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _size(file: Any) -> int | None:
    return file.stat().st_size if isinstance(file, Path) and file.is_file() else None


def sources(root: Path, name: str | None = None) -> list[Source]:
    """The categories at a path: a category or a CSV table itself, those in a data set, or those of several data sets.

    `name`: what the data set is called; by default, its folder. A folder with `train` or `test` in it is
    meant as a category also when it is broken, so that the benchmark says so. Errors: DataError.
    """
    root = Path(os.path.abspath(root))  # `.` and `..` have no names
    if root.is_file():
        return [Source(name or root.stem, root.stem, root)]
    if _is_category(root):
        return [Source(name or root.parent.name, root.name, root)]
    if found := _within(root, name):
        return found
    if found := [one for folder in _folders(root) for one in _within(folder, name and f"{name} {folder.name}")]:
        return found
    raise DataError(
        f"{root} holds no labelled pictures. Expected a category (train/good and test/<kind>), a data set (a folder "
        "of categories), a folder of data sets, or a CSV table with a label column."
    )


def _within(root: Path, name: str | None) -> list[Source]:
    return [Source(name or root.name, folder.name, folder) for folder in _folders(root) if _is_category(folder)]


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _is_category(folder: Path) -> bool:
    if (folder / "train").is_dir() or (folder / "test").is_dir():
        return True
    try:
        return bool(datasets.detect(folder).test)
    except DataError:
        return False
