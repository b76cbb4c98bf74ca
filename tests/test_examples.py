"""Each example runs as its first lines say."""

import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def ran(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_watched_folder_ends_in_a_database(model_file, hazelnut, tmp_path):
    incoming = tmp_path / "incoming"
    shutil.copytree(Path(hazelnut) / "test" / "colour", incoming)
    (incoming / "broken.png").write_bytes(b"no image")
    long_ago = time.time() - 60
    for path in incoming.iterdir():
        os.utime(path, (long_ago, long_ago))
    database = tmp_path / "results.sqlite"
    for _ in range(2):  # the second time there is nothing new
        ran(EXAMPLES / "watch_folder.py", model_file, incoming, database, "--once")
    rows = sqlite3.connect(database).execute("SELECT name, decision, error FROM results ORDER BY name").fetchall()
    assert [name for name, *_ in rows] == sorted(path.name for path in incoming.iterdir())
    assert all((decision is None) == (name == "broken.png") for name, decision, _ in rows)
    assert "broken.png" in dict((name, error) for name, _, error in rows)["broken.png"]


def test_a_service_answers_with_a_verdict(model_file, hazelnut, monkeypatch):
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    pytest.importorskip("python_multipart", reason="python-multipart is not installed")
    testing = pytest.importorskip("fastapi.testclient", reason="httpx is not installed")
    monkeypatch.setenv("MODEL", str(model_file))
    app = runpy.run_path(str(EXAMPLES / "service.py"))["app"]
    image = next((Path(hazelnut) / "test" / "colour").iterdir())
    with testing.TestClient(app) as client:
        told = client.post("/inspect", files={"image": image.read_bytes()})
        assert told.status_code == 200
        assert told.json()["decision"] in {"pass", "unsure", "fail"}
        broken = client.post("/inspect", files={"image": b"no image"})
        assert broken.status_code == 422
        assert "an image that can be read" in broken.json()["detail"]
