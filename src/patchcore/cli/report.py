"""`patchcore report`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import click

from patchcore.cli.common import (
    AnyPath,
    BadImages,
    check_images,
    check_output,
    command,
    data_path,
    detector_options,
    labelled,
    max_pixels_option,
    model_path,
    tell,
)

if TYPE_CHECKING:
    from patchcore.detector import Detector


@click.command(epilog="Example: patchcore report parts.patchcore parts -o report.html")
@click.argument("model", type=model_path)
@click.argument("data", type=data_path)
@click.option(
    "-o",
    "--output",
    type=AnyPath(path_type=Path, dir_okay=False),
    default="report.html",
    show_default=True,
    help="The page to write.",
)
@click.option(
    "--good",
    type=data_path,
    help="Training images, if they are not in DATA: a folder, or anything that `fit` takes.",
)
@click.option(
    "--limit", type=click.IntRange(0, 24), default=6, show_default=True, help="Images in each of the two galleries."
)
@max_pixels_option
@detector_options
@command
def report(
    model: Path,
    data: Path,
    output: Path,
    good: Path | None,
    limit: int,
    max_pixels: int,
    load: Callable[[Path], Detector],
) -> None:
    """Measure a detector on labelled images, and write the results as one HTML page.

    DATA is what `evaluate` takes. The page opens in any browser, loads no other files, and shows metrics, a histogram,
    ROC, PR and PRO curves, verdicts by kind, the hardest defects and the most suspicious good images. Each image has
    its heat map, its most unusual patch, and the good patch nearest to that, if its training image can be read.

    Images that cannot be read are listed on the page; the exit code is then 1.
    """
    check_output(output, [model, data, good])
    instead = ", replacing what was there" if output.exists() else ""
    from datetime import datetime

    from patchcore.data.reading import Reading
    from patchcore.data.resolve import detect
    from patchcore.measure.evaluation import evaluate
    from patchcore.model import store
    from patchcore.report import Sources, render, write

    found = labelled(data)
    check_images(output, found, good)
    sources = Sources.of(detect(good), good) if good else Sources.of(found, data)
    detector = load(model)
    bad = BadImages()
    evaluation = evaluate(detector, found.test, reading=Reading(max_pixels, bad), progress=True)
    page = render(
        detector,
        evaluation,
        title=f"{model.name} on {data.resolve().name}",
        data=found.description,
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
        sha256=store.read(model)[1]["sha256"],
        bad=bad.errors,
        sources=sources,
        limit=limit,
        max_pixels=max_pixels,
    )
    write(output, page)
    tell(f"Open {output} in a browser ({len(page) / 1e6:.1f} MB{instead}).")
    bad.report("Left out")
    if bad.errors:
        raise SystemExit(1)
