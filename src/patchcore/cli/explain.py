"""`patchcore explain`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from patchcore.cli.common import (
    check_output,
    command,
    detector_options,
    existing_path,
    good_option,
    json_option,
    max_pixels_option,
    print_json,
    say,
    sources_of,
    tell,
)
from patchcore.files import appearing

if TYPE_CHECKING:
    from patchcore.detector import Detector


@click.command(epilog="Example: patchcore explain parts.patchcore parts/test/colour/00.jpg --mask mask.png")
@click.argument("model", type=existing_path)
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--mask",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Where the defect is: an image of the same size, not black there.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PNG file to write: the image, its heat map, and each patch beside the good one that is most like it.",
)
@click.option("-n", "count", type=click.IntRange(1, 20), default=3, show_default=True, help="Patches to show.")
@good_option
@max_pixels_option
@detector_options
@json_option
@command
def explain(
    model: Path,
    image: Path,
    mask: Path | None,
    output: Path | None,
    count: int,
    good: Path | None,
    max_pixels: int,
    load: Callable[[Path], Detector],
    as_json: bool,
) -> None:
    """Say why an image has its score, or why a defect was missed.

    With --mask: where the patches of the defect rank among those of good images, which good patches hide them, and
    what to change, if that follows. Without it: the same of the most unusual patches.

    JSON keys: path, score, threshold, decision, evidence (patches, good_images, p_value_of), defect (outcome, patches,
    width_in_cells, distance, median_distance, rank, p_value, good_beyond, map_peak, map_p_value, usual_distance,
    nearest_images) or null, facts, advice.
    """
    if output is not None:
        check_output(output, [model, image, mask])
    from patchcore.data.masks import read_mask
    from patchcore.data.reading import Reading
    from patchcore.oversight.explanation import explain as explained

    sources = sources_of(good)
    detector = load(model)
    result = detector.predict(image, reading=Reading(max_pixels))
    notes = list[str]()
    marked = None if mask is None else read_mask(mask, result.frame.source, max_pixels, notes=notes)
    for note in [*result.warnings, *notes]:
        say(note)
    why = explained(detector, result, marked, count, sources=sources)
    if output is not None:
        drawn = why.evidence.image()
        with appearing(output) as temporary:
            drawn.save(temporary, "PNG")
        tell(f"{output}: the patches beside the good ones that are most like them.", as_json)
    if as_json:
        head = {name: getattr(result, name) for name in ("score", "threshold", "decision")}
        print_json({"path": str(image), **head, **why.to_dict()})
        return
    tell(f"{image}: {result.decision}, {', '.join(result.told())}")
    for sentence in why.facts:
        tell(f"  {sentence}")
    for sentence in why.advice or (["No advice follows from these figures."] if mask else []):
        tell(sentence)
