"""Serving: `patchcore serve`."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from patchcore.cli.common import command, say
from patchcore.data.reading import MOST_THREADS
from patchcore.errors import MissingExtraError

_HERE = ("127.0.0.1", "::1", "localhost")


@click.command(epilog="Example: patchcore serve --data station --port 8000")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("station"),
    show_default=True,
    help="Folder of the station: its database, images and models.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; by default this machine only."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--name",
    "hosts",
    multiple=True,
    help="Name under which people reach it, beside the machine's own; may be repeated.",
)
@click.option(
    "--root",
    "roots",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Folder that images may be read from by path; may be repeated.",
)
@click.option("--database", metavar="URL", help="Database instead of SQLite in --data: postgresql+psycopg://...")
@click.option("--files", metavar="URL", help="Where images and models are instead of in --data: s3://...")
@click.option("--tls/--no-tls", default=False, help="A proxy before it speaks TLS: cookies are marked as secure.")
@click.option("--engine", type=click.Choice(["torch", "openvino", "auto"]), default="torch", show_default=True)
@click.option("--max-pixels", type=click.IntRange(1), default=50_000_000, show_default=True, help="Largest image.")
@click.option("--demo", is_flag=True, help="Learn real solar cells, and inspect one every few seconds.")
@click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), help="Images that are judged at once, each on one core."
)
@command
def serve(
    data: Path,
    host: str,
    port: int,
    hosts: tuple[str, ...],
    roots: tuple[Path, ...],
    database: str | None,
    files: str | None,
    tls: bool,
    engine: str,
    max_pixels: int,
    demo: bool,
    threads: int | None,
) -> None:  # fmt: skip
    """Run a station: a server and its pages, to teach, inspect, review and watch.

    The first start prints the password of `admin`, once.
    """
    try:
        from patchcore.station.server import Server
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "station", "A station") from error
    from patchcore.station.people.accounts import first_admin
    from patchcore.station.settings import Settings
    from patchcore.station.station import Station

    if demo:
        from patchcore.station.demo import Demo, place

        place(data).mkdir(parents=True, exist_ok=True)
        roots = (*roots, place(data))
    settings = Settings(
        data=data, host=host, port=port, hosts=hosts, roots=roots, database=database, files=files, tls=tls,
        engine=engine, pixels=max_pixels, threads=threads,
    )  # fmt: skip
    if host not in _HERE and not tls:
        say(f"Warning: on {host} passwords and images travel without TLS. Put a proxy with TLS before it, and --tls.")
    station = Station(settings)
    server = Server(station, lambda url: say(f"The station runs at {url} . Ctrl-C stops it."))
    if password := first_admin(station.database):
        say(f"Log in as admin, with the password {password} - it is shown this once, and changed at the first login.")
    if demo:
        show = Demo(station)
        station.ends(show.close)
        show.start()
        say("Solar cells are learned now; in less than a minute one is inspected every few seconds.")
    for one in (signal.SIGINT, signal.SIGTERM):  # the server ends in order, and then raises the signal again
        signal.signal(one, lambda *_: None)
    server.serve_forever()
    say("Stopped. What was answered is stored.")
