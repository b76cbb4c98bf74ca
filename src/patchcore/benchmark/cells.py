"""The cells of a benchmark, one for each dataset x category x recipe x shots x seed, and their keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from patchcore.data.layouts import categories
from patchcore.data.reading import MAX_PIXELS
from patchcore.data.resolve import detect
from patchcore.errors import DataError, UsageError
from patchcore.recipe.recipe import Recipe

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Source:
    """One category of a dataset, and its path."""

    dataset: str
    category: str
    path: Path


@dataclass(frozen=True)
class Options:
    """How cells are measured. `threads` and `memory` affect times and peak memory, but no score."""

    device: str = "auto"
    engine: str = "torch"
    precision: str = "fp32"
    skip_bad: bool = False
    max_pixels: int = MAX_PIXELS
    threads: int | None = None
    memory: int | str | None = None


@dataclass(frozen=True)
class Cell:
    """One fit and one evaluation. `data` is the `digest` of the category; `shots` is the number of good images to
    fit on, drawn by `seed` (None: all of them)."""

    source: Source
    recipe_name: str
    recipe: Recipe
    seed: int
    assignments: tuple[str, ...] = ()
    data: str = ""
    options: Options = Options()
    shots: int | None = None

    @property
    def names(self) -> dict[str, Any]:
        """The columns that identify the cell."""
        return {
            "dataset": self.source.dataset,
            "category": self.source.category,
            "recipe": self.recipe_name,
            "shots": self.shots,
            "seed": self.seed,
        }

    @property
    def key(self) -> str:
        """A digest of everything that the scores depend on. A cell whose key has a row already is not run again.

        It covers the cell's names, its images' names, kinds and sizes, the whole recipe with its weights, the engine
        and patchcore's own code, but not the location of the data, or threads and memory.
        """
        options = asdict(self.options)
        of = {
            **self.names,
            "data": self.data,
            "fields": self.recipe.to_dict(),
            "weights": [_content(one.weights) for one in self.recipe.each],
            "options": {name: value for name, value in options.items() if name not in ("threads", "memory")},
            "code": _code(_PACKAGE),
        }
        return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        said = {"shots": "shots ", "seed": "seed "}
        return " ".join(f"{said.get(name, '')}{value}" for name, value in self.names.items() if value is not None)


@cache
def _content(weights: str) -> str:
    """The digest of a weights file, or the name of named weights."""
    return hashlib.sha256(Path(weights).read_bytes()).hexdigest() if Path(weights).is_file() else weights


@cache
def _code(package: Path) -> str:
    """The digest of a package's source files. In an editable installation, the version does not follow the code."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def plan(
    sources: Sequence[Source],
    recipes: Mapping[str, Recipe],
    seeds: Iterable[int],
    assignments: tuple[str, ...] = (),
    options: Options | None = None,
    shots: Sequence[int | None] = (None,),
) -> list[Cell]:
    """The cells of a benchmark in the order they run, without those that `short` returns.

    Errors: UsageError, also if no category has enough good images for a number of shots.
    """
    places = [(source.dataset, source.category) for source in sources]
    for place in places:
        if places.count(place) > 1:
            both = " and ".join(str(source.path) for source in sources if (source.dataset, source.category) == place)
            raise UsageError(
                f"{both} have the same name, {'/'.join(place)}. Give each of them once, or name them in a config "
                'file: {"data": {"name": "path", ...}}.'
            )
    seeds, lacking = list(seeds), short(sources, shots)
    for n in shots:
        had = {f"{one.dataset} {one.category}": lacking[one, n] for one in sources if n and (one, n) in lacking}
        if had and len(had) == len(sources):
            raise UsageError(
                f"shots is {n}, but there are fewer good images to fit on: "
                f"{', '.join(f'{name} has {count}' for name, count in had.items())}. Expected at most "
                f"{max(had.values())}. Lower shots, or leave it out to fit on all images."
            )
    return [
        Cell(source, name, recipe.replace(seed=seed), seed, assignments, content, options or Options(), n)
        for source in sources
        for content in [digest(source.path)]
        for name, recipe in recipes.items()
        for n in shots
        for seed in seeds
        if (source, n) not in lacking
    ]


def short(sources: Sequence[Source], shots: Sequence[int | None]) -> dict[tuple[Source, int], int]:
    """The categories with fewer good images than the shots asked for, as {(category, shots): number of images}."""
    found: dict[tuple[Source, int], int] = {}
    for source in sources if any(shots) else ():
        try:
            had = len(detect(source.path).train)
        except (DataError, OSError):  # the cell's own process reports the error
            continue
        found |= {(source, n): had for n in shots if n is not None and had < n}
    return found


def digest(path: Path) -> str:
    """A digest of a category's images and masks (names, kinds, sizes in bytes); empty if they cannot be listed."""
    try:
        found = detect(path)
    except (DataError, OSError):  # the cell's own process reports the error
        return ""
    parts = [
        (part, sample.name, sample.kind, *(_size(file) for file in (sample.image, sample.mask)))
        for part, samples in (("train", found.train), ("test", found.test))
        for sample in samples
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _size(file: Any) -> int | None:
    return file.stat().st_size if isinstance(file, Path) and file.is_file() else None


def sources(root: Path, name: str | None = None) -> list[Source]:
    """The categories that `patchcore.data.layouts.categories` finds at a path, including broken ones.

    `name` replaces the dataset's own name; if there are several datasets, it is put before theirs. Errors: DataError.
    """
    found = categories(root)
    several = len({one.dataset for one in found}) > 1
    return [
        Source(one.dataset if name is None else f"{name} {one.dataset}" if several else name, one.category, one.path)
        for one in found
    ]
