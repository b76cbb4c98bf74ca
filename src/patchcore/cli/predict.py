"""`patchcore predict`."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from patchcore.cli.common import (
    BadImages,
    command,
    console,
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
from patchcore.errors import DataError, ImageError, UsageError, counted
from patchcore.files import appearing, targets
from patchcore.files.text import shown, write_csv

if TYPE_CHECKING:
    from patchcore.detector import Detector
    from patchcore.oversight.evidence import Evidence

_COLUMNS = (
    "path", "score", "normalised", "p_value", "threshold", "decision", "seconds", "nearest_image", "time", "model",
    "warnings",
)  # fmt: skip


@click.command()
@click.argument("model", type=existing_path)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write overlays, with the verdict below, maps and results.csv here.",
)
@click.option(
    "--map",
    "map_format",
    type=click.Choice(["tiff", "npy"]),
    default="tiff",
    show_default=True,
    help="Raw maps as 16-bit TIFF (65535 is 4 times the pixel threshold) or as float32 NumPy files.",
)
@click.option(
    "--evidence",
    is_flag=True,
    help="For each image, its most unusual patches beside the good ones most like them: as an image beside the "
    "overlay, and as a key of the JSON.",
)
@good_option
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
    evidence: bool,
    good: Path | None,
    fail_exit: bool,
    max_pixels: int,
    load: Callable[[Path], Detector],
    as_json: bool,
) -> None:
    """Score images and give verdicts. IMAGES are files or folders.

    JSON keys per image: path (as given), score, normalised, p_value (how probable so high a score is for a good
    image), threshold, decision, seconds, nearest_image (the training image that the most unusual patch is nearest to),
    time, model (as given), warnings (what is wrong with a part of the image, such as damage in a JPEG file), evidence
    if asked for (patches: row, column, box, distance, p_value, nearest; good_images; p_value_of); or path, error for
    an image that could not be read.
    """
    # A missing image among others is reported, and the others are scored. If all are missing, a path is mistyped.
    if not any(map(_there, images)):
        raise UsageError(f"{images[0]} does not exist. Give images, or folders of them.")
    if evidence and output is None and not as_json:
        raise UsageError("--evidence writes images beside the overlays, or a key of the JSON: give -o DIR, or --json.")
    from patchcore.data.reading import Reading
    from patchcore.data.sample import Sample

    sources = sources_of(good)
    bad = BadImages(lambda error: print_json({"path": error.name, "error": error.reason}) if as_json else None)
    unread = dict[Path, DataError]()
    paths = list(_expand(images, unread))
    if not paths:
        raise DataError("\n".join(map(str, unread.values())))
    names = _file_names(paths)
    if output is not None:
        ends = ["overlay.png", f"map.{map_format}", *(["evidence.png"] if evidence else [])]
        results_in = [f"{name}_{end}" for name in names.values() for end in ends]
        targets.folder(output, ["results.csv", *results_in], [model, *images, *(path for path, _ in paths)])
    detector = load(model)
    if evidence:
        from patchcore.oversight.evidence import evidence as evidence_of
    for path, why in unread.items():
        bad(ImageError(str(path), str(why).removeprefix(str(path)).lstrip(": ")))
    failed = False
    rows: list[dict[str, Any]] = []
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    results = detector.stream(
        [Sample(str(path), path) for path, _ in paths], reading=Reading(max_pixels, bad), progress=len(paths) > 1
    )
    try:
        for result in results:
            row = {
                "path": result.name,
                "score": result.score,
                "normalised": result.normalised,
                "p_value": None if math.isnan(result.p_value) else result.p_value,
                "threshold": result.threshold,
                "decision": result.decision,
                "seconds": round(result.seconds, 6),
                "nearest_image": result.nearest_image and result.nearest_image.name,
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "model": str(model),
                "warnings": list(result.warnings),
            }
            because = evidence_of(detector, result, sources=sources, max_pixels=max_pixels) if evidence else None
            for warning in result.warnings:
                say(f"{result.name}: {warning}")
            if output is not None:
                try:
                    _write(result, output / names[result.name], map_format, because)
                except ImageError as error:  # it has gone since, or is another
                    bad(error)
                    continue
            written = (
                {} if output is None else {"files": str(names[result.name]), "warnings": "; ".join(result.warnings)}
            )
            rows.append({**row, **written})
            failed |= result.decision == "fail"
            if as_json:
                print_json(row if because is None else {**row, "evidence": because.to_dict()})
    except KeyboardInterrupt:
        if output is not None and rows:
            _write_table(output, rows, bad)
            say(f"{output}: {len(rows)} of {counted(len(paths), 'image')} done; results.csv lists them.")
        raise
    if output is not None:
        _write_table(output, rows, bad)
        tell(f"Overlays, maps and results.csv are in {output}{_of_others(output, names.values())}", as_json)
    if rows and not as_json:
        _table(rows)
    bad.report("Skipped")
    if bad.errors:
        raise SystemExit(1)
    if failed and fail_exit:
        raise SystemExit(3)


def _write_table(output: Path, rows: list[dict[str, Any]], bad: BadImages) -> None:
    head = (*_COLUMNS, "files", "error")
    lines = [*rows, *({"path": error.name, "error": error.reason} for error in bad.errors)]
    with appearing(output / "results.csv") as temporary:
        write_csv(temporary, [head, *([line.get(name) for name in head] for line in lines)])


def _of_others(output: Path, names: Iterable[Path]) -> str:
    """What to say of overlays that are in the folder already and that this run's table does not list."""
    end = "_overlay.png"
    others = {path.relative_to(output) for path in output.rglob(f"*{end}")} - {Path(f"{name}{end}") for name in names}
    if not others:
        return ""
    return f"; {counted(len(others), 'overlay')} of earlier runs, which results.csv does not list, are there too"


