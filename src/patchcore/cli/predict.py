"""`patchcore predict`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from patchcore.cli.common import (
    BadImages,
    command,
    detector_options,
    existing_path,
    json_option,
    max_pixels_option,
    print_json,
    say,
)
from patchcore.errors import UsageError
from patchcore.files import appearing

if TYPE_CHECKING:
    from patchcore.detector import Detector

_COLUMNS = ("path", "score", "normalised", "threshold", "decision", "seconds", "warnings")


@click.command()
@click.argument("model", type=existing_path)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write overlays, maps and results.csv here.",
)
@click.option(
    "--map",
    "map_format",
    type=click.Choice(["tiff", "npy"]),
    default="tiff",
    show_default=True,
    help="Raw maps as 16-bit TIFF (65535 is 4 times the pixel threshold) or as float32 NumPy files.",
)
@click.option("--fail-exit", is_flag=True, help="Exit with code 3 if an image failed.")
@max_pixels_option
@detector_options
@json_option
@command
def predict(
    model: Path,
    images: tuple[Path, ...],
    output: Path | None,
    map_format: Literal["tiff", "npy"],
    fail_exit: bool,
    max_pixels: int,
    load: Callable[[Path], Detector],
    as_json: bool,
) -> None:
    """Score images and give verdicts. IMAGES are files or folders.

    JSON keys per image: path (as given), score, normalised, threshold, decision, seconds, warnings (what is wrong
    with a part of the image, such as damage in a JPEG file); or path, error for an image that could not be read.
    """
    from patchcore.data.reading import Reading
    from patchcore.data.sample import Sample

    # A missing image among others is reported, and the others are scored. If all are missing, a path is mistyped.
    if not any(path.exists() for path in images):
        raise UsageError(f"{images[0]} does not exist. Give images, or folders of them.")
    paths = list(_expand(images))
    detector = load(model)
    failed = False
    rows: list[dict[str, Any]] = []
    bad = BadImages(lambda error: print_json({"path": error.name, "error": error.reason}) if as_json else None)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    names = _file_names(paths)
    results = detector.stream(
        [Sample(str(path), path) for path, _ in paths], reading=Reading(max_pixels, bad), progress=len(paths) > 1
    )
    for result in results:
        row = {
            "path": result.name,
            "score": result.score,
            "normalised": result.normalised,
            "threshold": result.threshold,
            "decision": result.decision,
            "seconds": round(result.seconds, 6),
            "warnings": list(result.warnings),
        }
        for warning in result.warnings:
            say(f"{result.name}: {warning}")
        written = {} if output is None else {"files": str(names[result.name]), "warnings": "; ".join(result.warnings)}
        rows.append({**row, **written})
        failed |= result.decision == "fail"
        if as_json:
            print_json(row)
        if output is not None:
            _write(result, output / names[result.name], map_format)
    if output is not None:
        with (
            appearing(output / "results.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.DictWriter(file, (*_COLUMNS, "files", "error"))
            writer.writeheader()
            writer.writerows(rows)
            writer.writerows({"path": error.name, "error": error.reason} for error in bad.errors)
        say(f"Overlays, maps and results.csv are in {output}")
    if rows and not as_json:
        _table(rows)
    bad.report("Skipped")
    if bad.errors:
        raise SystemExit(1)
    if failed and fail_exit:
        raise SystemExit(3)


def _expand(images: tuple[Path, ...]) -> Iterator[tuple[Path, Path]]:
    """Each image, and its path relative to the folder that it was found in."""
    from patchcore.data.resolve import resolve

    for path in images:
        given = resolve(path)
        for sample in given.samples:
            found = Path(str(sample.image))
            inside = not given.single and found.is_relative_to(path)
            yield found, found.relative_to(path) if inside else Path(found.name)


def _file_names(paths: list[tuple[Path, Path]]) -> dict[str, Path]:
    """The path of each image's output files, without extension; images with the same name are numbered."""
    names: dict[str, Path] = {}
    used: set[Path] = set()
    for path, relative in paths:
        if str(path) in names:
            continue
        base = relative.with_suffix("")
        name, number = base, 2
        while name in used:
            name, number = base.with_name(f"{base.name}_{number}"), number + 1
        used.add(name)
        names[str(path)] = name
    return names


def _write(result: Any, base: Path, map_format: Literal["tiff", "npy"]) -> None:
    import numpy as np
    from PIL import Image

    base.parent.mkdir(parents=True, exist_ok=True)
    with appearing(base.with_name(f"{base.name}_overlay.png")) as temporary:
        result.overlay().save(temporary, "PNG")
    if map_format == "npy":
        with appearing(base.with_name(f"{base.name}_map.npy")) as temporary, temporary.open("wb") as file:
            np.save(file, result.map)
        return
    unit = 65535 / (4 * result.pixel_threshold) if result.pixel_threshold > 0 else 1.0
    counts = (np.nan_to_num(result.map) * unit).round().clip(0, 65535).astype(np.uint16)
    with appearing(base.with_name(f"{base.name}_map.tiff")) as temporary:
        # In memory first: Pillow's TIFF writer does not accept every file name that the system allows.
        encoded = io.BytesIO()
        Image.fromarray(counts).save(encoded, "TIFF", compression="tiff_deflate")
        temporary.write_bytes(encoded.getvalue())


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column("image", overflow="fold"), "score", "normalised", "verdict")
    for row in rows:
        normalised = "-" if math.isnan(row["normalised"]) else f"{row['normalised']:.3f}"
        table.add_row(Text(row["path"]), f"{row['score']:.4g}", normalised, row["decision"])
    Console(stderr=True).print(table)
