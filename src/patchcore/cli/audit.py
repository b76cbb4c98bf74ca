"""`patchcore audit`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from patchcore.cli.common import (
    AnyPath,
    BadImages,
    cells,
    command,
    console,
    data_path,
    device_option,
    json_option,
    max_pixels_option,
    needs_output,
    print_json,
    say,
    tell,
    threads_option,
)
from patchcore.errors import ImageError, counted
from patchcore.files import appearing, targets
from patchcore.files.text import write_csv

if TYPE_CHECKING:
    from PIL import Image

    from patchcore.oversight.audit import Audit, Audited

_SHOWN = 24  # images on a sheet and a page, and lines of a table, unless more are suspects
_FILES = ("audit.csv", "audit.json", "audit.html", "sheet.png")


@click.command(epilog="Example: patchcore audit parts -o audited")
@click.argument("data", type=data_path)
@click.option(
    "-o",
    "--output",
    type=AnyPath(path_type=Path, file_okay=False),
    help=f"Write {', '.join(_FILES)} into this folder.",
)
@click.option("--recipe", default="default", show_default=True, help="Recipe name, or a JSON file.")
@click.option("--set", "assignments", multiple=True, metavar="FIELD=VALUE", help="Change a field of the recipe.")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and list them.")
@max_pixels_option
@device_option
@threads_option
@json_option
@command
def audit(
    data: Path,
    output: Path | None,
    recipe: str,
    assignments: tuple[str, ...],
    skip_bad: bool,
    max_pixels: int,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Find good images that are unlike the rest, before they are learned.

    DATA is what `fit` takes. Each good image is scored against a bank of the others. Beside it: copies, also of test
    images; images of another part; and those whose size, colour, light, sharpness or turn is unlike the others'.

    The exit code is 4 if something is remarked about an image, 0 if nothing is.

    JSON keys per image, the most unusual one first: rank, path, score (null for a copy), unlike (the score as a
    multiple of the usual one), remarks.
    """
    if output is None and not as_json:
        needs_output()
    from patchcore.cli.recipes import read_recipe
    from patchcore.data.reading import Reading
    from patchcore.data.resolve import detect
    from patchcore.oversight.audit import audit as run

    chosen = read_recipe([recipe], assignments, None)
    if output is not None:
        targets.folder(output, _FILES, [data])
        if not as_json:
            from patchcore.report import audited as page  # which says so if jinja2 is not installed
    found = detect(data)
    say(f"{data}: {found.description}")
    bad = BadImages()
    reading = Reading(max_pixels, bad if skip_bad else None)
    audited = run(
        found.train,
        test=found.test or None,
        recipe=chosen,
        device=device,
        threads=threads,
        reading=reading,
        progress=True,
    )
    bad.report("Left out")
    lines = [one.to_dict() for one in audited.images]
    for line in lines if as_json else ():
        print_json(line)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        head = ("rank", "path", "score", "unlike", "remarks")
        with appearing(output / "audit.csv") as temporary:
            write_csv(temporary, [head, *([*list(line.values())[:4], "; ".join(one.remarks)]
                                          for line, one in zip(lines, audited.images, strict=True))])  # fmt: skip
        with appearing(output / "audit.json") as temporary:
            temporary.write_text(json.dumps(lines, indent=1), "utf-8", "surrogateescape")
        _sheet(audited, output / "sheet.png")
        from patchcore.report import audited as page

        page.write(output / "audit.html", page.render(audited, str(data), _chosen(audited), _image))
        tell(f"{', '.join(_FILES)} are in {output}", as_json)
    if not as_json:
        _table(audited)
    suspects = len(audited.suspects)
    say(f"{counted(suspects, 'image')} of {len(lines)} {'is' if suspects == 1 else 'are'} worth a look.")
    if bad.errors:
        raise SystemExit(1)
    if suspects:
        raise SystemExit(4)


def _chosen(audited: Audit) -> list[Audited]:
    """What is shown: all suspects, and the most unusual of the others."""
    rest = [one for one in audited.images if not one.remarks]
    return [*audited.suspects, *rest[: max(0, _SHOWN - len(audited.suspects))]]


def _table(audited: Audit) -> None:
    from rich.table import Table

    table = Table("rank", "image", "score", "unlike", "remarks")
    for one in _chosen(audited):
        figures = ["-" if math.isnan(value) else f"{value:.4g}" for value in (one.score, one.unlike)]
        table.add_row(*cells(one.rank, one.name, *figures, "; ".join(one.remarks)))
    console().print(table)


def _image(one: Audited) -> Image.Image | None:
    """The image as it is drawn; None if it can no longer be read."""
    from PIL import Image

    from patchcore.data.images import read
    from patchcore.verdict.draw import to_uint8

    try:
        return Image.fromarray(to_uint8(read(one.sample.image, one.name)))
    except ImageError:
        return None


def _sheet(audited: Audit, output: Path) -> None:
    from patchcore.cli.sheet import sheet

    shown = []
    for one in _chosen(audited)[: 2 * _SHOWN]:
        if (image := _image(one)) is not None:
            word = one.remarks[0].partition(":")[0] if one.remarks else ""
            score = "" if math.isnan(one.unlike) else f", {one.unlike:.2f}"
            shown.append((f"{one.rank}: {Path(one.name).name}{score}\n{word}", image))
    title = f"{counted(len(audited.suspects), 'suspect')} of {counted(len(audited.images), 'good image')}"
    with appearing(output) as temporary:
        sheet(shown, 6, title=title, tile=180).save(temporary, "PNG")
