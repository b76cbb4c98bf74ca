"""The figures of one cell."""

import subprocess
import sys

import pytest

from patchcore import DataError, Detector
from patchcore.benchmark.cells import Options
from patchcore.benchmark.measure import measure
from patchcore.data.resolve import detect
from patchcore.measure.evaluation import evaluate


def test_figures_are_those_of_a_fit_and_an_evaluation(tmp_path, category, cell):
    path = category(tmp_path / "brown")
    one = cell(path, seed=1)
    row = measure(one)
    detector = Detector(one.recipe).fit(path)
    evaluation = evaluate(detector, detect(path).test)
    assert {name: row[name] for name in evaluation.figures()} == evaluation.figures()
    assert row["bank_rows"] == len(detector.fitted.members[0].bank.rows)
    assert row["train_images"] == 6
    assert row["calibration_images"] == len(detector.fitted.calibration.scores) == 6
    assert row["held_out_images"] == 0
    assert row["images"] == 4
    assert row["skipped"] == []
    detector.save(tmp_path / "model")
    assert row["model_mb"] == pytest.approx((tmp_path / "model").stat().st_size / 1e6, abs=1e-3)
    assert 0 < row["fit_seconds"] < 60
    assert 0 < row["milliseconds"] < 10_000
    assert row["model_mb"] < row["fit_memory_mb"] <= row["peak_memory_mb"]
    assert (row["device"], row["engine"], row["precision"]) == (str(detector.device), "torch", "fp32")


def test_a_bad_image_stops_a_cell_or_is_listed(tmp_path, category, cell):
    path = category(tmp_path / "brown")
    (path / "test/good/04.jpg").write_bytes(b"this is no image")
    with pytest.raises(DataError, match=r"04\.jpg: not an image"):
        measure(cell(path))
    row = measure(cell(path, options=Options(skip_bad=True)))
    assert row["skipped"] == ["test/good/04.jpg"]
    assert row["images"] == 3


def test_what_has_no_labels_cannot_be_measured(tmp_path, category, cell):
    path = category(tmp_path / "brown") / "train/good"
    with pytest.raises(DataError, match="there are no labelled images to test on"):
        measure(cell(path))


def test_a_process_without_a_cell_says_what_it_expects():
    command = [sys.executable, "-m", "patchcore.benchmark.measure"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Expected a cell, as JSON on one line" in done.stderr
    assert done.stdout == ""
