"""`patchcore predict`."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from patchcore.cli.cluster import cluster_option, workers_option
from patchcore.cli.common import (
    AnyPath,
    BadImages,
    check_output,
    command,
    console,
    detector_options,
    good_option,
    json_option,
    max_pixels_option,
    model_path,
    needs_output,
    print_json,
    say,
    sources_of,
    tell,
)
from patchcore.cli.names import file_names
from patchcore.cli.parts import part_of, part_option, rule_option, show_parts
from patchcore.errors import DataError, ImageError, UsageError, counted
from patchcore.files import appearing, targets
from patchcore.files.text import json_line, shown, write_csv
from patchcore.measure import coco as entries

if TYPE_CHECKING:
    from patchcore.detector import Detector
    from patchcore.oversight.evidence import Evidence
    from patchcore.result import Result


@click.command(epilog="Example: patchcore predict parts.patchcore new -o out --regions")
@click.argument("model", type=model_path)
@click.argument("images", nargs=-1, required=True, type=AnyPath(path_type=Path, readable=False))
@click.option(
    "-o",
    "--output",
    type=AnyPath(path_type=Path, file_okay=False),
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
@click.option("--regions", is_flag=True, help="List each defect region, in the JSON objects or in the table.")
@click.option(
    "--coco",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the defect regions of all images to this JSON file, in COCO's format for object detection.",
)
@click.option(
    "--evidence",
    is_flag=True,
    help="For each image, its most unusual patches beside the good ones most like them: as an image beside the "
    "overlay, and as a key of the JSON.",
)
@good_option
@part_option
@rule_option
@click.option(
    "--results",
    "rows_file",
    type=AnyPath(path_type=Path),
    metavar="FILE",
    help="With --cluster: write a row for each image here, as JSON lines (.jsonl), CSV (.csv) or a folder of Parquet "
    "files (.parquet). Images that have a row there are not looked at again.",
)
@click.option("--fail-exit", is_flag=True, help="Exit with code 3 if an image failed; with parts, if a part did.")
@max_pixels_option
@cluster_option
@workers_option
@detector_options
@json_option
@command
def predict(
    model: Path,
    images: tuple[Path, ...],
    output: Path | None,
    map_format: Literal["tiff", "npy"],
    regions: bool,
    coco: Path | None,
    evidence: bool,
    good: Path | None,
    part: re.Pattern[str] | None,
    rule: Literal["worst", "mean"],
    rows_file: Path | None,
    fail_exit: bool,
    max_pixels: int,
    address: str | None,
    workers: int | None,
    load: Callable[[Path], Detector],
    as_json: bool,
) -> None:
    """Score images and give verdicts. IMAGES are files or folders.

    A verdict is fail if the score is greater than the threshold, pass if it is not greater than the lower threshold,
    and unsure between the two, or if the model has none, as no good image was left to set it with, or if the part was
    not found, or the image does not show it at all, which reason says. Usually the two thresholds are the same.

    JSON keys per image: path (as given), score, normalised, p_value (how probable so high a score is for a good
    image), threshold, lower_threshold (null: the threshold), decision (the verdict), seconds (on the clock, for
    network, search and scores; with waiting where the machine is busy), nearest_image (the training image that the most
    unusual patch is nearest to), time, model (as given), warnings (what is wrong with a part of the image, such as
    damage in a JPEG file), reason (why a verdict is unsure, such as `not this part`, or null), foreign (how unlike all
    good images the whole image is: above 1 it is not this part; null without a gate), areas (name, score, threshold,
    decision of each) if the model has a region of interest, registration (shift in pixels, angle in degrees, residual,
    found) if it has one, evidence if asked for (patches: row, column, box, distance, p_value, nearest; good_images;
    p_value_of); or path, error for an image that could not be read.

    With --part, or where a table has the column part, one line for each part follows those of the images: part, images
    (their paths), rule, score, p_value, threshold and lower_threshold (for parts), decision, reason, warnings. -o then
    also writes parts.csv.

    With --regions also regions, those of an image that failed, the one with the highest peak first: number (as on the
    overlay), box (left, top, width, height; pixels), polygons (outlines of points x, y; pixels), peak (the highest
    value of the map), area, length and width (sides of the smallest rectangle around it, at any angle), unit: px, or
    mm if the recipe has mm_per_pixel. results.csv has them, too, without polygons. Its cells of regions, areas and
    registration are JSON.
    """
    if address is not None:
        from patchcore.cli import cluster

        given = {"-o": output, "--coco": coco, "--evidence": evidence, "--good": good, "--part": part}
        cluster.check_alone(given, "predict")
        done = cluster.predict(model, images, rows_file, address, workers, max_pixels, regions, load, as_json)
        raise SystemExit(1 if done.bad else 3 if fail_exit and done.failed else 0)
    if rows_file is not None or workers is not None:
        raise UsageError("--results and --workers belong to --cluster; without it, give -o DIR or --json.")
    if output is None and not as_json:
        needs_output()
    # A missing image among others is reported, and the others are scored. If all are missing, a path is mistyped.
    if not any(map(_there, images)):
        raise UsageError(f"{images[0]} does not exist. Give images, or folders of them.")
    if evidence and output is None and not as_json:
        raise UsageError("--evidence writes images beside the overlays, or a key of the JSON: give -o DIR, or --json.")
    from patchcore.data.reading import Reading
    from patchcore.data.sample import Sample
    from patchcore.measure.row import row_of
    from patchcore.model.version import __version__

    sources, of_parts = sources_of(good), dict[str, str]()
    bad = BadImages(lambda error: print_json({"path": error.name, "error": error.reason}) if as_json else None)
    unread = dict[Path, DataError]()
    paths = list(_expand(images, unread, of_parts))
    if part is not None:
        of_parts = {str(path): part_of(str(path), part) for path, _ in paths}
    if not paths:
        raise DataError("\n".join(map(str, unread.values())))
    names = file_names(paths)
    if output is not None:
        ends = ["overlay.png", f"map.{map_format}", *(["evidence.png"] if evidence else [])]
        results_in = [f"{name}_{end}" for name in names.values() for end in ends]
        targets.folder(
            output,
            ["results.csv", *(["parts.csv"] if of_parts else []), *results_in],
            [model, *images, *(path for path, _ in paths)],
        )
    if coco is not None:
        check_output(coco, [model, *images, *(path for path, _ in paths)])
    detector = load(model)
    if evidence:
        from patchcore.oversight.evidence import evidence as evidence_of
    for path, why in unread.items():
        bad(ImageError(str(path), str(why).removeprefix(str(path)).lstrip(": ")))
    failed, looked = False, list["Result"]()
    rows, lines = list[dict[str, Any]](), list[dict[str, Any]]()  # of the JSON, and of results.csv
    seen, found = list[dict[str, Any]](), list[dict[str, Any]]()  # images and regions for COCO
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    results = detector.stream(
        [Sample(str(path), path, part=of_parts.get(str(path))) for path, _ in paths],
        reading=Reading(max_pixels, bad),
        progress=len(paths) > 1,
    )
    try:
        for result in results:
            row: dict[str, Any] = row_of(result, str(model), regions=regions)
            because = evidence_of(detector, result, sources=sources, max_pixels=max_pixels) if evidence else None
            for warning in result.warnings:
                say(f"{result.name}: {warning}")
            if output is not None:
                try:
                    _write(result, output / names[result.name], map_format, because)
                except ImageError as error:  # it has gone since, or is another
                    bad(error)
                    continue
            if coco is not None:
                seen.append(entries.image(len(seen) + 1, result))
                found += entries.boxes(len(seen), result)
            rows.append(row)
            if output is not None:
                lines.append({**row, **_cells(result, names[result.name])})
            failed |= result.decision == "fail"
            if of_parts:
                looked.append(result)
            if as_json:
                print_json(row if because is None else {**row, "evidence": because.to_dict()})
    except KeyboardInterrupt:
        if output is not None and rows:
            _write_table(output, lines, bad)
            say(f"{output}: {len(rows)} of {counted(len(paths), 'image')} done; results.csv lists them.")
        raise
    if coco is not None:
        with appearing(coco) as temporary:
            temporary.write_text(json_line(entries.dataset(seen, found, __version__)), "utf-8")
        tell(f"{coco}: {counted(len(found), 'region')} in {counted(len(seen), 'image')}.", as_json)
    if output is not None:
        _write_table(output, lines, bad)
        tell(f"Overlays, maps and results.csv are in {output}{_of_others(output, names.values())}", as_json)
    if rows and not as_json:
        _table(rows)
    if looked:
        failed = show_parts(detector, looked, rule, output, as_json)
    bad.report("Skipped")
    if bad.errors:
        raise SystemExit(1)
    if failed and fail_exit:
        raise SystemExit(3)


def _cells(result: Result, name: Path) -> dict[str, str]:
    """What results.csv has beside, or in another form than, a line of JSON."""
    from patchcore.measure.row import where_of

    regions = [{key: value for key, value in asdict(one).items() if key != "polygons"} for one in result.regions]
    where = {key: json.dumps(value) for key, value in where_of(result).items()}
    return {"files": str(name), "warnings": "; ".join(result.warnings), "regions": json.dumps(regions), **where}


def _write_table(output: Path, rows: list[dict[str, Any]], bad: BadImages) -> None:
    from patchcore.measure.row import COLUMNS

    head = (*COLUMNS, "regions", "areas", "registration", "files", "error")
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


def _expand(
    images: tuple[Path, ...], unread: dict[Path, DataError], of_parts: dict[str, str]
) -> Iterator[tuple[Path, Path]]:
    """Each image, and its path relative to the folder that it was found in; paths with none are added to `unread`, and
    parts that a table names to `of_parts`."""
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
            if sample.part:
                of_parts[str(found)] = sample.part
            inside = not given.single and found.is_relative_to(path)
            yield found, found.relative_to(path) if inside else Path(found.name)


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

    more = ["regions"] if any("regions" in row for row in rows) else []
    table = Table(Column("image", overflow="fold"), "score", "normalised", "verdict", *more)
    for row in rows:
        normalised = "-" if math.isnan(row["normalised"]) else f"{row['normalised']:.3f}"
        sizes = [f"{one['length']:.3g} x {one['width']:.3g} {one['unit']}" for one in row.get("regions", ())]
        told = ["\n".join(f"{number}: {size}" for number, size in enumerate(sizes, 1))] if more else []
        verdict = f"{row['decision']}: {row['reason']}" if row["reason"] else row["decision"]
        table.add_row(Text(shown(row["path"])), f"{row['score']:.4g}", normalised, verdict, *told)
    console().print(table)
