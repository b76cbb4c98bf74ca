"""Lines about images: of `predict`, `explain`, `audit` and `watch`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from patchcore.cli.outputs.line import Count, Number, Rate, Score, Sha256, Verdict, line, said

Box = Annotated[list[int], Field(min_length=4, max_length=4), said("left, top, width, height; pixels")]


@line
class Area(TypedDict):
    name: str
    score: Score | None
    threshold: Score | None
    decision: Verdict


@line
class Registration(TypedDict):
    shift: Annotated[list[float], Field(min_length=2, max_length=2), said("pixels to the right and down")]
    angle: Annotated[float, said("degrees, counter-clockwise")]
    residual: Annotated[float, said("0: the same as the reference; 1: nothing in common")]
    found: bool


@line
class Region(TypedDict):
    number: Number
    box: Box
    polygons: Annotated[list[list[list[float]]], said("outlines of points x, y; pixels")]
    peak: Annotated[Score, said("the highest value of the map")]
    area: Score
    length: Annotated[Score, said("the longer side of the smallest rectangle around it, at any angle")]
    width: Score
    unit: Literal["px", "mm"]


@line
class Near(TypedDict):
    image: str
    row: Count
    column: Count
    augmentation: Annotated[str | None, said("of the copy of the image, if it was mirrored or turned")]
    box: Box | None
    sha256: Annotated[Sha256 | None, said("of the image's pixels")]


@line
class Patch(TypedDict):
    row: Annotated[Count, said("on the grid of patches")]
    column: Count
    box: Box
    distance: Annotated[Score, said("to the nearest row of the bank")]
    p_value: Annotated[Rate | None, said("how often the most unusual patch of a good image is as far")]
    nearest: Annotated[Near | None, said("the good patch that is most like it")]


@line
class Evidence(TypedDict):
    patches: Annotated[list[Patch], said("the most unusual first")]
    good_images: Annotated[Count, said("that the p-values come from")]
    p_value_of: Annotated[str, said("what they are of")]


@line
class Predicted(TypedDict):
    """An image."""

    path: Annotated[str, said("as given")]
    score: Annotated[Score | None, said("null where nothing of the image counts")]
    normalised: Annotated[Score | None, said("0.5 at the threshold")]
    p_value: Annotated[Rate | None, said("how probable so high a score is for a good image")]
    threshold: Annotated[Score | None, said("a score above it fails; null without one")]
    lower_threshold: Annotated[Score | None, said("a score up to it passes; null: the threshold")]
    decision: Verdict
    reason: Annotated[str | None, said("why a verdict is unsure")]
    seconds: Annotated[Score, said("on the clock, for network, search and scores")]
    nearest_image: Annotated[str | None, said("the training image nearest to the most unusual patch")]
    time: Annotated[str, said("ISO 8601, UTC")]
    model: Annotated[str, said("as given")]
    warnings: Annotated[list[str], said("what is wrong with a part of the image")]
    foreign: Annotated[Score | None, said("above 1 it is not this part; null without a gate")]
    areas: Annotated[NotRequired[list[Area]], said("with a region of interest")]
    registration: Annotated[NotRequired[Registration], said("with a registration")]
    regions: Annotated[NotRequired[list[Region]], said("with --regions; the highest peak first")]
    evidence: Annotated[NotRequired[Evidence], said("with --evidence")]


@line
class PartPredicted(TypedDict):
    """A part that several images show."""

    part: str
    images: Annotated[list[str], said("their paths")]
    rule: Literal["worst", "mean"]
    score: Score | None
    p_value: Rate | None
    threshold: Annotated[Score | None, said("for parts")]
    lower_threshold: Score | None
    decision: Verdict
    reason: str | None
    warnings: list[str]


@line
class NearestImage(TypedDict):
    image: str
    patches: Number


@line
class Defect(TypedDict):
    outcome: Annotated[str, said("found, missed, failed elsewhere, or that there is no threshold")]
    patches: Annotated[Number, said("that show some of it")]
    width_in_cells: Score
    distance: Annotated[Score, said("of its most unusual patch")]
    median_distance: Score
    rank: Annotated[Number, said("of that patch among all of the image")]
    p_value: Rate | None
    good_beyond: Annotated[Count | None, said("good images with a patch at least as far")]
    map_peak: Score
    map_p_value: Rate | None
    usual_distance: Annotated[Score | None, said("of good images")]
    nearest_images: list[NearestImage]


@line
class Explained(TypedDict):
    """An image."""

    path: str
    score: Score | None
    threshold: Score | None
    decision: Verdict
    evidence: Evidence
    defect: Annotated[Defect | None, said("with --mask")]
    facts: list[str]
    advice: list[str]


@line
class Audited(TypedDict):
    """A good image; the most unusual one first."""

    rank: Number
    path: str
    score: Annotated[Score | None, said("null for a copy")]
    unlike: Annotated[Score | None, said("the score as a multiple of the usual one")]
    remarks: list[str]


@line
class Began(TypedDict):
    """The watch begins."""

    event: Literal["begin"]
    time: str
    model: str
    folder: str
    seen: Annotated[Count, said("images so far")]
    learning: Annotated[dict[str, Count], said("what has no reference yet, and how many images are missing")]
    alarms: Annotated[list[str], said("what has changed before")]


@line
class Restarted(TypedDict):
    """It compares anew."""

    event: Literal["restart"]
    time: str
    why: str


@line
class Seen(TypedDict):
    """An image."""

    event: Literal["image"]
    time: str
    path: str
    number: Number
    score: Score | None
    decision: Verdict


@line
class Alarm(TypedDict):
    """Something has changed."""

    event: Literal["alarm"]
    time: str
    what: Annotated[str, said("score, brightness, contrast, sharpness, across or down")]
    before: Annotated[float, said("its median in the images of calibration")]
    now: float
    spreads: Annotated[float | None, said("the change, in units of its spread before")]
    since: Annotated[str, said("about where the change began")]
    since_number: Number
    image: Annotated[str, said("that gave the alarm")]
    number: Number
    advice: str


@line
class Learned(TypedDict):
    """The first images are the reference now."""

    event: Literal["learned"]
    time: str
    number: Number


@line
class Unreadable(TypedDict):
    """An image that could not be read, also later."""

    event: Literal["unreadable"]
    time: str
    path: str
    error: str


@line
class Ended(TypedDict):
    """The watch ends."""

    event: Literal["end"]
    time: str
    seen: Count
    alarms: list[str]
