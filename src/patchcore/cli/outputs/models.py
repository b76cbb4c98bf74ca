"""Lines about models: of `fit`, `info`, `export`, `verify` and `import-inspection`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import JsonValue
from typing_extensions import TypedDict

from patchcore.cli.outputs.changes import Versioned
from patchcore.cli.outputs.line import Count, Counts, Number, Pair, Rate, Score, Sha256, line, said

Fields = Annotated[dict[str, JsonValue], said("docs/reference/recipe.md")]


@line
class Fitted(TypedDict):
    """The model."""

    path: str
    images: Annotated[Count, said("that were learned")]
    skipped: Annotated[list[str], said("images that could not be read")]
    rejected: Annotated[list[str], said("suspects that were left out")]
    bank_rows: Number
    threshold: Score | None
    pixel_threshold: Score | None
    calibration_images: Count
    calibration_enough: Annotated[bool, said("whether so many can promise the rate")]
    thumbnails: Annotated[Count, said("bytes")]
    seconds: Annotated[Score, said("on the clock, from the first image to the written file")]
    sha256: Sha256


@line
class FittedOfMany(TypedDict):
    """With --models: a category."""

    dataset: str
    category: str
    path: str
    skipped: NotRequired[list[str]]
    error: NotRequired[str]


@line
class Source(TypedDict):
    architecture: str
    weights: str
    licence: str
    mean: list[float]
    std: list[float]
    interpolation: str


@line
class Backbone(TypedDict):
    source: Source
    sha256: Annotated[Sha256, said("of its weights")]
    taps: list[str]
    channels: list[Number]


@line
class Bank(TypedDict):
    rows: Number
    dimensions: NotRequired[Number]
    images: NotRequired[list[str]]


@line
class Member(TypedDict):
    backbone: Backbone
    bank: Bank
    search: Literal["exact", "ivf_pq"]
    unit: Annotated[Score, said("divisor of its scores")]


@line
class Interval(TypedDict):
    confidence: Rate
    low: float
    high: Annotated[float | None, said("null where the scores are too few")]


@line
class Known(TypedDict):
    scores: list[Score]
    miss_rate: Rate
    threshold: Score
    enough: bool
    confidence: Rate | None
    images: list[str]
    parts: list[str]


@line
class Calibration(TypedDict):
    scores: list[Score]
    map_maxima: list[Score]
    false_reject_rate: Rate
    threshold: Score | None
    pixel_threshold: Score | None
    enough: bool
    interval: Annotated[Interval | None, said("of the threshold")]
    images: NotRequired[list[str]]
    parts: NotRequired[list[str]]
    crossed: Annotated[NotRequired[bool], said("each was scored without its fold")]
    confidence: NotRequired[Rate | None]
    patches: Annotated[NotRequired[list[Pair]], said("median and highest patch score of each")]
    unsure: NotRequired[Rate | None]
    lower_threshold: NotRequired[Score | None]
    defects: NotRequired[Known | None]
    looks: Annotated[NotRequired[list[list[float]]], said("five figures of each image as a whole")]


@line
class Data(TypedDict):
    images: Count
    sha256: str
    red_blue: NotRequired[Pair]
    light: NotRequired[Score]
    arrangement: NotRequired[Score]
    rejected: NotRequired[list[str]]


@line
class Reference(TypedDict):
    source: Annotated[list[Number], said("height and width")]
    limit: Annotated[Score, said("of the residual")]


@line
class Thumbnails(TypedDict):
    images: Count
    bytes: Count


@line
class Timing(TypedDict):
    engine: str
    precision: str
    network: Annotated[Score, said("seconds, as search and whole")]
    search: Score
    whole: Score
    difference: Annotated[Score, said("the largest change of a score, as a share of it")]
    rounds: Number


@line
class Faster(TypedDict):
    engine: str
    precision: str
    ratio: float


@line
class Speed(TypedDict):
    timings: list[Timing]
    faster: Annotated[Faster | None, said("null where the default is the fastest")]
    left_out: dict[str, str]
    images: Number
    made_up: bool
    threads: Number


@line
class Info(TypedDict):
    """What a file contains."""

    format: Number
    sha256: Sha256
    recipe: Fields
    backbone: Annotated[NotRequired[Backbone], said("of one member, as search")]
    search: NotRequired[Literal["exact", "ivf_pq"]]
    members: Annotated[NotRequired[list[Member]], said("of an ensemble")]
    bank: Bank
    calibration: Calibration
    data: Data
    versions: Annotated[dict[str, str], said("of what has written it")]
    history: NotRequired[list[Versioned]]
    area_units: Annotated[NotRequired[list[Score]], said("divisors of the scores of each area")]
    reference: Annotated[NotRequired[Reference], said("what others are brought to")]
    gate_limit: Annotated[NotRequired[Score], said("how far from the good images one that shows the part may be")]
    weights_included: bool
    thumbnails: Thumbnails
    speed: Annotated[NotRequired[Speed], said("with --speed")]


@line
class Quantised(TypedDict):
    calibrated_on: Number
    good: Count
    defects: Count
    auroc: Annotated[Pair | None, said("before and after, as all pairs")]
    threshold: Pair
    threshold_shift: float
    verdicts_changed: Count
    good_failing: Counts
    defects_passing: Counts
    largest: Annotated[Score, said("change of a score")]


@line
class Verified(TypedDict):
    """What was compared with the library."""

    folder: str
    images: Annotated[Count, said("that were compared")]
    score: Annotated[Score, said("the largest difference, as a share")]
    map: Score
    decisions: Annotated[Count, said("verdicts that differ")]


@line
class Exported(Verified):
    """What was written."""

    files: Annotated[dict[str, Count], said("bytes of each")]
    axes: Annotated[list[Count], said("of each bank: axes that bound its distances; 0: all rows are compared")]
    tested_with: str
    quantised: Annotated[Quantised | None, said("with int8")]
    skipped: list[str]


@line
class Imported(TypedDict):
    """The model."""

    path: str
    backbone: str
    bank_rows: Number
    neighbours: Number
    threshold: Score | None
    pixel_threshold: Score | None
    calibration_images: Count
    sha256: Sha256
