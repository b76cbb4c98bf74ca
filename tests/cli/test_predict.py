"""`patchcore predict`."""

import csv
import itertools
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from cli_helpers import lines
from PIL import Image

from patchcore import Detector
from patchcore.backbones import build, engines

ROW = {
    "path", "score", "normalised", "threshold", "lower_threshold", "decision", "p_value", "seconds", "nearest_image",
    "time", "model", "warnings", "reason", "foreign",
}  # fmt: skip
READABLE = ["good00.jpg", "good02.jpg", "good03.jpg", "scratched.jpg"]
BAD = ["bad_cut.jpg", "bad_empty.png", "bad_text.png"]


def test_every_image_gets_a_line_of_json(run, model_file, detector, hazelnut):
    folder = hazelnut / "test/colour"
    done = run("predict", model_file, folder, hazelnut / "test/good/04.jpg", "--json")
    assert done.exit_code == 0
    rows = lines(done.stdout)
    paths = [*sorted(folder.iterdir()), hazelnut / "test/good/04.jpg"]
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    for row, result in zip(rows, detector.predict(paths), strict=True):
        assert set(row) == ROW
        assert row["score"] == pytest.approx(result.score, rel=1e-5)
        assert row["normalised"] == pytest.approx(result.normalised, rel=1e-5)
        assert row["threshold"] == result.threshold
        assert row["decision"] == result.decision
        assert 0 < row["seconds"] < 60
        assert row["nearest_image"] == result.nearest_image.name
        assert row["model"] == str(model_file)
        assert datetime.fromisoformat(row["time"]).tzinfo is not None


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed: patchcore[openvino]")
def test_another_engine_gives_the_same_verdicts(run, model_file, parts):
    good = [parts / name for name in READABLE]
    expected = lines(run("predict", model_file, *good, "--json").stdout)
    done = run("predict", model_file, *good, "--engine=openvino", "--precision=fp32", "--json")
    assert done.exit_code == 0
    for row, other in zip(lines(done.stdout), expected, strict=True):
        assert row["score"] == pytest.approx(other["score"], rel=1e-4)
        assert row["decision"] == other["decision"]


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_the_engines_that_are_offered_are_those_there_are(command, run, model_file, hazelnut):
    for option, known in (("--engine", engines.ENGINES), ("--precision", engines.PRECISIONS)):
        done = run(command, model_file, hazelnut, option, "other")
        assert done.exit_code == 2
        assert all(f"'{name}'" in done.stderr for name in known)


def test_predict_in_a_process_of_its_own_reports_bad_images_and_goes_on(run_process, model_file, parts):
    done = run_process("predict", model_file, parts.name, "--json", cwd=parts.parent)
    assert done.returncode == 1
    rows = lines(done.stdout)
    good = [row for row in rows if "error" not in row]
    bad = [row for row in rows if "error" in row]
    # Paths are as they were given: relative here.
    assert [row["path"] for row in good] == [str(Path("parts") / name) for name in READABLE]
    assert [row["path"] for row in bad] == [str(Path("parts") / name) for name in BAD]
    assert all(set(row) == ROW for row in good)
    assert all(set(row) == {"path", "error"} for row in bad)
    reasons = [row["error"] for row in bad]
    assert reasons[0].startswith("damaged or truncated")
    assert reasons[1].startswith("an empty file")
    assert reasons[2].startswith("not an image that can be read")
    report = done.stderr[done.stderr.index("Skipped 3 images that could not be read:") :]
    assert all(name in report for name in BAD)
    assert "Traceback" not in done.stderr


def test_what_is_wrong_with_a_part_of_an_image_is_in_json_table_and_message(run, model_file, hazelnut, tmp_path):
    data = bytearray((hazelnut / "train/good/00.jpg").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 512] = bytes(512)
    (tmp_path / "hole.jpg").write_bytes(data)
    done = run(
        "predict", model_file, tmp_path / "hole.jpg", hazelnut / "train/good/01.jpg", "--json", "-o", tmp_path / "o"
    )
    assert done.exit_code == 0
    damaged, intact = lines(done.stdout)
    (warning,) = damaged["warnings"]
    assert warning.startswith("damaged: ")
    assert intact["warnings"] == []
    assert f"hole.jpg: {warning}" in done.stderr.replace("\n", " ")
    assert warning in (tmp_path / "o/results.csv").read_text("utf-8")


