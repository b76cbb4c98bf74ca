"""The file of a benchmark: JSON that says what to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from patchcore.benchmark.cells import Source, sources
from patchcore.benchmark.published import Published
from patchcore.benchmark.published import read as read_published
from patchcore.data.layouts import elpv, layout_of
from patchcore.errors import UsageError, validated
from patchcore.files import contents

_LARGEST = 1 << 24  # bytes
_INSTALLED = "installed:elpv"  # and, after a slash, one of its categories
_EXAMPLE = '{"data": {"name": "path"}, "recipes": ["default", "mine.json"], "set": ["size=192"], "seeds": [0, 1, 2]}'


_Texts = Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)]


class _File(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, title=f"a JSON object with at least `data`, for example {_EXAMPLE}"
    )

    data: dict[str, str] | _Texts = Field(description="A path, a list of paths, or an object of names and paths.")
    recipes: _Texts = Field([], description="A list of texts: names of recipes, or paths of their files.")
    set: _Texts = Field([], description="A list of texts.")
    shots: list[Annotated[int, Field(ge=1, lt=2**63)]] = Field([], description="A list of whole numbers from 1 on.")
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field([], description="A list of whole numbers.")
    published: list[Any] = Field([], description="A list of figures of others, each with its source and date.")


@dataclass(frozen=True)
class Config:
    """What a file asks for; what it leaves out is empty. Recipe files are given as paths."""

    sources: tuple[Source, ...]
    recipes: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    shots: tuple[int, ...] = ()
    published: tuple[Published, ...] = ()


def read(path: Path) -> Config:
    """A benchmark's file; paths in it are relative to it. Errors: UsageError, DataError.

    Keys: `data`, a path, a list of paths, or an object of names and paths; and, each of them optional,
    `recipes`, `set`, `shots` and `seeds`, which are what the command's options of these names take, and `published`,
    figures of others (see `benchmark.published`). Instead of a path, `installed:elpv/mono` (or `poly`, or
    `installed:elpv` for both) stands for the images of the package elpv-dataset.
    """
    try:
        content = contents(path, _LARGEST)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}. Expected JSON, for example {_EXAMPLE}.") from error
    given = validated(_File, content, path)
    named = given.data.items() if isinstance(given.data, dict) else [(None, one) for one in given.data]
    found: list[Source] = []
    for name, place in named:
        found += sources(_root(path, place), name)
    if not found:
        raise UsageError(f"{path}: data is empty; expected at least one path.")
    places = {(one.dataset, one.category) for one in found}
    return Config(
        sources=tuple(found),
        recipes=tuple(str(path.parent / name) if name.endswith(".json") else name for name in given.recipes),
        assignments=tuple(given.set),
        seeds=tuple(dict.fromkeys(given.seeds)),
        shots=tuple(dict.fromkeys(given.shots)),
        published=read_published(path, given.published, places),
    )


def _root(path: Path, place: str) -> Path:
    """Where a place of `data` lies."""
    root = path.parent / place
    if place.partition("/")[0] == _INSTALLED:
        installed = elpv.installed()
        if installed is None:
            raise UsageError(f"{path}: data has {place!r}, which is not installed: {elpv.ABOUT.get}")
        root = installed / place.partition("/")[2]
    if not (root.exists() or layout_of(root)):  # a category of ELPV is no folder
        raise UsageError(f"{path}: data has {place!r}; expected the path of a folder or table that is there.")
    return root
