"""A station's upkeep: `patchcore station backup`, `restore`, `check`, `password`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from patchcore.cli.common import check_new, command, existing_path, force_option, say
from patchcore.errors import DataError, UsageError, counted

if TYPE_CHECKING:
    from patchcore.station.store.database import Database
    from patchcore.station.store.files import Files

data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), default=Path("station"), show_default=True,
    help="Folder of the station.",
)  # fmt: skip
database_option = click.option("--database", metavar="URL", help="As for `patchcore serve`.")
files_option = click.option("--files", metavar="URL", help="As for `patchcore serve`.")


@click.group(epilog="Example: patchcore station backup --data station -o station.tar")
def station() -> None:
    """Keep a station: back it up, restore it, check it."""


@contextmanager
def _opened(
    data: Path, database: str | None, files: str | None, *, new: bool = False
) -> Iterator[tuple[Database, Files]]:
    from patchcore.station.settings import Settings
    from patchcore.station.store.database import Database
    from patchcore.station.store.files import Files

    settings = Settings(data=data, database=database, files=files)
    if new:
        data.mkdir(parents=True, exist_ok=True)
    elif database is None and not (data / "station.sqlite").is_file():
        raise UsageError(f"{data} holds no station. Give its folder: --data DIR.")
    opened = Database(settings.database_url)
    try:
        yield opened, Files(settings.files_url)
    finally:
        opened.close()


@station.command(epilog="Example: patchcore station backup --data station -o station.tar")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write (.tar)."
)
@data_option
@database_option
@files_option
@force_option
@command
def backup(output: Path, data: Path, database: str | None, files: str | None, force: bool) -> None:
    """Write all that a station remembers as one file, while it runs.

    Rows are those of one moment; every image and model that they name is in it. Passwords are in it as hashes.
    """
    check_new(output, force, [])
    from patchcore.station.archive import backup as write

    with _opened(data, database, files) as (opened, place):
        told = write(opened, place, output)
    click.echo(f"{output}: {counted(told['inspection'], 'result')}, {counted(told['files'], 'file')}.")


@station.command(epilog="Example: patchcore station restore station.tar --data restored")
@click.argument("archive", type=existing_path)
@data_option
@database_option
@files_option
@command
def restore(archive: Path, data: Path, database: str | None, files: str | None) -> None:
    """Make a station of a backup, in an empty folder or database; SQLite and PostgreSQL read each other's."""
    from patchcore.station.archive import restore as read

    with _opened(data, database, files, new=True) as (opened, place):
        told = read(opened, place, archive)
    click.echo(f"{data}: {counted(told['inspection'], 'result')}, {counted(told['files'], 'file')}.")


@station.command(epilog="Example: patchcore station check --data station")
@data_option
@database_option
@files_option
@command
def check(data: Path, database: str | None, files: str | None) -> None:
    """Compare every image and model with its hash, and the audit trail with its chain."""
    from patchcore.station.archive import check as compare

    with _opened(data, database, files) as (opened, place):
        wrong = compare(opened, place)
    for line in wrong:
        click.echo(line)
    if wrong:
        raise DataError(f"{data}: {counted(len(wrong), 'thing')} wrong. Restore from a backup what is missing.")
    say("All is there, as it was stored.")


@station.command(epilog="Example: patchcore station password admin --data station")
@click.argument("name", default="admin")
@data_option
@database_option
@files_option
@command
def password(name: str, data: Path, database: str | None, files: str | None) -> None:
    """Give somebody (`admin`) a new password, for when no admin can log in. It is changed at the next login."""
    from patchcore.station.people import accounts

    with _opened(data, database, files) as (opened, _):
        person = accounts.named(opened, name)
        _, made = accounts.reset(opened, accounts.STATION, person.id, why="patchcore station password")
    click.echo(made)
