"""`patchcore datasets`."""

from __future__ import annotations

import click

from patchcore.cli.common import command, json_option, print_json
from patchcore.files.text import shown


@click.command(epilog="Example: patchcore datasets")
@json_option
@command
def datasets(as_json: bool) -> None:
    """List the public datasets that `fit` and `evaluate` read without conversion.

    Shows the source, licence and folders of each, and how they are read. Nothing is downloaded.

    JSON keys: name, title, source, licence, get, tree, reading, cite, path (null unless it is installed as a package).
    """
    from dataclasses import asdict

    from patchcore.data.layouts import datasets as known

    for about, path in known():
        if as_json:
            print_json({**asdict(about), "path": None if path is None else str(path)})
            continue
        click.echo(f"{about.title}")
        for label, text in (
            ("source", about.source),
            ("licence", about.licence),
            ("how to get it", about.get),
            ("folders", about.tree),
            ("what is read", about.reading),
            ("cite", about.cite),
            ("installed here", path),
        ):
            if text:
                click.echo(f"    {label}: {shown(text)}")
    if not as_json:
        click.echo("Your own data: plain folders of good images, folders in the MVTec AD layout, and CSV tables.")
