"""What a benchmark measures: cells, one for each dataset x category x recipe x shots x seed, and their keys."""

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
from patchcore.recipe.fields import Recipe

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Source:
    """One category of a dataset, and where it lies."""

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
    """One fit and one evaluation. `data` is the digest of what the category holds (see `digest`); `shots`: at most
    so many good images to fit on, drawn from the seed."""

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
        """The columns that say which cell this is."""
        return {
            "dataset": self.source.dataset,
            "category": self.source.category,
            "recipe": self.recipe_name,
            "shots": self.shots,
            "seed": self.seed,
        }

    @property
    def key(self) -> str:
        """A digest of all that the cell's scores depend on: what has the same key need not be run again.

        Names, the images' names, kinds and sizes, the whole recipe with its weights, the engine, and
        patchcore's own code; not where the data lie, nor threads.
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
    """The digest of a weights file; of weights that have a name, the name."""
    return hashlib.sha256(Path(weights).read_bytes()).hexdigest() if Path(weights).is_file() else weights


@cache
def _code(package: Path) -> str:
    """The digest of the sources of a package. A version does not do: an editable installation keeps its own."""
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
    """The cells of a benchmark, in the order in which they are run; without those that `short` names.

    Errors: UsageError, also where no category has so many good images.
    """
    places = [(source.dataset, source.category) for source in sources]
    for place in places:
        if places.count(place) > 1:
            both = " and ".join(str(source.path) for source in sources if (source.dataset, source.category) == place)
            raise UsageError(
                f"{both} have the same name, {'/'.join(place)}. Give each of them once, or give names in a config "
                'file: {"data": {"name": "path", ...}}.'
            )
    seeds, lacking = list(seeds), short(sources, shots)
    for n in shots:
        had = {f"{one.dataset} {one.category}": lacking[one, n] for one in sources if n and (one, n) in lacking}
        if had and len(had) == len(sources):
            raise UsageError(
                f"shots is {n}, and there are fewer good images to fit on: "
                f"{', '.join(f'{name} has {count}' for name, count in had.items())}. Expected at most "
                f"{max(had.values())}; without shots, all of them are taken."
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
    """The categories that have fewer good images than a number of shots, with that number: how many they have."""
    found: dict[tuple[Source, int], int] = {}
    for source in sources if any(shots) else ():
        try:
            had = len(detect(source.path).train)
        except (DataError, OSError):  # the cell's own process says what is wrong
            continue
        found |= {(source, n): had for n in shots if n is not None and had < n}
    return found


def digest(path: Path) -> str:
    """What a category holds: its images' and masks' names, kinds and sizes in bytes; nothing if it is broken."""
    try:
        found = detect(path)
    except (DataError, OSError):  # the cell's own process says what is wrong
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
    """The categories at a path, as `patchcore.data.layouts.categories` finds them, also those that are broken.

    `name`: what the dataset is called, where there is one. Errors: DataError.
    """
    found = categories(root)
    several = len({one.dataset for one in found}) > 1
    return [
        Source(one.dataset if name is None else f"{name} {one.dataset}" if several else name, one.category, one.path)
        for one in found
    ]
