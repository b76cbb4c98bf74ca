"""Lines of what is measured and listed: of `evaluate`, `benchmark`, `tune`, `demo`, `doctor` and the lists."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import JsonValue
from typing_extensions import TypedDict

from patchcore.cli.outputs.line import Count, Number, Rate, Score, line, said

Metric = Annotated[Rate | None, said("null without masks, or with one class only")]


class _Figures(TypedDict):
    image_auroc: Metric
    image_ap: Metric
    image_f1_max: Metric
    pixel_auroc: Metric
    pixel_f1_max: Metric
    aupro_30: Metric
    aupro_05: Metric
    images: Count
    coverage: Annotated[Rate, said("the least share of an image that was looked at")]
    false_reject_rate: Annotated[Rate | None, said("of good images, on this data")]
    miss_rate: Annotated[Rate | None, said("of defective images")]
    unsure_rate: Annotated[Rate | None, said("of all images; an unsure one counts in no other rate")]
    pixel_f1_at_threshold: Annotated[NotRequired[Metric], said("of pixels over the pixel threshold")]
    pixel_overlap_at_threshold: Annotated[NotRequired[Metric], said("the mean share of a region that is covered")]
    pixel_area_at_threshold: Annotated[NotRequired[Score | None], said("as a share of the true area")]
    mask_f1: Annotated[NotRequired[Metric], said("of the masks of results, as the next two")]
    mask_overlap: NotRequired[Metric]
    mask_area: NotRequired[Score | None]
    parts: Annotated[NotRequired[Number], said("where several images show one")]
    part_false_reject_rate: NotRequired[Rate | None]
    part_miss_rate: NotRequired[Rate | None]
    part_unsure_rate: NotRequired[Rate | None]


@line
class Evaluated(_Figures):
    """The figures."""

    skipped: Annotated[list[str], said("images that could not be read")]


@line
class Demonstrated(_Figures):
    """The figures."""

    output: str


class _Machine(TypedDict):
    processor: str
    cores: Number
    threads: Number
    python: str
    patchcore: str
    torch: str
    timm: str
    numpy: str
    date: str


class _Cell(TypedDict):
    dataset: str
    category: str
    recipe: str
    shots: Annotated[Number | None, said("good images to learn from; null: all")]
    seed: Count


@line
class Benchmarked(_Cell, _Figures, _Machine):
    """A cell, also in results.jsonl."""

    skipped: list[str]
    train_images: Number
    calibration_images: Annotated[Count, said("that set the threshold")]
    held_out_images: Annotated[Count, said("in no bank")]
    backbone: str
    bank_rows: Number
    fit_seconds: Score
    milliseconds: Annotated[Score, said("of one image, from path to verdict and map: a median")]
    fit_memory_mb: Annotated[Score | None, said("1 MB is 1e6 bytes")]
    peak_memory_mb: Score | None
    model_mb: Score | None
    device: str
    engine: str
    precision: str
    set: Annotated[list[str], said("fields that --set has changed")]
    jobs: Number
    key: Annotated[str, said("of everything that the scores depend on")]


@line
class Failed(_Cell):
    """A cell that failed."""

    error: str


@line
class Tuned(TypedDict):
    """A recipe. Values with _low and _high are 95 % limits."""

    recipe: str
    auroc: Annotated[Rate | None, said("null without defective images")]
    auroc_low: Rate | None
    auroc_high: Rate | None
    fold_auroc: list[Rate]
    below_best: Annotated[float | None, said("AUROC that it has less than the best")]
    below_best_low: float | None
    below_best_high: float | None
    false_reject_rate: Annotated[Rate, said("of held-out good images")]
    false_reject_low: Rate
    false_reject_high: Rate
    asked: Annotated[Rate, said("the rate that the recipe asks for")]
    miss_rate: Rate | None
    milliseconds: Score
    fit_seconds: Score
    model_mb: Score
    calibration_images: Annotated[Count, said("the fewest that set a threshold in a fold")]
    limits_broken: Annotated[list[str], said("of --max-ms and --max-size")]
    chosen: bool
    file: Annotated[dict[str, JsonValue], said("what a recipe file would hold")]


@line
class Chosen(_Machine):
    """The choice; the last line."""

    chosen: Annotated[str | None, said("null where every recipe breaks a limit")]
    best: str | None
    supported: Annotated[bool, said("whether the data can tell")]
    why: str
    notes: list[str]
    needed_defective: Annotated[Count | None, said("images that would tell")]
    needed_good: Count | None
    good: Count
    parts: Count
    defective: Count
    folds: Number
    seed: Count
    tolerance: Rate
    path: Annotated[str | None, said("of the file that was written")]
    skipped: list[str]


@line
class Machine(_Machine):
    usable_cores: Number | None
    load: Score
    memory: Annotated[Count, said("bytes, as the next two")]
    free_memory: Count
    free_disk: Count
    system: str


@line
class Package(TypedDict):
    name: str
    version: Annotated[str | None, said("null if it is not installed")]
    needed: str
    extra: Annotated[str, said("empty: always needed")]


@line
class HasBackbone(TypedDict):
    name: str
    installed: bool


@line
class DoctorSpeed(TypedDict):
    product: Annotated[Score, said("seconds of one of 784 x 152 by 152 x 18,816")]
    network: Annotated[Score | None, said("seconds of one image; null if it cannot be built")]


@line
class Diagnosed(TypedDict):
    """This installation."""

    machine: Machine
    devices: list[str]
    instructions: Annotated[list[str], said("that the processor has for torch")]
    packages: list[Package]
    backbones: list[HasBackbone]
    speed: DoctorSpeed
    problems: Annotated[list[str], said("what does not work, and what to do")]
    remarks: list[str]


@line
class ListedRecipe(TypedDict):
    """A recipe."""

    name: str
    description: str
    recipe: Annotated[dict[str, JsonValue], said("docs/reference/recipe.md")]


@line
class ListedBackbone(TypedDict):
    """A backbone."""

    name: str
    description: str
    installed: bool


@line
class ListedDataset(TypedDict):
    """A dataset."""

    name: str
    title: str
    source: str
    licence: str
    get: Annotated[str, said("how to get it")]
    tree: Annotated[str, said("its folders")]
    reading: Annotated[str, said("what is read of it")]
    cite: str
    path: Annotated[str | None, said("where it is installed as a package")]
