"""Parts: what names the part that an image shows, and the verdicts of parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patchcore.cli.common import cells, console, print_json, say
from patchcore.errors import DataError
from patchcore.files import appearing
from patchcore.files.text import write_csv

if TYPE_CHECKING:
    from patchcore.data.sample import Sample
    from patchcore.detector import Detector
    from patchcore.result import Result
    from patchcore.verdict.calibration import Rule


class _Pattern(click.ParamType):  # type: ignore[type-arg]
    name = "REGEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> re.Pattern[str]:
        try:
            return value if isinstance(value, re.Pattern) else re.compile(value)
        except re.error as error:
            self.fail(f"{value!r} is no regular expression: {error}.", param, ctx)


part_option = click.option(
    "--part", type=_Pattern(), help="What in an image's path names its part, where several images show one."
)
rule_option = click.option(
    "--part-rule",
    "rule",
    type=click.Choice(["worst", "mean"]),
    default="worst",
    show_default=True,
    help="A part's score: that of its worst image, or the mean of all.",
)


def with_parts(samples: Iterable[Sample], pattern: re.Pattern[str] | None) -> list[Sample]:
    """The samples with the part that each path names: its first group, or all that matches. Errors: DataError."""
    return list(samples) if pattern is None else [replace(one, part=part_of(one.name, pattern)) for one in samples]


def part_of(name: str, pattern: re.Pattern[str]) -> str:
    """Errors: DataError."""
    if (match := pattern.search(Path(name).as_posix())) is None:
        raise DataError(f"{name}: --part {pattern.pattern!r} matches nothing in this path, so its part is unknown.")
    found = match[1] if pattern.groups else match[0]
    return str(found)


def show_parts(detector: Detector, results: list[Result], rule: Rule, output: Path | None, as_json: bool) -> bool:
    """Print the verdicts of parts, and write them to a folder; whether one failed. Errors: UsageError."""
    from rich.table import Table

    from patchcore.measure.parts import parts

    found = parts(detector, results, rule)
    rows = [one.to_dict() for one in found]
    if output is not None:
        lines = [
            [*{**row, "images": len(one.results), "warnings": "; ".join(one.warnings)}.values()]
            for row, one in zip(rows, found, strict=True)
        ]
        with appearing(output / "parts.csv") as temporary:
            write_csv(temporary, [list(rows[0]), *lines])
    for one in found:
        for warning in one.warnings:
            say(f"Part {one.name}: {warning}")
    for row in rows if as_json else ():
        print_json(row)
    if not as_json:
        table = Table("part", "images", f"score ({rule})", "threshold", "verdict")
        for one in found:
            table.add_row(*cells(one.name, len(one.results), f"{one.score:.4g}", f"{one.threshold:.4g}", one.decision))
        console().print(table)
    return any(one.decision == "fail" for one in found)
