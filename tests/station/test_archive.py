"""Backups: all of a station in a file, and a station made of it."""

import io
import json
import tarfile

import pytest
from sqlalchemy import select

from patchcore.errors import StoreError
from patchcore.station.archive import backup, check, restore
from patchcore.station.settings import Settings
from patchcore.station.station import Station
from patchcore.station.store.database import Database
from patchcore.station.store.files import Files
from patchcore.station.store.tables import Base, Inspection


@pytest.fixture
def saved(station, hazelnut, tmp_path):
    for one in ("train/good/00.jpg", "test/colour/00.jpg"):
        station.inspector.submit((hazelnut / one).read_bytes(), line=1, name=one).result(timeout=60)
    path = tmp_path / "saved.tar"
    told = backup(station.database, station.files, path)
    assert (told["inspection"], told["model"], told["files"]) == (2, 1, 3)
    return path


def rows(database):
    """Everything in it but what is transient."""
    tables = [table for table in Base.metadata.sorted_tables if table.name != "login"]
    with database.engine.connect() as connection:
        return {table.name: [dict(row) for row in connection.execute(select(table)).mappings()] for table in tables}


def test_a_station_is_made_again_on_either_database(station, saved, database_url, tmp_path):
    other, files = Database(database_url), Files(str(tmp_path / "other"))
    restore(other, files, saved)
    assert rows(other) == rows(station.database)
    assert check(other, files) == []
    other.close()


def test_a_restored_station_goes_on(saved, database_url, hazelnut, tmp_path):
    settings = Settings(data=tmp_path / "other", database=database_url, threads=1)
    database, files = Database(database_url), Files(settings.files_url)
    restore(database, files, saved)
    database.close()
    station = Station(settings)
    said = station.inspector.submit((hazelnut / "test/colour/00.jpg").read_bytes(), line=1).result(timeout=60)
    station.close()
    assert (said["id"], said["verdict"]) == (3, "fail")


def test_only_an_empty_station_is_filled(station, saved):
    with pytest.raises(StoreError, match="holds rows already"):
        restore(station.database, station.files, saved)


@pytest.mark.parametrize("damage", ["cut", "no_tar", "format", "escape"])
def test_what_is_no_backup_is_refused_and_nothing_is_written(damage, saved, tmp_path):
    path = tmp_path / "bad.tar"
    if damage == "cut":
        path.write_bytes(saved.read_bytes()[:-9000])
    elif damage == "no_tar":
        path.write_bytes(b"no tar" * 400)
    else:
        with tarfile.open(saved) as whole, tarfile.open(path, "w") as bad:
            for member in whole:
                content = whole.extractfile(member)
                if damage == "escape" and member.name.startswith("files/images"):
                    member.name = "files/../../escaped"
                if damage == "format" and member.name == "station.json":
                    text = json.dumps({"format": 99}).encode()
                    member.size = len(text)
                    content = io.BytesIO(text)
                bad.addfile(member, content)
    database, files = Database(f"sqlite:///{tmp_path / 'empty.sqlite'}"), Files(str(tmp_path / "empty"))
    with pytest.raises(StoreError):
        restore(database, files, path)
    with database.read() as session:
        assert session.scalars(select(Inspection)).all() == []
    database.close()
    assert not (tmp_path / "escaped").exists()
    assert [path for path in (tmp_path / "empty").rglob("*") if path.is_file()] == []


def test_what_is_missing_or_changed_is_named(station, saved):
    with station.database.read() as session:
        one, two = session.scalars(select(Inspection).order_by(Inspection.id))
    station.files.write(one.image, b"other")
    station.files.delete(two.image)
    assert check(station.database, station.files) == [
        f"result 1: {one.image} has changed", f"result 2: {two.image} is gone"
    ]  # fmt: skip
