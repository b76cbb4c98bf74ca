"""The file of a benchmark: JSON that says what to measure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcore.benchmark.cells import Source, sources
from patchcore.benchmark.published import Published
from patchcore.benchmark.published import read as read_published
from patchcore.data.layouts import elpv, layout_of
from patchcore.errors import UsageError, nearest_name

_KEYS = ("data", "recipes", "set", "shots", "seeds", "published")
_INSTALLED = "installed:elpv"  # and, after a slash, one of its categories
_EXAMPLE = '{"data": {"name": "path"}, "recipes": ["default", "mine.json"], "set": ["size=192"], "seeds": [0, 1, 2]}'


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
        given = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}. Expected JSON, for example {_EXAMPLE}.") from error
    if not isinstance(given, dict) or "data" not in given:
        raise UsageError(f"{path}: expected a JSON object with at least `data`, for example {_EXAMPLE}.")
    for key in given:
        if key not in _KEYS:
            raise UsageError(f"{path}: there is no key {key!r}.{nearest_name(key, _KEYS)} Known: {', '.join(_KEYS)}.")
    data = given["data"]
    named = data.items() if isinstance(data, dict) else [(None, one) for one in _texts(path, "data", data)]
    found: list[Source] = []
    for name, place in named:
        found += sources(_root(path, place), name)
    recipes = tuple(
        str(path.parent / name) if name.endswith(".json") else name
        for name in _texts(path, "recipes", given.get("recipes", []))
    )
    seeds = _numbers(path, "seeds", given.get("seeds", []), 0)
    shots = _numbers(path, "shots", given.get("shots", []), 1)
    if not found:
        raise UsageError(f"{path}: data is empty; expected at least one path.")
    assignments = tuple(_texts(path, "set", given.get("set", [])))
    places = {(one.dataset, one.category) for one in found}
    published = read_published(path, given.get("published", []), places)
    return Config(tuple(found), recipes, assignments, seeds, shots, published)


def _root(path: Path, place: Any) -> Path:
    """Where a place of `data` lies."""
    root = path.parent / place if isinstance(place, str) else path
    if isinstance(place, str) and place.partition("/")[0] == _INSTALLED:
        installed = elpv.installed()
        if installed is None:
            raise UsageError(f"{path}: data has {place!r}, which is not installed: {elpv.ABOUT.get}")
        root = installed / place.partition("/")[2]
    if not isinstance(place, str) or not (root.exists() or layout_of(root)):  # a category of ELPV is no folder
        raise UsageError(f"{path}: data has {place!r}; expected the path of a folder or table that is there.")
    return root


def _numbers(path: Path, key: str, value: Any, least: int) -> tuple[int, ...]:
    """A list of whole numbers, each of them once."""
    if not isinstance(value, list) or any(type(number) is not int or number < least for number in value):
        from_one = "" if least == 0 else f" from {least} on"
        raise UsageError(f"{path}: {key} is {value!r}; expected a list of whole numbers{from_one}, for example [1, 2].")
    return tuple(dict.fromkeys(value))


def _texts(path: Path, key: str, value: Any) -> list[str]:
    """One text or a list of texts, as a list."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{path}: {key} is {value!r}; expected a list of texts.")
    return texts
