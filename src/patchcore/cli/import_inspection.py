"""`patchcore import-inspection`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from patchcore.cli.common import (
    check_new,
    command,
    device_option,
    existing_path,
    force_option,
    json_option,
    print_json,
    say,
    tell,
)
from patchcore.errors import counted


@click.command(
    "import-inspection",
    epilog="Example: patchcore import-inspection mvtec_bottle --calibration new -o bottle.patchcore",
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; by default FOLDER.patchcore, beside the folder.",
)
@click.option("--prepend", default="", help="Prefix of the file names, for a member of an ensemble.")
@click.option("--weights", help="Local file with the backbone's weights; by default the pretrained ones.")
@click.option(
    "--resize", type=click.IntRange(1), help="Shorter side of images before the crop; by default 256 for 224."
)
@click.option(
    "--interpolation",
    type=click.Choice(["bilinear", "bicubic"]),
    default="bilinear",
    show_default=True,
    help="Kernel of that resize, as the model's images had it.",
)
@click.option(
    "--training-pass/--no-training-pass",
    default=True,
    help="Whether the backbone reads an image of ones in training mode first, as it did in patchcore-inspection.",
)
@click.option("--calibration", type=existing_path, help="Good images that set the threshold, not used in training.")
@force_option
@device_option
@json_option
@command
def import_inspection(
    folder: Path,
    output: Path | None,
    prepend: str,
    weights: str | None,
    resize: int | None,
    interpolation: Literal["bilinear", "bicubic"],
    training_pass: bool,
    calibration: Path | None,
    force: bool,
    device: str,
    as_json: bool,
) -> None:
    """Convert a patchcore-inspection model into a detector.

    FOLDER contains nnscorer_search_index.faiss and patchcore_params.pkl, or what patchcore.inspection has saved. The
    pickle is read without running any code in it. FAISS reads the index (needs patchcore[faiss]), so the index must
    come from a source that you trust. Without --calibration every verdict is unsure; scores and maps are not affected.

    JSON keys: path, backbone, bank_rows, neighbours, threshold, pixel_threshold, calibration_images, sha256.
    """
    output = output or folder.with_name(f"{folder.resolve().name}.patchcore")
    check_new(output, force, [*folder.iterdir(), calibration, weights])

    from patchcore.backbones.engines import choose_device
    from patchcore.inspection import PatchCore, detector_of

    chosen = choose_device(device)
    model = PatchCore(chosen, training_pass=training_pass)
    model.load_from_path(folder, chosen, prepend=prepend, weights=weights or "pretrained")
    detector = detector_of(model, resize=resize, interpolation=interpolation, calibration=calibration)
    digest = detector.save(output)
    fitted = detector.fitted
    say(fitted.calibration.summary())
    tell(
        f"{output}: {counted(fitted.rows, 'patch', 'patches')} in the memory bank, backbone "
        f"{detector.recipe.backbone}, {detector.recipe.size} pixels cropped to {detector.recipe.crop}, "
        f"{output.stat().st_size / 1e6:.1f} MB",
        as_json,
    )
    if as_json:
        print_json(
            {
                "path": str(output),
                "backbone": detector.recipe.backbone,
                "bank_rows": fitted.rows,
                "neighbours": detector.recipe.neighbours,
                "threshold": fitted.calibration.threshold,
                "pixel_threshold": fitted.calibration.pixel_threshold,
                "calibration_images": len(fitted.calibration.scores),
                "sha256": digest,
            }
        )
