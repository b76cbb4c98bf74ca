"""`patchcore fit`."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from patchcore.cli import cluster
from patchcore.cli.changes import teach
from patchcore.cli.cluster import cluster_option, workers_option
from patchcore.cli.common import (
    AnyPath,
    BadImages,
    check_images,
    check_new,
    check_output,
    command,
    data_path,
    device_option,
    existing_path,
    force_option,
    json_option,
    max_pixels_option,
    model_path,
    print_json,
    say,
    tell,
    threads_option,
)
from patchcore.cli.parts import part_option, with_parts
from patchcore.cli.promise import Share, confidence_option, rate_option
from patchcore.cli.recipes import read_recipe
from patchcore.errors import ImageError, UsageError, counted

if TYPE_CHECKING:
    from patchcore.detector import Detector

_SKIP = "With --skip-bad, images that cannot be used are left out and listed."
_FEW = 2  # good images; docs/recipes.md has the figures


@click.command(epilog="Example: patchcore fit parts/train/good -o parts.patchcore --false-reject 1%")
@click.argument("data", type=data_path)
@click.option("-o", "--output", type=AnyPath(path_type=Path, dir_okay=False), help="File to write.")
@click.option(
    "--update",
    type=model_path,
    metavar="MODEL",
    help="Teach this detector the images of DATA that are new to it, instead of fitting; see `patchcore teach`.",
)
@click.option(
    "--recipe",
    "recipe_names",
    multiple=True,
    default=["default"],
    show_default="default",
    help="Recipe name, or a JSON file. Repeat it to fit an ensemble, saved as one file.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change a field of the recipe, or of every member; may be repeated.",
)
@click.option("--seed", type=click.IntRange(0), help="Short for --set seed=N.")
@click.option(
    "--roi",
    type=AnyPath(),
    metavar="FILE|auto",
    help="Region of interest: a JSON file of polygons, a mask image (look where it is not black), or `auto`, the "
    "foreground that all good images share.",
)
@click.option("--limit", type=click.IntRange(1), help="Use at most this many training images, drawn by seed.")
@click.option(
    "--reject-suspects",
    "rejected",
    type=Share(0, 0.499999),
    default=0.0,
    help="Leave this share of the images out, those most unlike the rest; needs a second fit. See `patchcore audit`.",
)
@click.option("--memory", metavar="SIZE", help="Memory for fitting, in addition to the model, for example 2GB.")
@rate_option
@confidence_option
@part_option
@click.option("--calibration", type=existing_path, help="Good images that set the threshold, instead of some of DATA.")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and list them.")
@click.option(
    "--thumbnails/--no-thumbnails",
    default=None,
    help="Keep a small copy of each training image in the file, so that evidence can show it; by default if all of "
    "them take less than 2 MB.",
)
@click.option("--no-weights", is_flag=True, help="Store only a hash of the backbone's weights.")
@click.option("--sign", "key", metavar="KEY", help="Ed25519 private key (PEM) to sign the file with; writes FILE.sig.")
@click.option(
    "--models",
    type=AnyPath(path_type=Path, file_okay=False),
    metavar="DIR",
    help="With --cluster, instead of -o: fit a model for each category of the dataset DATA, and write them here.",
)
@click.option(
    "--way",
    type=click.Choice(["exact", "merge"]),
    default="exact",
    show_default=True,
    help="With --cluster: exact gives the bank of one machine; merge takes fewer messages.",
)
@click.option(
    "--checkpoints",
    type=AnyPath(path_type=Path, file_okay=False),
    metavar="DIR",
    help="With --cluster: a folder that all workers share. A run that was stopped goes on with what is there.",
)
@cluster_option
@workers_option
@force_option
@max_pixels_option
@device_option
@threads_option
@json_option
@command
def fit(
    data: Path,
    output: Path | None,
    update: Path | None,
    recipe_names: tuple[str, ...],
    assignments: tuple[str, ...],
    seed: int | None,
    roi: str | None,
    limit: int | None,
    rejected: float,
    memory: str | None,
    rate: float | None,
    confidence: float | None,
    part: re.Pattern[str] | None,
    calibration: Path | None,
    skip_bad: bool,
    thumbnails: bool | None,
    no_weights: bool,
    key: str | None,
    models: Path | None,
    way: Literal["exact", "merge"],
    checkpoints: Path | None,
    address: str | None,
    workers: int | None,
    force: bool,
    max_pixels: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Learn from good images and write a detector.

    DATA is a folder of good images, one category of a dataset (in the MVTec AD layout, or another that
    `patchcore datasets` lists), or a CSV table with the columns path, label, mask, split.

    JSON keys: path, images, skipped, rejected (names of suspects that were left out), bank_rows, threshold,
    pixel_threshold, calibration_images, calibration_enough, thumbnails (bytes), seconds (on the clock, from the first
    image to the written file), sha256.
    """
    if update:
        given = click.get_current_context().get_parameter_source
        _check_update([name for name in _OF_A_FIT if given(name) == click.core.ParameterSource.COMMANDLINE])
        context = {"rows": None, "max_pixels": max_pixels, "device": device, "threads": threads, "as_json": as_json}
        own = {"output": output, "who": None, "why": "fit --update", "key": key, "require_signature": None}
        click.get_current_context().invoke(teach, model=update, images=(data,), **context, **own)
        return
    if address is None and (models or checkpoints or workers):
        raise UsageError(
            "--models, --checkpoints and --workers belong to --cluster. Leave them out, or give --cluster."
        )
    if rejected and address is not None:
        raise UsageError(
            "--reject-suspects needs all images in one process: leave out --cluster, or give `audit` first."
        )
    if address is not None:  # its workers have one core each, and no other device
        cluster.check_alone({"--device": device not in ("auto", "cpu"), "--threads": threads}, "fit")
    if models is not None:
        cluster.check_alone({"-o": output, "--calibration": calibration, "--roi": roi, "--part": part}, "fit --models")
        recipe = read_recipe(recipe_names, assignments, seed)
        many = cluster.Many(cluster.address_of(address), workers, memory, skip_bad, max_pixels)
        raise SystemExit(cluster.fit_each(recipe, data, models, many, as_json))
    if output is None:
        raise UsageError("Give the file to write: -o FILE. To teach a detector new images: --update MODEL.")
    from patchcore.model import signature, signing

    if key:
        signing.private_key(key)  # fails before the work if the key cannot be used
    recipe = read_recipe(recipe_names, assignments, seed)
    promised = {"false_reject_rate": rate, "confidence": confidence}
    recipe = recipe.replace(**{name: value for name, value in promised.items() if value is not None})
    if roi is not None:
        from patchcore.oversight.region_file import read_region

        recipe = recipe.replace(roi=roi if roi == "auto" else read_region(roi))
    inputs = [
        data,
        calibration,
        key,
        *([roi] if roi and roi != "auto" else []),
        *recipe_names,
        *(one.weights for one in recipe.each),
    ]
    check_new(output, force, inputs)
    if key:
        check_output(signature.signature_of(output), inputs)
    _check_memory(memory)

    from patchcore.data.reading import Reading  # what is wrong with the arguments is said before this is loaded
    from patchcore.data.resolve import detect, resolve
    from patchcore.detector import Detector

    begin, bad = time.perf_counter(), BadImages()
    if address is not None:
        how = cluster.One(cluster.address_of(address), workers, way, memory, checkpoints, limit, thumbnails)
        reading = Reading(max_pixels, bad if skip_bad else None)
        detector = cluster.fit(recipe, data, calibration, part, how, reading)
        _finish(detector, output, key, not no_weights, begin, bad, thumbnails, recipe_names, as_json)
        return
    found = detect(data)
    check_images(output, found, calibration)
    say(f"{data}: {found.description}")
    detector = Detector(recipe, device=device, threads=threads)
    samples, others = found.train, calibration and resolve(calibration, learning=True).samples
    samples, others = with_parts(samples, part), others and with_parts(others, part)
    suspects: tuple[str, ...] = ()
    try:
        if rejected:
            from patchcore.data.resolve import limited
            from patchcore.oversight.audit import without_suspects

            samples, limit = list(limited(samples, limit, recipe.seed)), None
            reading = Reading(max_pixels, (lambda _: None) if skip_bad else None)
            samples, suspects = without_suspects(
                detector, samples, rejected, memory=memory, reading=reading, progress=True
            )
            say(f"Left out {counted(len(suspects), 'suspect')}: {', '.join(suspects)}")
        detector.fit(
            samples,
            calibration=others,
            memory=memory,
            limit=limit,
            thumbnails=thumbnails,
            reading=Reading(max_pixels, bad if skip_bad else None),
            progress=True,
        )
    except ImageError as error:
        if not skip_bad:
            error.args = (f"{error} {_SKIP}",)
        raise
    if suspects:
        detector = Detector.of(replace(detector.fitted, rejected=suspects), device=device, threads=threads)
    _finish(detector, output, key, not no_weights, begin, bad, thumbnails, recipe_names, as_json)


