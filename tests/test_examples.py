"""The examples run as they stand."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from patchcore import Detector

ROOT = Path(__file__).parent.parent


def test_mvtec_training_fits_evaluates_and_saves(tmp_path):
    command = [sys.executable, ROOT / "examples" / "mvtec_training.py", ROOT / "tests" / "images", "hazelnut"]
    options = ["--backbone", "efficientnet_lite0", "--percentage", "0.05", "--imagesize", "160", "--resize", "184"]
    done = subprocess.run(
        [*command, *options, "--out", tmp_path / "models"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONWARNINGS": "error::UserWarning"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    values = dict(line.split(": ") for line in done.stdout.splitlines())
    assert list(values) == ["Instance AUROC", "Full Pixel AUROC", "Anomaly Pixel AUROC"]
    assert float(values["Instance AUROC"]) > 0.9
    assert float(values["Full Pixel AUROC"]) > 0.9
    index = {f"nnscorer_search_index{suffix}" for suffix in (".safetensors", ".faiss")}
    names = index | {"patchcore_params.json", "hazelnut.patchcore", "results.csv"}
    assert {path.name for path in (tmp_path / "models").iterdir()} == names
    with (tmp_path / "models" / "results.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["Row Names", "hazelnut", "Mean"]
    assert float(rows[1][1]) == float(rows[2][1])
    detector = Detector.load(tmp_path / "models" / "hazelnut.patchcore")
    good = detector.predict(ROOT / "tests/images/hazelnut/test/good/04.jpg").score
    assert detector.predict(ROOT / "tests/images/hazelnut/test/colour/00.jpg").score > good
