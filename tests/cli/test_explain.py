"""`patchcore explain`, and evidence in `patchcore predict`."""

import shutil

import pytest
from cli_helpers import SMALL, lines
from PIL import Image

from patchcore.data.sample import images_in


def test_explain_says_why_and_draws_it(run, model_file, hazelnut, tmp_path):
    (mask,) = (hazelnut / "ground_truth/colour").glob("00*")
    image = hazelnut / "test/colour/00.jpg"
    done = run("explain", model_file, image, "--mask", mask, "-o", tmp_path / "why.png")
    assert done.exit_code == 0, done.stderr
    assert "The image fails, and what is outlined meets the mark." in done.stdout
    assert "No advice follows from these figures." in done.stdout
    with Image.open(tmp_path / "why.png") as drawn:
        assert drawn.width == 1000
    (found,) = lines(run("explain", model_file, image, "--mask", mask, "--json").stdout)
    assert set(found) == {"path", "score", "threshold", "decision", "evidence", "defect", "facts", "advice"}
    assert found["defect"]["outcome"] == "found"


def test_explain_without_a_mask_explains_the_worst_patches(run, model_file, hazelnut):
    (found,) = lines(run("explain", model_file, hazelnut / "test/good/04.jpg", "-n", 2, "--json").stdout)
    assert found["defect"] is None
    assert len(found["evidence"]["patches"]) == 2


def test_an_image_is_not_overwritten(run, model_file, hazelnut, tmp_path):
    shutil.copy(hazelnut / "test/colour/00.jpg", tmp_path / "a.jpg")
    done = run("explain", model_file, tmp_path / "a.jpg", "-o", tmp_path / "a.jpg")
    assert done.exit_code == 2
    assert "is an input" in done.stderr


def test_evidence_is_beside_the_overlays_and_in_the_json(run, model_file, hazelnut, tmp_path):
    done = run("predict", model_file, hazelnut / "test/colour", "-o", tmp_path / "out", "--evidence", "--json")
    assert done.exit_code == 0, done.stderr
    for row in lines(done.stdout):
        assert len(row["evidence"]["patches"]) == 3
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"00_evidence.png", "00_overlay.png", "00_map.tiff"} <= names


def test_evidence_is_no_image_to_predict(run, model_file, hazelnut, tmp_path):
    folder = tmp_path / "parts"
    shutil.copytree(hazelnut / "test/colour", folder)
    before = [path.name for path in images_in(folder)]
    assert run("predict", model_file, folder, "-o", folder, "--evidence").exit_code == 0
    assert [path.name for path in images_in(folder)] == before


def test_evidence_without_a_place_for_it_is_wrong_usage(run, model_file, hazelnut):
    done = run("predict", model_file, hazelnut / "test/colour", "--evidence")
    assert done.exit_code == 2
    assert "give -o DIR, or --json" in done.stderr


def test_without_evidence_the_json_is_as_before(run, model_file, hazelnut):
    assert "evidence" not in lines(run("predict", model_file, hazelnut / "test/colour", "--json").stdout)[0]


@pytest.mark.parametrize("option", ["--thumbnails", "--no-thumbnails"])
def test_fit_and_info_state_the_size_of_thumbnails(option, run, hazelnut, tmp_path):
    path = tmp_path / "m.patchcore"
    done = run("fit", hazelnut / "train/good", "-o", path, *SMALL, "--limit", 3, option, "--json")
    assert done.exit_code == 0, done.stderr
    (about,) = lines(run("info", path, "--json").stdout)
    kept = option == "--thumbnails"
    assert lines(done.stdout)[0]["thumbnails"] == about["thumbnails"]["bytes"]
    assert (about["thumbnails"]["bytes"] > 1000) == kept
    assert about["thumbnails"]["images"] == 3 * kept
    assert ("MB of thumbnails" in done.stderr) == kept
    assert ("of 3 training images" in run("info", path).stdout) == kept