def _finish(
    detector: Detector,
    output: Path,
    key: str | None,
    weights: bool,
    begin: float,
    bad: BadImages,
    thumbnails: bool | None,
    recipe_names: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write the model, and say what it is."""
    from patchcore.model import signing

    digest = detector.save(output, weights=weights)
    if key:
        tell(f"Signature: {signing.sign(output, key)}", as_json)
    seconds = time.perf_counter() - begin
    bad.report("Left out")
    fitted = detector.fitted
    small = 0 if fitted.album.thumbnails is None else fitted.album.thumbnails.nbytes
    kept = f"{small / 1e6:.2g} MB of thumbnails" if small else "no thumbnails"
    if not small and thumbnails is None:
        kept += " (they would take more than 2 MB; --thumbnails keeps them)"
    tell(
        f"{output}: {counted(fitted.rows, 'patch', 'patches')} in the memory bank, "
        f"{counted(len(fitted.images), 'image')} read, in {seconds:.1f} s, {output.stat().st_size / 1e6:.1f} MB, "
        f"{kept}",
        as_json,
    )
    if len(fitted.images) <= _FEW and recipe_names == ("default",):
        say("With one or two images, --recipe few_shot often finds more defects: it keeps mirrored patches too.")
    if as_json:
        print_json(
            {
                "path": str(output),
                "images": len(fitted.images),
                "skipped": [error.name for error in bad.errors],
                "rejected": list(fitted.rejected),
                "bank_rows": fitted.rows,
                "threshold": fitted.calibration.threshold,
                "pixel_threshold": fitted.calibration.pixel_threshold,
                "calibration_images": len(fitted.calibration.scores),
                "calibration_enough": fitted.calibration.enough,
                "thumbnails": small,
                "seconds": round(seconds, 3),
                "sha256": digest,
            }
        )


# Options that a detector which is taught has no use for, as it keeps its recipe and thresholds.
_OF_A_FIT = (
    "recipe_names", "assignments", "seed", "limit", "rejected", "memory", "rate", "confidence", "part", "calibration",
    "skip_bad", "thumbnails", "no_weights", "force",
)  # fmt: skip


def _check_update(names: list[str]) -> None:
    """Errors: UsageError."""
    if names:
        raise UsageError(
            f"--update keeps the recipe and the thresholds of the detector, so {names[0].replace('_', ' ')} cannot be "
            "given with it. Leave it out, or fit again without --update."
        )


def _check_memory(memory: str | None) -> None:
    """Check that it is a size. (How much is enough, `Detector.fit` says.) Errors: UsageError."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        TypeAdapter(ByteSize | None).validate_python(memory)
    except ValidationError:
        raise UsageError(f"memory is {memory!r}; expected a size, for example '2GB' or 2000000000 bytes.") from None
