"""Region of interest: which parts of an image count, as polygons."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]  # of the width or height, from the top left corner
Polygon = Annotated[tuple[tuple[Share, Share], ...], Field(min_length=3, max_length=10_000)]
Polygons = Annotated[tuple[Polygon, ...], Field(max_length=1000)]


_FORM = 'polygons with corners from 0 to 1: {"include": [[[x, y], ...], ...]}, or {"areas": [{"name": ..., ...}, ...]}'


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, title=_FORM)


class Area(_Part):
    """One part of an image that counts: what is inside any polygon of `include` and of none of `exclude`.

    Attributes:
        name: What verdicts call it; empty for one that is alone.
        include: Polygons of corners (x, y), as shares of width and height; none: the whole image.
        exclude: Polygons that are left out.
    """

    name: Annotated[str, Field(max_length=100)] = ""
    include: Polygons = ()
    exclude: Polygons = ()


class Roi(_Part):
    """The region of interest: one area, or several that have names. What is in two areas belongs to the first.

    >>> Roi(areas=[Area(include=[[(0, 0), (0.5, 0), (0.5, 1), (0, 1)]])]).names
    ('',)
    """

    areas: Annotated[tuple[Area, ...], Field(min_length=1, max_length=100)]

    @model_validator(mode="before")
    @classmethod
    def _of_one(cls, given: Any) -> Any:
        """An area alone may be written without the list around it."""
        one = isinstance(given, dict) and "areas" not in given and {"name", "include", "exclude"} & set(given)
        return {"areas": [given]} if one else given

    @model_validator(mode="after")
    def _check(self) -> Roi:
        names = self.names
        if len(names) > 1 and ("" in names or len(set(names)) < len(names)):
            raise ValueError(f"areas have the names {list(names)}; of several, each needs a name of its own")
        if self.areas == (Area(name=names[0]),):
            raise ValueError("the area includes and excludes nothing; give it polygons, or leave roi out")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.areas)
