"""`patchcore predict --regions` and `--coco`: the regions of results for other programs."""

import csv
import json

import numpy as np
import pytest
from cli_helpers import lines
from pycocotools.coco import COCO

REGION = {"number", "box", "polygons", "peak", "area", "length", "width", "unit"}


def test_regions_are_in_json_csv_and_coco_and_agree(run, model_file, detector, hazelnut, tmp_path):
    bad, good = hazelnut / "test/colour/00.jpg", hazelnut / "train/good/00.jpg"
    options = ("--json", "--regions", "--coco", tmp_path / "coco.json", "-o", tmp_path / "out")
    done = run("predict", model_file, good, bad, *options)
    assert done.exit_code == 0
    result = detector.predict(bad)
    first, second = lines(done.stdout)
    assert first["regions"] == []
    assert [set(one) for one in second["regions"]] == [REGION] * len(result.regions)
    assert [one["box"] for one in second["regions"]] == [list(one.box) for one in result.regions]
    with (tmp_path / "out/results.csv").open(newline="") as file:
        rows = [json.loads(row["regions"]) for row in csv.DictReader(file)]
    assert rows[0] == []
    assert rows[1] == [{key: one[key] for key in one if key != "polygons"} for one in second["regions"]]

    read = COCO(tmp_path / "coco.json")
    assert [one["file_name"] for one in read.loadImgs(read.getImgIds())] == [str(good), str(bad)]
    found = read.loadAnns(read.getAnnIds(imgIds=2, catIds=read.getCatIds(["defect"])))
    assert read.getAnnIds(imgIds=1) == []
    assert [one["bbox"] for one in found] == [list(one.box) for one in result.regions]
    mask = np.any([read.annToMask(one) for one in found], axis=0)
    assert (mask & result.mask).sum() / (mask | result.mask).sum() > 0.95


def test_nothing_is_said_of_regions_unless_asked(run, model_file, hazelnut):
    (row,) = lines(run("predict", model_file, hazelnut / "test/colour/00.jpg", "--json").stdout)
    assert "regions" not in row


def test_the_coco_file_may_not_be_an_input(run, model_file, hazelnut):
    done = run("predict", model_file, hazelnut / "test/colour/00.jpg", "--coco", model_file)
    assert done.exit_code == 2
    assert "is an input" in done.stderr


@pytest.mark.parametrize("image", ["test/colour/00.jpg"])
def test_the_table_tells_sizes(image, run, model_file, detector, hazelnut):
    done = run("predict", model_file, hazelnut / image, "--regions")
    one = detector.predict(hazelnut / image).regions[0]
    assert f"1: {one.length:.3g} x {one.width:.3g} px" in done.stdout
