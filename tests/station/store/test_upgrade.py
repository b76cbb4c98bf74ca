"""A station that is started on a database of an older version. `rows_0001.json` has what one held at revision 0001."""

import json
import shutil
import sqlite3
from base64 import b64decode
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import JSON, DateTime, LargeBinary, MetaData, create_engine, insert, select

from patchcore.errors import StoreError
from patchcore.station.people import trail
from patchcore.station.settings import Settings
from patchcore.station.station import Station
from patchcore.station.store import database as room
from patchcore.station.store.database import migrate
from patchcore.station.store.tables import Inspection, Line

ROWS = json.loads(Path(__file__).with_name("rows_0001.json").read_text("utf-8"))
NEXT = '''
"""A column more, as a later version may bring it."""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999", "0001"

def upgrade():
    with op.batch_alter_table("line") as table:
        table.add_column(sa.Column("colour", sa.String(length=8), nullable=False, server_default="grey"))
    op.execute("UPDATE line SET colour = 'green' WHERE name = 'main'")
'''


def reflected(engine):
    tables = MetaData()
    tables.reflect(engine)
    return tables.tables


def value(column, given):
    """A value of the file as its column takes it."""
    if isinstance(given, str) and isinstance(column.type, LargeBinary):
        return b64decode(given)
    return datetime.fromisoformat(given) if isinstance(given, str) and isinstance(column.type, DateTime) else given


@pytest.fixture
def old(database_url):
    """A database at revision 0001 with rows in it, made by SQL alone, as this version's tables may be others."""
    engine = create_engine(database_url)
    migrate(engine, "0001")
    tables = reflected(engine)
    with engine.begin() as connection:
        for name, rows in ROWS.items():
            table = tables[name]
            for row in rows:
                connection.execute(insert(table).values({key: value(table.c[key], one) for key, one in row.items()}))
    engine.dispose()
    return database_url


def held(url):
    """What a database holds, but for what a start writes; JSON as values."""
    engine = create_engine(url)
    tables = reflected(engine)
    with engine.connect() as connection:
        found = {}
        for name in ROWS:
            table = tables[name]
            for column in table.c:
                if isinstance(column.type, JSON) or column.type.__class__.__name__ == "JSON":
                    column.type = JSON()
            keys = [table.c[key] for key in ROWS[name][0]]
            found[name] = [
                dict(row) for row in connection.execute(select(*keys).order_by(*table.primary_key)).mappings()
            ]
    engine.dispose()
    return found


@pytest.fixture
def later(tmp_path, monkeypatch):
    """Migrations with one more, as a later version has them."""
    folder = tmp_path / "migrations"
    shutil.copytree(room.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(room, "MIGRATIONS", folder)
    return folder / "versions" / "9999_later.py"


def test_a_station_finds_its_rows_and_its_trail_in_an_old_database(old, tmp_path):
    before = held(old)
    station = Station(Settings(data=tmp_path / "data", database=old, threads=1))
    with station.database.read() as session:
        checked = trail.verify(session)
        row = session.get_one(Inspection, 2)
        line = session.get_one(Line, 1)
    assert (checked.problem, checked.rows) == (None, len(ROWS["entry"]))
    assert (row.review, row.reviewed_by, row.note) == ("confirmed", "otto", "Kratzer ü")
    assert (line.model.name, line.source["kind"], line.running) == ("nuts", "folder", False)
    station.close()
    assert held(old) == before


def test_a_later_version_adds_to_an_old_database_and_keeps_a_copy_of_it(old, later, tmp_path):
    before = held(old)
    later.write_text(NEXT, "utf-8")
    station = Station(Settings(data=tmp_path / "data", database=old, threads=1))
    with station.database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "9999"
        assert connection.exec_driver_sql("SELECT colour FROM line").scalars().all() == ["green"]
    with station.database.read() as session:
        assert trail.verify(session).problem is None
    station.close()
    assert held(old) == before
    if old.startswith("sqlite"):
        copy = tmp_path / "station.sqlite.0001"
        with sqlite3.connect(copy) as plain:
            assert plain.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert held(f"sqlite:///{copy}") == before
        assert not list(tmp_path.glob("*.9999"))


def test_an_upgrade_that_fails_leaves_the_old_database_as_it_was(old, later, tmp_path):
    before = held(old)
    later.write_text(NEXT + "    raise RuntimeError('no power')\n", "utf-8")
    with pytest.raises(RuntimeError, match="no power"):
        Station(Settings(data=tmp_path / "data", database=old, threads=1))
    assert held(old) == before
    later.unlink()
    Station(Settings(data=tmp_path / "data", database=old, threads=1)).close()


def test_a_database_of_a_later_version_is_refused(old, later, tmp_path, monkeypatch):
    later.write_text(NEXT, "utf-8")
    Station(Settings(data=tmp_path / "data", database=old, threads=1)).close()
    monkeypatch.undo()
    with pytest.raises(StoreError, match="have version 9999, which this version of patchcore does not know"):
        Station(Settings(data=tmp_path / "data", database=old, threads=1))
