"""What goes wrong around a station: it says so, and goes on by itself once it is over."""

import os
import shutil
import subprocess
import time
from contextlib import suppress

import pytest
from fastapi.testclient import TestClient
from plain_line import until
from sqlalchemy import func, select

from patchcore.errors import UsageError
from patchcore.station.app import create_app
from patchcore.station.demo import Demo, place
from patchcore.station.errors import UnavailableError
from patchcore.station.people import keys
from patchcore.station.settings import Settings
from patchcore.station.station import Station
from patchcore.station.store.tables import Inspection, Job, JobState, Line, Role


def begun(settings, model_file):
    station = Station(settings)
    with station.database.begin() as session:
        model = station.models.add(session, model_file.read_bytes(), name="nuts", how="import", who="somebody")
        session.get_one(Line, 1).model_id = model.id
    return station


def results(station):
    with station.database.read() as session:
        return session.scalar(select(func.count(Inspection.id)))


@pytest.fixture
def good(hazelnut):
    return (hazelnut / "train/good/00.jpg").read_bytes()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk, and not in every container")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_and_nothing_is_half_stored(small_disk, model_file, good):
    station = begun(Settings(data=small_disk, threads=1), model_file)
    assert station.inspector.submit(good, line=1).result(60)["verdict"] == "pass"
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)) == 4096:
            pass
    with pytest.raises(UnavailableError, match=r"(?i)no space left|disk is full"):
        station.inspector.submit(good * 3, line=1).result(60)
    found = station.health()
    assert {"inspection", "disk"} <= set(found["trouble"])
    assert (results(station), len(list(station.files.all("images")))) == (1, 1)
    filler.unlink()
    assert station.inspector.submit(good, line=1).result(60)["verdict"] == "pass"
    assert "inspection" not in station.health()["trouble"]
    station.close()


def test_a_database_that_is_away_is_said_and_waited_for(postgresql, model_file, good, tmp_path):
    import psycopg

    url = postgresql()
    station = begun(Settings(data=tmp_path, database=url, threads=1), model_file)
    _, token = keys.make(station.database, "somebody", "line", Role.operator)
    name, folder = url.split("@/")[1].split("?host=")

    def allowed(yes):
        with psycopg.connect(host=folder, user="postgres", dbname="postgres", autocommit=True) as control:
            control.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}".encode())
            control.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    with TestClient(create_app(station), base_url="http://localhost") as client:
        headers = {"authorization": f"Bearer {token}"}

        def sent():
            return client.post("/api/v1/inspect", files={"image": ("a.jpg", good)}, headers=headers)

        assert sent().status_code == 200
        allowed("false")
        assert sent().status_code == 503
        health = client.get("/api/v1/health")
        assert (health.status_code, "database" in health.json()["trouble"]) == (503, True)
        with pytest.raises(UnavailableError):
            station.inspector.submit(good, line=1).result(60)
        allowed("true")
        assert sent().status_code == 200
        assert results(station) == 2


def test_the_demonstration_inspects_cells_one_by_one(tmp_path, model_file):
    pytest.importorskip("elpv_dataset", reason="needs the package elpv-dataset")
    station = begun(Settings(data=tmp_path, roots=(place(tmp_path),), threads=1), model_file)
    demo = Demo(station, every=0.05)
    station.ends(demo.close)
    demo.start()
    until(lambda: results(station) >= 3, seconds=60)
    with station.database.read() as session:
        row = session.scalars(select(Inspection)).first()
    station.close()
    assert row.part.startswith("cell")
    assert (row.height, row.width) == (300, 300)


def test_a_damaged_image_from_a_folder_is_listed_and_the_next_one_is_inspected(tmp_path, model_file, hazelnut):
    folder = tmp_path / "in"
    folder.mkdir()
    station = begun(Settings(data=tmp_path / "data", roots=(folder,), threads=1), model_file)
    _, token = keys.make(station.database, "somebody", "line", Role.admin)
    with TestClient(create_app(station), base_url="http://localhost") as client:
        headers = {"authorization": f"Bearer {token}"}
        spec = {"kind": "folder", "path": str(folder), "bad": "move", "every": 0.1}
        assert client.put("/api/v1/lines/main/source", json=spec, headers=headers).status_code == 200
        (folder / "a.jpg").write_bytes((hazelnut / "train/good/00.jpg").read_bytes()[:2000])
        time.sleep(0.01)
        shutil.copyfile(hazelnut / "train/good/01.jpg", folder / "b.jpg")
        until(lambda: results(station) == 1, seconds=60)
        until(lambda: (folder / "failed" / "a.jpg").exists(), seconds=60)
        state = client.get("/api/v1/sources", headers=headers).json()["main"]
        assert state["state"] == "running"


def test_two_stations_never_share_a_folder(tmp_path):
    first = Station(Settings(data=tmp_path))
    with pytest.raises(UsageError, match="a station runs here already"):
        Station(Settings(data=tmp_path))
    first.close()
    Station(Settings(data=tmp_path)).close()


def test_jobs_survive_a_database_that_was_away(tmp_path, model_file, caplog):
    station = begun(Settings(data=tmp_path, threads=1), model_file)

    def named(before, after):
        with station.database.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")

    named("job", "away")
    until(lambda: any("no such table" in one.message for one in caplog.records))
    named("away", "job")
    job = station.jobs.add("audit", ["audit", "--help"], "somebody", {})

    def state():
        with station.database.read() as session:
            return session.get_one(Job, job.id).state

    until(lambda: state() == JobState.done, seconds=60)
    station.close()
