"""Archive: all that a station remembers, as one file, and a station made of it again, on any kind of database."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, LargeBinary, Table, insert, select, text
from sqlalchemy.types import TypeEngine

from patchcore.errors import StoreError
from patchcore.files import appearing
from patchcore.station.people import trail
from patchcore.station.store.database import Database
from patchcore.station.store.files import Files
from patchcore.station.store.tables import Base, Inspection, Model, Moment

_HEAD, _FORMAT = "station.json", 1
_PAGE = 500  # rows that are in memory at once
_TRANSIENT = ("login",)  # whoever restores a station logs in again


def backup(database: Database, files: Files, path: Path) -> dict[str, int]:
    """Write one archive while the station runs: rows as of one moment, and every file that they name.

    Returns how many rows of each table, and how many `files`. Errors: StoreError; nothing half-written stays behind.
    """
    told = dict[str, int]()
    with appearing(path) as temporary, tarfile.open(temporary, "w") as archive:
        with database.engine.connect() as connection:
            if database.engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                _add(archive, _HEAD, json.dumps({"format": _FORMAT, "tables": _version(connection)}).encode())
                for table in Base.metadata.sorted_tables:
                    if table.name not in _TRANSIENT:
                        lines = io.BytesIO()
                        told[table.name] = sum(1 for row in _rows(connection, table) if lines.write(row))
                        _add(archive, f"tables/{table.name}.jsonl", lines.getvalue())
                names = [*connection.scalars(select(Model.file).distinct())]
                names += connection.scalars(select(Inspection.image).where(Inspection.image != ""))
        told["files"] = len(names)
        for name in names:
            if files.exists(name):  # one that retention deletes meanwhile is not missed
                _add(archive, f"files/{name}", files.read(name))
    return told


def restore(database: Database, files: Files, path: Path) -> dict[str, int]:
    """Fill an empty station from an archive. Errors: StoreError if it holds anything, or the archive is not one."""
    told, written = dict[str, int](), list[str]()
    try:
        with tarfile.open(path, "r:") as archive:
            head = json.loads(_member(archive, _HEAD).read(10_000))
            if head.get("format") != _FORMAT:
                raise StoreError(f"{path}: format {head.get('format')}; this version restores format {_FORMAT}.")
            with database.engine.connect().execution_options(writes=True) as connection, connection.begin():
                for table in Base.metadata.sorted_tables:
                    if connection.execute(select(table).limit(1)).first() is not None:
                        raise StoreError(f"The station holds rows already ({table.name}). Restore into an empty one.")
                if (version := _version(connection)) != head["tables"]:
                    raise StoreError(
                        f"{path}: its tables have version {head['tables']}, those here {version}. Restore it with the "
                        "version of patchcore that wrote it, and let this one bring the station up to date."
                    )
                for member in archive:
                    if member.name.startswith("files/"):
                        files.write(name := member.name.removeprefix("files/"), _member(archive, member.name).read())
                        written.append(name)
                for table in Base.metadata.sorted_tables:
                    if table.name not in _TRANSIENT:
                        told[table.name] = _fill(connection, table, _member(archive, f"tables/{table.name}.jsonl"))
    except BaseException as error:
        for name in written:
            files.delete(name)
        if isinstance(error, tarfile.TarError | OSError | ValueError | KeyError | TypeError):
            raise StoreError(f"{path} cannot be restored: {error}") from error
        raise
    return {**told, "files": len(written)}


def check(database: Database, files: Files) -> list[str]:
    """What a station names and does not have, or has otherwise: one line for each; none if all is well."""
    wrong = list[str]()
    with database.read() as session:
        for model in session.scalars(select(Model)):
            wrong += _compared(files, model.file, model.sha256, f"model {model.name} {model.version}")
        last = 0
        while rows := session.execute(
            select(Inspection.id, Inspection.image, Inspection.sha256)
            .where(Inspection.id > last, Inspection.image != "").order_by(Inspection.id).limit(_PAGE)
        ).all():  # fmt: skip
            for number, image, sha256 in rows:
                wrong += _compared(files, image, sha256, f"result {number}")
            last = rows[-1][0]
        if (found := trail.verify(session)).problem:
            wrong.append(f"audit trail: row {found.number} {found.problem}")
    return wrong


def _compared(files: Files, name: str, sha256: str, what: str) -> list[str]:
    if not files.exists(name):
        return [f"{what}: {name} is gone"]
    same = hashlib.sha256(files.read(name)).hexdigest() == sha256
    return [] if same else [f"{what}: {name} has changed"]


def _version(connection: Connection) -> str:
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def _rows(connection: Connection, table: Table) -> Iterator[bytes]:
    for row in connection.execute(select(table).order_by(*table.primary_key)).yield_per(_PAGE).mappings():
        yield json.dumps({name: _plain(value) for name, value in row.items()}).encode() + b"\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it: bytes as Base64, a time as text."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime) else value


def _value(kind: TypeEngine[Any], value: Any) -> Any:
    """A value of a column of this kind again."""
    if isinstance(value, str) and isinstance(kind, LargeBinary):
        return b64decode(value)
    return datetime.fromisoformat(value) if isinstance(value, str) and isinstance(kind, Moment) else value


def _fill(connection: Connection, table: Table, lines: IO[bytes]) -> int:
    count, page = 0, list[dict[str, Any]]()
    for line in lines:
        page.append({name: _value(table.c[name].type, value) for name, value in json.loads(line).items()})
        if len(page) == _PAGE:
            connection.execute(insert(table), page)
            count, page = count + len(page), []
    if page:
        connection.execute(insert(table), page)
    if connection.dialect.name == "postgresql" and "id" in table.c:  # numbers go on after those that are there
        name = f'"{table.name}"'
        after = f"(SELECT coalesce(max(id), 0) + 1 FROM {name})"
        connection.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {after}, false)")
    return count + len(page)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    (about := tarfile.TarInfo(name)).size = len(content)
    archive.addfile(about, io.BytesIO(content))


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is not a file")
    return found
