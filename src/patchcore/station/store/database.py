"""Database: opened, brought up to date, and used in transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from patchcore.errors import StoreError
from patchcore.files import appearing

MIGRATIONS = Path(__file__).parent / "migrations"
_WAIT = 10  # seconds that a transaction waits for another that writes


class Database:
    """A station's database, with the tables of this version.

    Args:
        url: As SQLAlchemy takes it.

    Raises:
        StoreError: It cannot be reached, is not a station's, or was written by a newer version.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.engine = _engine(url)
        try:
            migrate(self.engine)
        except BaseException as error:
            self.engine.dispose()
            if isinstance(error, DBAPIError | OSError):
                raise StoreError(f"{self}: {getattr(error, 'orig', error)}") from error
            raise
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    def __str__(self) -> str:
        return f"database {self.url.render_as_string(hide_password=True)}"

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A transaction that writes: committed at the end, or rolled back on an error."""
        with self._sessions.begin() as session:
            if self.engine.dialect.name == "sqlite":  # now, and not at the first write: no deadlock between two
                session.connection(execution_options={"writes": True})
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with self._sessions() as session:
            yield session

    def alive(self) -> str | None:
        """None if the database answers, otherwise why not."""
        try:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
        except OperationalError as error:
            return str(error.orig)
        return None

    def close(self) -> None:
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": _WAIT})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def migrate(engine: Engine, to: str = "head") -> None:
    """Bring the tables to this version, or that one, in one transaction.

    Where SQLite holds an older one, its file is copied first, as `NAME.VERSION` beside it: the way back to the
    patchcore that wrote it. A server's database is for who runs it to back up.

    Errors: StoreError for tables of a newer version.
    """
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":  # two that start at once
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7203941)")
        script = ScriptDirectory.from_config(settings)
        version = MigrationContext.configure(connection).get_current_revision()
        known = {one.revision for one in script.walk_revisions()}
        if version is not None and version not in known:
            raise StoreError(
                f"database {engine.url.render_as_string()}: its tables have version {version}, which this version of "
                f"patchcore does not know. Use the version that wrote it, or a newer one."
            )
        if version is not None and version != script.get_current_head() and engine.dialect.name == "sqlite":
            _copied(engine, version)
        settings.attributes["connection"] = connection
        command.upgrade(settings, to)


def _copied(engine: Engine, version: str) -> None:
    """What was committed, in a file of its own; one from an upgrade that failed is replaced."""
    if (name := engine.url.database) in (None, "", ":memory:"):
        return
    with (
        appearing(Path(f"{name}.{version}")) as path,
        closing(sqlite3.connect(str(name))) as source,
        closing(sqlite3.connect(path)) as copy,
    ):
        source.backup(copy)
