"""`patchcore import-inspection`."""

from __future__ import annotations

from pathlib import Path

import click

from patchcore.cli.common import command, device_option, existing_path, json_option, print_json, say
from patchcore.errors import UsageError, counted


@click.command("import-inspection")
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
@click.option("--calibration", type=existing_path, help="Good images that set the threshold, not used in training.")
@device_option
@json_option
@command
def import_inspection(
    folder: Path,
    output: Path | None,
    prepend: str,
    weights: str | None,
    resize: int | None,
    calibration: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Convert a patchcore-inspection model into a detector.

    FOLDER contains nnscorer_search_index.faiss and patchcore_params.pkl, or what patchcore.inspection has saved. The
    pickle is read without running any code in it. FAISS reads the index (needs patchcore[faiss]), so the index must
    come from a source that you trust. Without --calibration every verdict is unsure; scores and maps are not affected.

    JSON keys: path, backbone, bank_rows, neighbours, threshold, pixel_threshold, calibration_images, sha256.
    """
    from patchcore.backbones.engines import choose_device
    from patchcore.inspection import PatchCore, detector_of

    output = output or folder.with_name(f"{folder.resolve().name}.patchcore")
    if not output.parent.is_dir():
        raise UsageError(f"The folder {output.parent} does not exist. Create it first.")
    chosen = choose_device(device)
    model = PatchCore(chosen)
    model.load_from_path(folder, chosen, prepend=prepend, weights=weights or "pretrained")
    detector = detector_of(model, resize=resize, calibration=calibration)
    digest = detector.save(output)
    fitted = detector.fitted
    say(fitted.calibration.summary())
    say(
        f"{output}: {counted(fitted.rows, 'patch', 'patches')} in the memory bank, backbone "
        f"{detector.recipe.backbone}, {detector.recipe.size} pixels cropped to {detector.recipe.crop}, "
        f"{output.stat().st_size / 1e6:.1f} MB"
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
