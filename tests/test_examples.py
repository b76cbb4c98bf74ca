"""Each example runs as its first lines say."""

import json
import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchcore.cli.outputs import adapter

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def ran(*arguments: object, **environment: str) -> str:
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
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


def test_the_notebook_runs_and_shows_what_it_showed():
    for name in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    ran(ROOT / "docs" / "notebook.py", "--check")


def test_regions_scores_and_maps_are_exported_for_fiftyone(detector, hazelnut, tmp_path):
    example = runpy.run_path(str(EXAMPLES / "fiftyone_export.py"))
    paths = [hazelnut / "test/colour/00.jpg", hazelnut / "test/good/04.jpg"]
    results = detector.predict(paths)
    assert example["export"](results, tmp_path / "out") == 2
    # What the documentation of fiftyone.types.COCODetectionDataset asks for: data/, and labels.json beside it.
    labels = json.loads((tmp_path / "out/labels.json").read_text("utf-8"))
    assert [one["file_name"] for one in labels["images"]] == ["000001.jpg", "000002.jpg"]
    assert (tmp_path / "out/data/000001.jpg").read_bytes() == paths[0].read_bytes()
    assert {one["id"] for one in labels["categories"]} == {one["category_id"] for one in labels["annotations"]}
    assert [one["bbox"] for one in labels["annotations"] if one["image_id"] == 1] == [
        list(one.box) for one in results[0].regions
    ]
    assert len(labels["annotations"]) == len({one["id"] for one in labels["annotations"]}) > 0
    scores = json.loads((tmp_path / "out/scores.json").read_text("utf-8"))
    assert [one["decision"] for one in scores.values()] == [one.decision for one in results]
    with Image.open(tmp_path / "out/maps/000001.jpg.png") as heat:
        assert heat.size == (512, 512)
        over = np.asarray(heat) > 128
    assert over.sum() == pytest.approx((results[0].map > results[0].pixel_threshold).sum(), rel=0.05)


def test_fiftyone_reads_them(detector, hazelnut, tmp_path):
    pytest.importorskip("fiftyone", reason="fiftyone is not installed")
    example = runpy.run_path(str(EXAMPLES / "fiftyone_export.py"))
    (result,) = detector.predict([hazelnut / "test/colour/00.jpg"])
    example["export"]([result], tmp_path / "out")
    dataset = example["load"](tmp_path / "out")
    (sample,) = dataset
    assert sample["score"] == result.score
    assert sample["verdict"].label == "fail"
    assert len(sample["regions"].detections) == len(result.regions)
    dataset.delete()


def test_a_benchmark_is_logged_to_mlflow_once(tmp_path):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    figures = {"image_auroc": 0.9, "image_ap": 0.9, "image_f1_max": 0.8, "pixel_auroc": None, "pixel_f1_max": None,
               "aupro_30": None, "aupro_05": None, "images": 4, "coverage": 1.0, "false_reject_rate": 0.0,
               "miss_rate": 0.5, "unsure_rate": 0.0}  # fmt: skip
    machine = {"processor": "one", "cores": 2, "threads": 1, "date": "2026-01-01"}
    machine |= dict.fromkeys(("python", "patchcore", "torch", "timm", "numpy"), "1.0")
    row = {
        "dataset": "nuts", "category": "hazelnut", "recipe": "fast", "shots": None, "seed": 0, **figures, **machine,
        "skipped": [], "train_images": 6, "calibration_images": 6, "held_out_images": 0, "backbone": "lite0",
        "bank_rows": 100, "fit_seconds": 1.5, "milliseconds": 20.0, "fit_memory_mb": None, "peak_memory_mb": 500.0,
        "model_mb": 2.0, "device": "cpu", "engine": "torch", "precision": "fp32", "set": [], "jobs": 1, "key": "a1",
    }  # fmt: skip
    adapter("benchmark").validate_python(row)  # a row as `patchcore benchmark` writes them
    other = {**row, "recipe": "default", "key": "b2"}
    (tmp_path / "results.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(other)}\n", "utf-8")
    twice = (
        f"import runpy, pathlib; log = runpy.run_path({str(EXAMPLES / 'mlflow_logging.py')!r})['log_benchmark']; "
        f"print([log(pathlib.Path({str(tmp_path)!r})) for _ in range(2)])"
    )
    assert ran("-c", twice, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}") == "[2, 0]\n"
    database = sqlite3.connect(tmp_path / "mlflow.db")
    logged = database.execute("SELECT value FROM metrics WHERE key = 'milliseconds'").fetchall()
    assert logged == [(20.0,), (20.0,)]
    assert database.execute("SELECT count(*) FROM metrics WHERE key = 'pixel_auroc'").fetchone() == (0,)
    assert {recipe for (recipe,) in database.execute("SELECT value FROM params WHERE key = 'recipe'")} == {
        "fast",
        "default",
    }
