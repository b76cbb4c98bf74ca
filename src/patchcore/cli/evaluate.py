"""`patchcore evaluate`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from patchcore.cli.common import (
    BadImages,
    cells,
    command,
    console,
    data_path,
    detector_options,
    json_option,
    labelled,
    max_pixels_option,
    model_path,
    needs_output,
    print_json,
    say,
)
from patchcore.cli.parts import part_option, rule_option, with_parts
from patchcore.errors import UsageError

if TYPE_CHECKING:
    from patchcore.detector import Detector


@click.command(epilog="Example: patchcore evaluate parts.patchcore parts --json")
@click.argument("model", type=model_path)
@click.argument("data", type=data_path)
@part_option
@rule_option
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and list them.")
@max_pixels_option
@detector_options
@json_option
@command
def evaluate(
    model: Path,
    data: Path,
    part: re.Pattern[str] | None,
    rule: Literal["worst", "mean"],
    skip_bad: bool,
    max_pixels: int,
    load: Callable[[Path], Detector],
    as_json: bool,
) -> None:
    """Measure a detector on labelled images.

    DATA is one category of a dataset (in the MVTec AD layout, or another that `patchcore datasets` lists), or a CSV
    table with the columns path, label, mask, split.

    JSON keys: image_auroc, image_ap, image_f1_max, pixel_auroc, pixel_f1_max, aupro_30, aupro_05 (null if the data has
    no masks, or only one class), images, skipped, coverage, false_reject_rate, miss_rate, unsure_rate (measured on this
    data; an unsure image counts in no other rate). With masks, of the pixels over the model's own pixel threshold and
    of the masks of results: pixel_f1_at_threshold, mask_f1, pixel_overlap_at_threshold, mask_overlap (the mean share of
    a true region that is covered), pixel_area_at_threshold, mask_area (as a share of the true area). With --part, or
    where the data says which part an image shows, if the model was calibrated on parts: parts, part_false_reject_rate,
    part_miss_rate, part_unsure_rate.
    """
    from patchcore.data.reading import Reading
    from patchcore.measure.evaluation import evaluate as run

    if not as_json:
        needs_output()
    found = labelled(data)
    detector = load(model)
    bad = BadImages()
    if part is not None and not detector.fitted.calibration.parts:
        raise UsageError(f"{model} was calibrated without saying which images show one part. Fit with --part REGEX.")
    options = Reading(max_pixels, bad if skip_bad else None)
    evaluation = run(detector, with_parts(found.test, part), rule=rule, reading=options, progress=True)
    bad.report("Left out")
    show(evaluation, as_json)
    if as_json:
        print_json({**evaluation.figures(), "skipped": [error.name for error in bad.errors]})


def show(evaluation: Any, as_json: bool) -> None:
    """Print tables for people."""
    from rich.table import Table

    page = console(as_json)
    table = Table("metric", "value")
    for name, value in {**evaluation.metrics, **evaluation.segmentation}.items():
        table.add_row(name, "-" if value is None else f"{value:.4f}")
    page.print(table)
    for why in evaluation.missing():
        say(why)
    table = Table("kind", "pass", "unsure", "fail")
    for kind, row in evaluation.confusion().items():
        table.add_row(*cells(kind, *(row[verdict] for verdict in ("pass", "unsure", "fail"))))
    page.print(table)
    if evaluation.parts:
        table = Table("parts", "pass", "unsure", "fail")
        for kind, row in evaluation.part_confusion().items():
            table.add_row(*cells(kind, *(row[verdict] for verdict in ("pass", "unsure", "fail"))))
        page.print(table)
    if evaluation.coverage < 1:
        why = "crop, region of interest or registration"
        say(f"Only a part of images was inspected ({why}): as little as {evaluation.coverage:.1%} of an image.")
