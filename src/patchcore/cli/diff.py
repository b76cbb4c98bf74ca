"""`patchcore diff`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patchcore.cli.common import (
    BadImages,
    cells,
    check_output,
    command,
    console,
    data_path,
    detector_options,
    json_option,
    max_pixels_option,
    model_path,
    needs_output,
    print_json,
    tell,
)
from patchcore.errors import UsageError, counted

if TYPE_CHECKING:
    from patchcore.changes.difference import Verdicts
    from patchcore.detector import Detector

_SHOWN = 24  # images on a sheet


@click.command(epilog="Example: patchcore diff older.patchcore parts.patchcore parts -o changed.png")
@click.argument("before", type=model_path)
@click.argument("after", type=model_path)
@click.argument("data", type=data_path, required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Sheet of changed images, a PNG.")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and list them.")
@max_pixels_option
@detector_options
@json_option
@command
def diff(
    before: Path,
    after: Path,
    data: Path | None,
    output: Path | None,
    skip_bad: bool,
    max_pixels: int,
    load: Callable[[Path], Detector],
    as_json: bool,
) -> None:
    """Compare two detectors: what they have learned, and which verdicts change.

    DATA are images, with or without labels, that both look at; only those whose verdict changes are listed.

    JSON keys: first recipe, images, version, rows, threshold, pixel_threshold (each before and after); then for each
    image of DATA path, kind, decision and score (each before and after).
    """
    from patchcore.changes.difference import stated, verdicts
    from patchcore.data.reading import Reading
    from patchcore.data.resolve import detect

    if not as_json:
        needs_output()
    if output and not data:
        raise UsageError("-o shows images whose verdict changes: give DATA too.")
    if output:
        check_output(output, [before, after])
    one, two = load(before), load(after)
    found = stated(one.fitted, two.fitted)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if not data:
        return
    bad = BadImages()
    reading = Reading(max_pixels, bad if skip_bad else None)
    seen = []
    for both in verdicts(one, two, detect(data).every, reading, progress=True):
        seen.append(both)
        if as_json:
            print_json(_line(both))
    bad.report("Left out")
    if not as_json:
        _table(seen)
    if output:
        _sheet([both for both in seen if both.changes], output)
        tell(f"Sheet: {output}", as_json)


def _print(found: dict[str, Any]) -> None:
    for name, (was, now) in found["recipe"].items():
        click.echo(f"recipe: {name} {was} -> {now}")
    for what, names in found["images"].items():
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            tell(f"images {what}: {', '.join(names[:5])}{more}")
    for name in ("version", "rows", "threshold", "pixel_threshold"):
        was, now = found[name]
        click.echo(f"{name}: {was}" + (f" -> {now}" if now != was else ""))


def _line(both: Verdicts) -> dict[str, Any]:
    return {
        "path": both.name,
        "kind": both.kind,
        "decision": list(both.way),
        "score": [both.before.score, both.after.score],
    }


def _table(seen: list[Verdicts]) -> None:
    from rich.table import Table

    ways = Counter((str(both.kind or "-"), *both.way) for both in seen)
    table = Table("kind", "before", "after", "images")
    for (kind, was, now), count in sorted(ways.items()):
        table.add_row(*cells(kind, was, now, count))
    console().print(table)
    changed = [both for both in seen if both.changes]
    tell(f"{counted(len(changed), 'verdict')} of {len(seen)} {'changes' if len(changed) == 1 else 'change'}.")
    for both in changed:
        scores = f"{both.before.score:.6g} -> {both.after.score:.6g}"
        tell(f"{both.name}: {both.way[0]} -> {both.way[1]}, score {scores}")


def _sheet(changed: list[Verdicts], output: Path) -> None:
    from patchcore.cli.sheet import sheet
    from patchcore.files import appearing

    images = []
    for both in changed[:_SHOWN]:
        name = Path(both.name).name
        images.append((f"{name}\nbefore: {both.way[0]}", both.before.overlay()))
        images.append((f"{name}\nafter: {both.way[1]}", both.after.overlay()))
    title = f"{counted(len(changed), 'verdict')} changed"
    title += f"; the first {_SHOWN}" if len(changed) > _SHOWN else ""
    with appearing(output) as temporary:
        sheet(images, 4, title=title, legend=True).save(temporary, "PNG")
