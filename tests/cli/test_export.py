import json
import shutil

import numpy as np
import pytest
from PIL import Image

from patchcore import Detector, export

pytest.importorskip("patchcore_runtime")


def test_a_detector_is_exported_and_verified(run, noise_file, tmp_path):
    done = run("export", noise_file, "-o", tmp_path / "out", "--format", "torch", "--static", 32, 32, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["images"] == 12
    assert found["score"] < 1e-4
    assert found["decisions"] == 0
    assert set(found["files"]) == {"model.pt2"}
    assert "replacing" not in done.output
    done = run("verify", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "agrees with the library. 12 images, largest difference of a score" in done.stdout

    (tmp_path / "out" / "origins.npy").write_bytes(b"something else")
    done = run("verify", tmp_path / "out")
    assert done.exit_code == 1
    assert "origins.npy: altered or damaged" in done.stderr


def test_what_cannot_be_written_is_wrong_usage(run, noise_file, tmp_path):
    done = run("export", noise_file, "-o", tmp_path / "out", "--precision", "int8")
    assert done.exit_code == 2
    assert "needs good images to quantise with" in done.stderr
    assert "minute" not in done.stderr
    done = run("export", noise_file, "-o", tmp_path / "no" / "out", "--format", "torch")
    assert done.exit_code == 2
    assert "does not exist. Create it first" in done.stderr
    done = run("verify", tmp_path)
    assert done.exit_code == 1
    assert "Expected a folder that `patchcore export` has written" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def options(noise_file, once, tmp_path):
    """How `out` in the test's folder is written; it holds an earlier export."""
    sizes = {"format": "torch", "static": (32, 32)}
    earlier = once("noise-torch", lambda place: export.save(Detector.load(noise_file), place / "exported", **sizes))
    shutil.copytree(earlier / "exported", tmp_path / "out")
    return ["export", noise_file, "-o", tmp_path / "out", "--format", "torch", "--static", 32, 32]


def test_an_export_that_is_replaced_is_said_to_be(run, options, tmp_path):
    done = run(*options)
    assert done.exit_code == 0
    assert "out, replacing the previous export: model.pt2 " in done.stdout
    assert "was signed" not in done.stderr
    (tmp_path / "out" / "signature.json").write_text("{}")
    assert f"signed, but this one is not. Sign it: patchcore sign {tmp_path / 'out'} --key KEY" in run(*options).stderr


def test_files_that_an_export_has_not_written_are_not_replaced(run, options, tmp_path):
    (tmp_path / "out" / "more").mkdir()
    (tmp_path / "out" / "more" / "notes.txt").write_text("keep me")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for place, what in (("out", "more/notes.txt"), ("link", "a link")):
        done = run(*options[:3], tmp_path / place, *options[4:])
        assert done.exit_code == 2
        assert f"{place}: there is something else already ({what}). Give the path of a new folder." in done.stderr
        assert "Exporting" not in done.stderr
    assert (tmp_path / "out" / "more" / "notes.txt").read_text() == "keep me"


def test_images_that_cannot_be_used_are_left_out_and_listed(run, noise_file, tmp_path):
    (tmp_path / "parts").mkdir()
    Image.new("RGB", (32, 32), (90, 80, 70)).save(tmp_path / "parts" / "a.png")
    (tmp_path / "parts" / "b.png").write_text("Dear")
    options = ["export", noise_file, "-o", tmp_path / "out", "--format", "torch", "--static", 32, 32]
    options += ["--images", tmp_path / "parts", "--json"]
    done = run(*options)
    assert done.exit_code == 1
    assert "b.png: not an image" in done.stderr
    done = run(*options, "--skip-bad")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["skipped"] == ["b.png"]
    assert "Left out 1 image that could not be read:" in done.stderr


def test_a_folder_that_cannot_be_written_is_said_before_the_model_is_read(run, tmp_path):
    (tmp_path / "model").write_text("Dear")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    done = run("export", tmp_path / "model", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "out: there is something else already (notes.txt)" in done.stderr


def test_int8_says_what_it_did_to_scores(run, noise_file, tmp_path):
    pytest.importorskip("nncf")
    pytest.importorskip("openvino")
    folder = tmp_path / "noise"
    folder.mkdir()
    for number, pixels in enumerate(np.random.default_rng(1).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"new{number}.png")
    options = ["--format", "openvino", "--precision", "int8", "--images", folder, "--static", 32, 32]
    done = run("export", noise_file, "-o", tmp_path / "out", *options, "--max-threshold-shift", 0.5, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["quantised"]  # nothing else is on standard output
    assert (found["calibrated_on"], found["good"], found["defects"], found["auroc"]) == (3, 3, 0, None)
    before, after = found["threshold"]
    assert found["threshold_shift"] == pytest.approx((after - before) / before)
    assert 0 < abs(found["threshold_shift"]) < 0.5
    assert "Quantising on 3 good images, measuring on 3 images." in done.stderr
    done = run("verify", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "agrees with the machine that exported it. 12 images" in done.stdout
