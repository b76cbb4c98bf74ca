"""Figures that others have published: rows beside our own, which are nothing without their source and date."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcore.errors import UsageError, nearest_name

AVERAGE = "average"  # the category whose figures are means over categories
METRICS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05")
_KEYS = ("name", "source", "date", "figures")
_EXAMPLE = (
    '{"name": "SystemX", "source": "where it stands, and how it was measured", "date": "2024-05", '
    '"figures": {"DATASET/CATEGORY": {"image_auroc": 0.99}}}'
)


@dataclass(frozen=True)
class Published:
    """The figures of one system: metrics by dataset and category."""

    name: str
    source: str
    date: str  # a year, a month or a day: 2024, 2024-05, 2024-05-31
    figures: dict[tuple[str, str], dict[str, float]]

    def __str__(self) -> str:
        return f"{self.name}: {self.source} ({self.date})"


def read(path: Path, given: Any, places: Collection[tuple[str, str]]) -> tuple[Published, ...]:
    """The entries of `published` in a benchmark's file.

    `places`: datasets and categories of the benchmark; a dataset's `average` is one, too. Errors: UsageError,
    for an entry without source or date above all.
    """
    if not isinstance(given, list):
        raise UsageError(f"{path}: published is {given!r}; expected a list of objects like {_EXAMPLE}.")
    known = {*places, *((dataset, AVERAGE) for dataset, _ in places)}
    return tuple(_entry(f"{path}: published, entry {number}", one, known) for number, one in enumerate(given, 1))


def _entry(where: str, given: Any, known: Collection[tuple[str, str]]) -> Published:
    if not isinstance(given, dict):
        raise UsageError(f"{where}: {given!r}; expected an object like {_EXAMPLE}.")
    for key in given:
        if key not in _KEYS:
            raise UsageError(f"{where}: there is no key {key!r}.{nearest_name(key, _KEYS)} Known: {', '.join(_KEYS)}.")
    for key in ("name", "source", "date"):
        if not isinstance(given.get(key), str) or not given[key].strip():
            raise UsageError(
                f"{where}: there is no {key}. A figure of others needs a name, its source and its date: {_EXAMPLE}."
            )
    if not re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", given["date"]):
        raise UsageError(f"{where}: date is {given['date']!r}; expected a year, a month or a day, for example 2024-05.")
    figures = given.get("figures")
    if not isinstance(figures, dict) or not figures or not all(isinstance(one, dict) for one in figures.values()):
        raise UsageError(f"{where}: figures is {figures!r}; expected metrics by category, as in {_EXAMPLE}.")
    return Published(
        given["name"],
        given["source"],
        given["date"],
        {_place(where, k, known): _figures(where, v) for k, v in figures.items()},
    )


def _place(where: str, text: str, known: Collection[tuple[str, str]]) -> tuple[str, str]:
    names = {"/".join(place): place for place in known}
    if text not in names:
        raise UsageError(
            f"{where}: figures of {text!r}, which is not measured here.{nearest_name(text, names)} "
            f"Known: {', '.join(sorted(names))}."
        )
    return names[text]


def _figures(where: str, given: dict[str, Any]) -> dict[str, float]:
    for metric, value in given.items():
        if metric not in METRICS:
            raise UsageError(
                f"{where}: there is no metric {metric!r}.{nearest_name(metric, METRICS)} Known: {', '.join(METRICS)}. "
                "(Times and memory of another machine do not compare.)"
            )
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise UsageError(f"{where}: {metric} is {value!r}; expected a share between 0 and 1, for example 0.991.")
    return given
