"""The JSON file that says what a benchmark measures."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from patchcore.benchmark.cells import Source, sources
from patchcore.benchmark.published import Published
from patchcore.benchmark.published import read as read_published
from patchcore.data.layouts import elpv, layout_of
from patchcore.errors import UsageError, validated
from patchcore.files import contents, from_json

_LARGEST = 1 << 24  # bytes
_INSTALLED = "installed:elpv"  # may be followed by a slash and a category
_EXAMPLE = '{"data": {"name": "path"}, "recipes": ["default", "mine.json"], "set": ["size=192"], "seeds": [0, 1, 2]}'


_Texts = Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)]


class _File(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, title=f"a JSON object with at least `data`, for example {_EXAMPLE}"
    )

    data: dict[str, str] | _Texts = Field(description="A path, a list of paths, or an object of names and paths.")
    recipes: _Texts = Field([], description="A list of recipe names, or paths of recipe files.")
    set: _Texts = Field([], description="A list of assignments, field=value.")
    shots: list[Annotated[int, Field(ge=1, lt=2**63)]] = Field([], description="A list of whole numbers from 1 on.")
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field([], description="A list of whole numbers.")
    published: list[Any] = Field([], description="A list of published results, each with its source and date.")


@dataclass(frozen=True)
class Config:
    """The content of a benchmark file; what it leaves out is empty."""

    sources: tuple[Source, ...]
    recipes: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    shots: tuple[int, ...] = ()
    published: tuple[Published, ...] = ()


def read(path: Path) -> Config:
    """Read a benchmark file. Its paths are relative to the file. Errors: UsageError, DataError.

    `data` is a path, a list of paths, or an object of names and paths. Instead of a path, `installed:elpv/mono` (or
    `poly`, or `installed:elpv` for both) stands for the images of the package elpv-dataset. All other keys are
    optional: `recipes`, `set`, `shots` and `seeds` mean the same as the command's options, and `published` lists
    results of other systems (see `benchmark.published`).
    """
    try:
        content = contents(path, _LARGEST).removeprefix(codecs.BOM_UTF8)
        from_json(content)
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
    """The path of an entry of `data`."""
    root = path.parent / place
    if place.partition("/")[0] == _INSTALLED:
        installed = elpv.installed()
        if installed is None:
            raise UsageError(f"{path}: data has {place!r}, which is not installed: {elpv.ABOUT.get}")
        root = installed / place.partition("/")[2]
    if not (root.exists() or layout_of(root)):  # a category of ELPV is not a folder
        raise UsageError(f"{path}: data has {place!r}; expected the path of an existing folder or table.")
    return root