def test_without_json_there_is_a_table_on_standard_output(run, model_file, parts):
    done = run("predict", model_file, parts / "good00.jpg", parts / "scratched.jpg")
    assert done.exit_code == 0
    (good,) = (line for line in done.stdout.splitlines() if "good00.jpg" in line)
    (bad,) = (line for line in done.stdout.splitlines() if "scratched.jpg" in line)
    assert "pass" in good
    assert "fail" in bad


def test_verdicts_do_not_change_the_exit_code_unless_asked_to(run, model_file, parts):
    good, bad = parts / "good00.jpg", parts / "scratched.jpg"
    assert run("predict", model_file, good, bad).exit_code == 0
    assert run("predict", model_file, good, "--fail-exit").exit_code == 0
    assert run("predict", model_file, good, bad, "--fail-exit").exit_code == 3
    assert run("predict", model_file, bad, parts / "bad_text.png", "--fail-exit").exit_code == 1


def test_an_image_that_is_not_there_is_reported(run, model_file, parts):
    done = run("predict", model_file, parts / "nowhere.png", parts / "good00.jpg", "--json")
    assert done.exit_code == 1
    rows = {Path(row["path"]).name: row for row in lines(done.stdout)}
    assert rows["nowhere.png"]["error"] == "no such file."
    assert rows["good00.jpg"]["decision"] == "pass"


def test_a_mistyped_path_is_wrong_usage(run, model_file, parts):
    done = run("predict", model_file, parts / "nowhere", "--json")
    assert done.exit_code == 2
    assert "nowhere does not exist. Give images, or folders of them." in done.stderr
    assert done.stdout == ""


def test_no_table_is_shown_where_no_image_could_be_read(run, model_file, parts):
    done = run("predict", model_file, parts / "bad_text.png")
    assert done.exit_code == 1
    assert "Skipped 1 image that could not be read:" in done.stderr
    assert "verdict" not in done.stderr + done.stdout


def test_an_image_whose_values_do_not_fit_is_reported_like_the_others(run, model_file, parts):
    tifffile.imwrite(parts / "float.tiff", np.full((64, 64), 300, np.float32))
    done = run("predict", model_file, parts / "float.tiff", parts / "good00.jpg", "--json")
    assert done.exit_code == 1
    rows = {Path(row["path"]).name: row for row in lines(done.stdout)}
    assert "values from 300 to 300; expected 0 to 1" in rows["float.tiff"]["error"]
    assert rows["good00.jpg"]["decision"] == "pass"


def test_a_folder_is_searched_in_depth(run, model_file, parts):
    (parts / "deeper").mkdir()
    shutil.move(parts / "scratched.jpg", parts / "deeper")
    for path in parts.glob("bad*"):
        path.unlink()
    found = lines(run("predict", model_file, parts, "--json").stdout)
    assert [Path(row["path"]).name for row in found] == ["scratched.jpg", *READABLE[:3]]


@pytest.mark.parametrize("output", [".", "results"])
def test_results_in_the_folder_of_images_are_not_looked_at_the_next_time(run, model_file, parts, output):
    for path in parts.glob("bad*"):
        path.unlink()
    for _ in range(2):
        done = run("predict", model_file, parts, "-o", parts / output, "--json")
        assert [Path(row["path"]).name for row in lines(done.stdout)] == READABLE
    assert f"{parts}: left out 8 results of an earlier `predict -o`" in done.stderr


