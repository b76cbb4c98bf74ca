"""Line: what the types of all lines of JSON have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, with_config
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict


def said(text: str) -> FieldInfo:
    """What a key means."""
    return Field(description=text)


line = with_config(ConfigDict(extra="forbid", strict=True))  # of a type: it has these keys and no others

Verdict = Literal["pass", "unsure", "fail"]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=1)]
Score = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Pair = Annotated[list[float | None], Field(min_length=2, max_length=2)]
Counts = Annotated[list[Count], Field(min_length=2, max_length=2)]


@line
class Unread(TypedDict):
    """An image that could not be read."""

    path: str
    error: str
