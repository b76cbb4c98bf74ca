"""`patchcore schema`."""

from __future__ import annotations

import json

import click

from patchcore.cli.common import command
from patchcore.errors import UsageError, nearest_name


@click.command(epilog="Example: patchcore schema predict > predict.schema.json")
@click.argument("name", metavar="COMMAND")
@command
def schema(name: str) -> None:
    """Print the JSON Schema of what a command prints with --json: of each of its lines.

    docs/reference/json.md describes the same for people.
    """
    from patchcore.cli.outputs import OUTPUTS, schema

    if name not in OUTPUTS:
        raise UsageError(
            f"{name!r} is no command that prints JSON.{nearest_name(name, OUTPUTS)} There are {', '.join(OUTPUTS)}."
        )
    click.echo(json.dumps(schema(name), indent=1, sort_keys=True))