def test_what_is_left_out_is_said_on_standard_error(run, model_file, parts):
    for path in parts.glob("bad*"):
        path.unlink()
    (parts / ".ipynb_checkpoints").mkdir()
    shutil.copy(parts / "good00.jpg", parts / ".ipynb_checkpoints")
    (parts / "old.gif").touch()
    done = run("predict", model_file, parts, "--json")
    assert [Path(row["path"]).name for row in lines(done.stdout)] == READABLE
    assert "left out 1 hidden folder (.ipynb_checkpoints)" in done.stderr
    assert "1 file that is no image by its extension (.gif)" in done.stderr


def test_a_folder_without_images_is_named(run, model_file, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("predict", model_file, tmp_path / "empty")
    assert done.exit_code == 1
    assert re.search(r"empty holds no images \(.*\)\.\n", done.stderr)


def test_the_output_folder_gets_overlays_maps_and_a_table(run, model_file, detector, parts, tmp_path):
    out = tmp_path / "not yet" / "there"
    done = run("predict", model_file, parts, "-o", out)
    assert done.exit_code == 1
    stems = [name.removesuffix(".jpg") for name in READABLE]
    expected = {f"{stem}_{what}" for stem in stems for what in ("overlay.png", "map.tiff")} | {"results.csv"}
    assert {path.name for path in out.iterdir()} == expected

    result = detector.predict(parts / "scratched.jpg")
    with Image.open(out / "scratched_overlay.png") as image:
        expected = np.asarray(result.overlay(caption=True)).astype(int)
        assert image.size[0] == 512 < image.size[1]
        change = np.abs(np.asarray(image) - expected)
    assert (change > 2).mean() < 0.01

    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert list(rows) == [*READABLE, *BAD]
    assert rows["scratched.jpg"]["decision"] == "fail"
    assert float(rows["scratched.jpg"]["score"]) == pytest.approx(result.score, rel=1e-5)
    assert rows["bad_empty.png"]["error"].startswith("an empty file")
    assert rows["bad_empty.png"]["score"] == ""


def test_overlays_of_an_earlier_run_are_said_to_be_there(run, model_file, parts, tmp_path):
    out, words = tmp_path / "out", f"Overlays, maps and results.csv are in {tmp_path / 'out'}"
    assert f"{words}\n" in run("predict", model_file, parts / "good00.jpg", "-o", out).stdout
    assert f"{words}\n" in run("predict", model_file, parts / "good00.jpg", "-o", out).stdout
    done = run("predict", model_file, parts / "scratched.jpg", "-o", out)
    assert f"{words}; 1 overlay of earlier runs, which results.csv does not list" in done.stdout


def test_a_run_that_is_stopped_leaves_a_table_of_what_is_done(run, model_file, parts, tmp_path, monkeypatch):
    stream, out = Detector.stream, tmp_path / "out"

    def stopped(*given, **options):
        yield from itertools.islice(stream(*given, **options), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Detector, "stream", stopped)
    done = run("predict", model_file, *(parts / name for name in READABLE), "-o", out)
    assert done.exit_code == 1
    assert f"{out}: 2 of 4 images done; results.csv lists them." in done.stderr
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        assert [row["files"] for row in csv.DictReader(file)] == ["good00", "good02"]


def test_results_are_a_table_that_predict_takes_and_fit_learns_nothing_from(run, model_file, parts, tmp_path):
    assert (
        run("predict", model_file, parts / "good00.jpg", parts / "scratched.jpg", "-o", tmp_path / "o").exit_code == 0
    )
    again = run("predict", model_file, tmp_path / "o/results.csv", "--json")
    assert [Path(row["path"]).name for row in lines(again.stdout)] == ["good00.jpg", "scratched.jpg"]
    learned = run("fit", tmp_path / "o/results.csv", "-o", tmp_path / "m")
    assert learned.exit_code == 1
    assert "results of `patchcore predict`, 2 images without labels" in learned.stderr
    assert "There are no good images to learn from" in learned.stderr


def test_a_tiff_map_is_in_units_of_a_quarter_of_65535_per_pixel_threshold(run, model_file, detector, parts, tmp_path):
    assert run("predict", model_file, parts / "scratched.jpg", "-o", tmp_path / "out").exit_code == 0
    stored = tifffile.imread(tmp_path / "out" / "scratched_map.tiff")
    assert stored.dtype == np.uint16
    result = detector.predict(parts / "scratched.jpg")
    assert stored.max() < 65535
    values = stored / 65535 * 4 * result.pixel_threshold
    np.testing.assert_allclose(values, result.map, atol=result.pixel_threshold * 2e-4)


def test_an_npy_map_is_the_results(run, model_file, detector, parts, tmp_path):
    done = run("predict", model_file, parts / "scratched.jpg", "-o", tmp_path / "out", "--map", "npy")
    assert done.exit_code == 0
    stored = np.load(tmp_path / "out" / "scratched_map.npy")
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, detector.predict(parts / "scratched.jpg").map, rtol=1e-4)
    assert not (tmp_path / "out" / "scratched_map.tiff").exists()


