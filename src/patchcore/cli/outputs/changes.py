"""Lines about versions of a model: of `teach` and the like, `set`, `history`, `plan` and `diff`."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field, JsonValue
from typing_extensions import TypedDict

from patchcore.cli.outputs.line import Count, Counts, Number, Pair, Rate, Score, Sha256, Verdict, line, said


@line
class Taught(TypedDict):
    name: str
    score: Pair


@line
class Terms(TypedDict):
    false_reject_rate: Rate
    confidence: Rate | None
    miss_rate: Rate | None
    unsure: Rate | None
    threshold: Score | None
    lower_threshold: Score | None
    pixel_threshold: Score | None


_Odd = TypedDict(  # keys that are no names in Python
    "_Odd",
    {
        "from": Annotated[NotRequired[Terms], said("of set, as to: rates and thresholds")],
        "to": NotRequired[Terms],
        "now nearest": Annotated[NotRequired[dict[str, Number]], said("of forget: images, with so many rows")],
    },
)


@line
class Versioned(_Odd):
    """A version of a model."""

    version: Number
    what: Annotated[str, said("what was done")]
    who: str
    why: str
    when: Annotated[str, said("ISO 8601, UTC")]
    images: Annotated[Counts, said("before and after, as rows and threshold")]
    rows: Counts
    threshold: Pair
    before: Annotated[Sha256, said("of what was learned")]
    after: Sha256
    chain: Annotated[Sha256, said("of this entry and the chain of the one before")]
    promise: Annotated[NotRequired[str], said("what the thresholds are worth now")]
    taught: Annotated[NotRequired[list[Taught]], said("of teach: scores before and after")]
    radius: Annotated[NotRequired[Pair], said("of teach and forget: how far from the bank a good patch is at most")]
    good: Annotated[NotRequired[Count], said("of recalibrate: images")]
    score: Annotated[NotRequired[Pair], said("of recalibrate: their median")]
    failing: Annotated[NotRequired[Counts], said("of recalibrate: of the new images")]
    missed: Annotated[NotRequired[Counts], said("of recalibrate: known defects that pass")]
    forgotten: Annotated[NotRequired[str], said("of forget: the image")]
    lost: Annotated[NotRequired[Number], said("of forget: rows")]
    restored: Annotated[NotRequired[Number], said("of undo: the version that came back")]


@line
class Changed(Versioned):
    """The new version."""

    path: str
    sha256: Sha256


_Set = TypedDict("_Set", {"from": Terms, "to": Terms})


@line
class Set(_Set):
    """The new version."""

    path: str
    version: Number
    what: str
    who: str
    why: str
    when: str
    images: Counts
    rows: Counts
    before: Sha256
    after: Sha256
    chain: Sha256
    sha256: Sha256
    false_reject_rate: Rate
    confidence: Rate | None
    miss_rate: Rate | None
    unsure: Rate | None
    threshold: Score | None
    lower_threshold: Annotated[Score | None, said("a score up to it passes")]
    pixel_threshold: Score | None
    calibration_enough: bool
    missing_defects: Annotated[Count | None, said("that the miss rate needs more")]


@line
class Planned(TypedDict):
    """What a rate needs."""

    false_reject_rate: Rate
    confidence: Rate | None
    parts: Annotated[Count, said("good ones that have set the threshold")]
    needed: Number
    missing: Count
    lowest_rate: Annotated[float, said("that so many parts can promise")]
    threshold: Annotated[Score | None, said("at this rate; null if parts are missing")]


@line
class Moved(TypedDict):
    added: list[str]
    removed: list[str]


@line
class Compared(TypedDict):
    """What differs."""

    recipe: Annotated[dict[str, list[JsonValue]], said("fields, before and after, as all below")]
    images: Moved
    version: Counts
    rows: Counts
    threshold: Pair
    pixel_threshold: Pair


@line
class ComparedImage(TypedDict):
    """An image of DATA."""

    path: str
    kind: Annotated[str | None, said("its label")]
    decision: Annotated[list[Verdict], Field(min_length=2, max_length=2)]
    score: Pair
