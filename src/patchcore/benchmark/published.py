"""Published results of other systems, shown beside our own. Each needs a source and a date."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from patchcore.errors import UsageError, nearest_name, validated

AVERAGE = "average"  # stands for a category: the mean over all categories
_EXAMPLE = (
    '{"name": "SystemX", "source": "where it was published, and how it was measured", "date": "2024-05", '
    '"figures": {"DATASET/CATEGORY": {"image_auroc": 0.99}}}'
)


_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Share = Annotated[float, Field(ge=0, le=1, description="A share between 0 and 1, for example 0.991.")]


class _Entry(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, title=f"an object with a name, a source, a date and figures: {_EXAMPLE}"
    )

    name: _Text
    source: _Text
    date: str = Field(
        pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$", description="A year, a month or a day, for example 2024-05."
    )
    figures: dict[str, dict[str, Any]] = Field(min_length=1, description="Metrics by category.")


class _Figures(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, title="metrics only: times and memory of another machine are not comparable"
    )

    image_auroc: _Share = 0
    image_ap: _Share = 0
    image_f1_max: _Share = 0
    pixel_auroc: _Share = 0
    pixel_f1_max: _Share = 0
    aupro_30: _Share = 0
    aupro_05: _Share = 0


METRICS = tuple(_Figures.model_fields)


@dataclass(frozen=True)
class Published:
    """The published metrics of one system, by dataset and category."""

    name: str
    source: str
    date: str  # a year, a month or a day: 2024, 2024-05, 2024-05-31
    figures: dict[tuple[str, str], dict[str, float]]

    def __str__(self) -> str:
        return f"{self.name}: {self.source} ({self.date})"


def read(path: Path, given: Sequence[object], places: Collection[tuple[str, str]]) -> tuple[Published, ...]:
    """The entries of `published` in a benchmark file. Errors: UsageError.

    `places`: the datasets and categories of the benchmark; the category `average` is accepted for each dataset.
    """
    known = {*places, *((dataset, AVERAGE) for dataset, _ in places)}
    return tuple(_entry(f"{path}: published, entry {number}", one, known) for number, one in enumerate(given, 1))


def _entry(where: str, given: object, known: Collection[tuple[str, str]]) -> Published:
    entry = validated(_Entry, given, where)
    figures = {
        _place(where, name, known): validated(_Figures, given, f"{where}: {name}").model_dump(exclude_unset=True)
        for name, given in entry.figures.items()
    }
    return Published(entry.name, entry.source, entry.date, figures)


def _place(where: str, text: str, known: Collection[tuple[str, str]]) -> tuple[str, str]:
    names = {"/".join(place): place for place in known}
    if text not in names:
        raise UsageError(
            f"{where}: figures of {text!r}, which this benchmark does not measure.{nearest_name(text, names)} "
            f"Known: {', '.join(sorted(names))}."
        )
    return names[text]