def _there(path: Path) -> bool:
    """Whether something is at a path, as far as can be seen: where permission lacks, it may be."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        pass
    return True


def _expand(images: tuple[Path, ...], unread: dict[Path, DataError]) -> Iterator[tuple[Path, Path]]:
    """Each image, and its path relative to the folder that it was found in; paths with none are added to `unread`."""
    from patchcore.data.resolve import resolve

    for path in images:
        try:
            given = resolve(path)
        except DataError as error:
            unread[path] = error
            continue
        except OSError:  # no permission; reading it says so
            yield path, Path(path.name)
            continue
        for sample in given.samples:
            found = Path(str(sample.image))
            inside = not given.single and found.is_relative_to(path)
            yield found, found.relative_to(path) if inside else Path(found.name)


_ENDS = 17  # bytes, more than of `_evidence.png`, `_map.tiff` and a number
_LONGEST = 255  # bytes of a name, on the file systems that there are


def _file_names(paths: list[tuple[Path, Path]]) -> dict[str, Path]:
    """The path of each image's output files, without extension; images with the same name are numbered."""
    names: dict[str, Path] = {}
    used: set[Path] = set()
    for path, relative in paths:
        if str(path) in names:
            continue
        base = _short(relative.with_suffix(""))
        name, number = base, 2
        while name in used:
            name, number = base.with_name(f"{base.name}_{number}"), number + 1
        used.add(name)
        names[str(path)] = name
    return names


def _short(path: Path) -> Path:
    """A path whose name has room for an ending: the end of one that has not becomes a digest of it."""
    raw = os.fsencode(path.name)
    if len(raw) <= _LONGEST - _ENDS:
        return path
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return path.with_name(f"{raw[: _LONGEST - _ENDS - 17].decode(errors='ignore')}-{digest}")


def _write(result: Any, base: Path, map_format: Literal["tiff", "npy"], why: Evidence | None) -> None:
    import numpy as np
    from PIL import Image

    base.parent.mkdir(parents=True, exist_ok=True)
    overlay = result.overlay(caption=True)
    with appearing(base.with_name(f"{base.name}_overlay.png"), tidy=False) as temporary:
        overlay.save(temporary, "PNG")
    if why is not None:
        shown_why = why.image()
        with appearing(base.with_name(f"{base.name}_evidence.png"), tidy=False) as temporary:
            shown_why.save(temporary, "PNG")
    encoded = io.BytesIO()  # in memory first: NumPy and Pillow do not say what went wrong with a file
    if map_format == "npy":
        np.save(encoded, result.map)
        with appearing(base.with_name(f"{base.name}_map.npy"), tidy=False) as temporary:
            temporary.write_bytes(encoded.getbuffer())
        return
    unit = 65535 / (4 * result.pixel_threshold) if result.pixel_threshold > 0 else 1.0
    counts = (np.nan_to_num(result.map) * unit).round().clip(0, 65535).astype(np.uint16)
    Image.fromarray(counts).save(encoded, "TIFF", compression="tiff_deflate")
    with appearing(base.with_name(f"{base.name}_map.tiff"), tidy=False) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column("image", overflow="fold"), "score", "normalised", "verdict")
    for row in rows:
        normalised = "-" if math.isnan(row["normalised"]) else f"{row['normalised']:.3f}"
        table.add_row(Text(shown(row["path"])), f"{row['score']:.4g}", normalised, row["decision"])
    console().print(table)