def test_images_of_one_name_do_not_overwrite_each_other(run, model_file, hazelnut, tmp_path):
    for folder, source in (("a", "train/good/00.jpg"), ("b", "test/colour/00.jpg")):
        (tmp_path / folder).mkdir()
        shutil.copy(hazelnut / source, tmp_path / folder / "00.jpg")
    Image.open(hazelnut / "test/colour/01.jpg").convert("RGB").save(tmp_path / "a" / "00.png")
    done = run("predict", model_file, tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--map", "npy", "--json")
    assert done.exit_code == 0
    scores = sorted(row["score"] for row in lines(done.stdout))
    maps = sorted(np.load(path).max() for path in (tmp_path / "out").glob("*_map.npy"))
    assert len(scores) == len(maps) == len(list((tmp_path / "out").glob("*_overlay.png"))) == 3
    assert len({round(float(value), 3) for value in maps}) == 3


def test_sub_folders_are_kept_in_the_output(run, model_file, hazelnut, tmp_path):
    done = run("predict", model_file, hazelnut / "test", "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert (tmp_path / "out" / "colour" / "00_overlay.png").is_file()
    assert (tmp_path / "out" / "good" / "04_map.tiff").is_file()


def test_paths_may_hold_spaces_and_any_letters(run, model_file, parts, tmp_path):
    image = parts / "Nuß № 1 二.jpg"
    (parts / "scratched.jpg").rename(image)
    done = run("predict", model_file, image, "-o", tmp_path / "Bilder grün", "--json")
    assert done.exit_code == 0
    assert lines(done.stdout)[0]["path"] == str(image)
    assert (tmp_path / "Bilder grün" / "Nuß № 1 二_overlay.png").is_file()
    assert "Nuß № 1 二.jpg" in (tmp_path / "Bilder grün" / "results.csv").read_text("utf-8")


def test_a_name_with_dots_keeps_them(run, model_file, parts, tmp_path):
    for name in ("part.1.jpg", "part.2.jpg"):
        shutil.copy(parts / "good00.jpg", parts / name)
    run("predict", model_file, parts / "part.1.jpg", parts / "part.2.jpg", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "part.1_overlay.png").is_file()
    assert (tmp_path / "out" / "part.2_overlay.png").is_file()


def test_the_largest_image_can_be_set(run, model_file, parts):
    done = run("predict", model_file, parts / "good00.jpg", "--max-pixels", 1000, "--json")
    assert done.exit_code == 1
    (row,) = lines(done.stdout)
    assert row["error"].startswith("512 x 512 pixels are more than the limit of 1000")


def test_a_file_in_place_of_the_output_folder_is_wrong_usage(run, model_file, parts):
    done = run("predict", model_file, parts / "good00.jpg", "-o", parts / "good02.jpg")
    assert done.exit_code == 2
    assert "is a file" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise on Windows")
def test_a_reader_that_stops_early_gets_no_traceback(model_file, hazelnut):
    command = [sys.executable, "-m", "patchcore", "predict", str(model_file), str(hazelnut), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) in (0, 1)
    assert b"Traceback" not in said
    assert b"Exception ignored" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_a_file_name_that_is_no_unicode_does_not_stop_the_run(run, model_file, hazelnut, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(hazelnut / "test/good/04.jpg", os.fsencode(folder) + b"/T\xfcr.jpg")
    shutil.copy(hazelnut / "test/good/04.jpg", folder / "[red].jpg")
    done = run("predict", model_file, folder, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*_map.tiff"))) == 2
    assert "[red].jpg" in done.stdout


def test_the_table_of_results_says_which_files_belong_to_which_image(run, model_file, hazelnut, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(hazelnut / "test/good/04.jpg", tmp_path / name / "x.jpg")
    run("predict", model_file, tmp_path / "a/x.jpg", tmp_path / "b/x.jpg", "-o", tmp_path / "out")
    with (tmp_path / "out/results.csv").open(newline="") as file:
        files = {row["path"]: row["files"] for row in csv.DictReader(file)}
    assert files == {str(tmp_path / "a/x.jpg"): "x", str(tmp_path / "b/x.jpg"): "x_2"}
    assert (tmp_path / "out/x_2_overlay.png").is_file()


def test_the_number_of_threads_does_not_change_a_score(run, model_file, hazelnut):
    scores = []
    for threads in (1, 2):
        done = run("predict", model_file, hazelnut / "test/colour", "--json", "--threads", threads)
        assert done.exit_code == 0
        scores.append([row["score"] for row in lines(done.stdout)])
    assert len(scores[0]) > 1
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_no_threads_is_wrong_usage(run, model_file, hazelnut):
    done = run("predict", model_file, hazelnut / "test/colour", "--threads", 0)
    assert done.exit_code == 2
    assert "Invalid value for '--threads'" in done.stderr


def test_weights_from_a_file_that_the_model_does_not_hold_can_be_given_again(run, hazelnut, tmp_path):
    weights, model, image = tmp_path / "mine.pth", tmp_path / "m", hazelnut / "test/good/04.jpg"
    torch.save(build("resnet18", "random", (8,), (64, 64)).extractor.model.state_dict(), weights)
    small = ["--set=backbone=resnet18", f"--set=weights={weights}", "--set=taps=[8]", "--set=size=64"]
    assert run("fit", hazelnut / "train/good", "-o", model, *small, "--no-weights").exit_code == 0
    moved = weights.rename(tmp_path / "moved.pth")
    assert "weights" in run("predict", model, image).stderr
    done = run("predict", model, image, "--weights", moved, "--json")
    assert done.exit_code == 0, done.stderr
    assert lines(done.stdout)[0]["score"] > 0


def test_a_verdict_loads_no_library_that_only_other_work_needs(model_file, hazelnut):
    # Each takes about as long to load as the whole rest of a cold start, or a good part of it.
    image = hazelnut / "test" / "colour" / "00.jpg"
    code = (
        "import sys\nfrom patchcore import Detector\n"
        f"print(Detector.load({str(model_file)!r}).predict({str(image)!r}).decision)\n"
        "print({'timm', 'torchvision', 'sklearn', 'scipy.ndimage', 'numba', 'matplotlib', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "fail\nset()\n"


def test_names_that_differ_only_by_case_or_in_how_an_accent_is_written_get_files_of_their_own(
    run, model_file, hazelnut, tmp_path
):
    folder = tmp_path / "in"
    (folder / "X").mkdir(parents=True)
    (folder / "x").mkdir()
    names = ["A.jpg", "a.jpg", "e\u0301.jpg", "\u00e9.jpg", "X/b.jpg", "x/b.jpg"]
    for name in names:
        shutil.copy(hazelnut / "test/good/04.jpg", folder / name)
    done = run("predict", model_file, folder, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0
    made = [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*_overlay.png")]
    assert len(made) == len({unicodedata.normalize("NFC", one).casefold() for one in made}) == len(names)
