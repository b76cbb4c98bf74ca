"""`patchcore fit`."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from cli_helpers import SMALL, lines

from patchcore import Detector, Recipe
from patchcore.model import store

KEYS = {
    "path",
    "images",
    "skipped",
    "rejected",
    "bank_rows",
    "threshold",
    "thumbnails",
    "pixel_threshold",
    "calibration_images",
    "calibration_enough",
    "seconds",
    "sha256",
}


@pytest.fixture
def few(hazelnut, tmp_path) -> Path:
    """A folder of four good images."""
    folder = tmp_path / "good"
    folder.mkdir()
    for path in sorted((hazelnut / "train/good").iterdir())[:4]:
        shutil.copy(path, folder)
    return folder


def test_a_detector_is_replaced_only_if_that_is_asked_for(few, run, tmp_path):
    path = tmp_path / "m"
    path.write_text("something else")
    done = run("fit", few, "-o", path, *SMALL)
    assert done.exit_code == 2
    assert f"{path} already exists. Give another -o, or --force to replace it." in done.stderr
    assert "good to train on" not in done.stderr
    assert path.read_text() == "something else"
    assert run("fit", few, "-o", path, *SMALL, "--force").exit_code == 0
    assert run("info", path).exit_code == 0


def test_fit_writes_the_detector_that_the_library_makes(run, hazelnut, detector, model_file, tmp_path):
    out = tmp_path / "nuts.patchcore"
    done = run("fit", hazelnut / "train/good", "-o", out, *SMALL, "--json")
    assert done.exit_code == 0
    assert out.read_bytes() == model_file.read_bytes()
    (row,) = lines(done.stdout)
    assert set(row) == KEYS
    assert row["path"] == str(out)
    assert row["images"] == 10
    assert row["skipped"] == []
    assert row["bank_rows"] == len(detector.fitted.members[0].bank.rows)
    assert row["threshold"] == detector.fitted.calibration.threshold
    assert row["pixel_threshold"] == detector.fitted.calibration.pixel_threshold
    assert row["calibration_images"] == len(detector.fitted.calibration.scores)
    assert row["calibration_enough"] is False
    assert row["sha256"] == store.read(out)[1]["sha256"]


def test_fit_in_a_process_of_its_own_prints_json_alone(run_process, few, tmp_path):
    done = run_process("fit", few, "-o", tmp_path / "m", *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = lines(done.stdout)
    assert set(row) == KEYS
    assert "Reading good images" in done.stderr
    assert "Choosing patches" in done.stderr
    assert re.search(r"Threshold \d.* good images?", done.stderr)


def test_fit_without_json_prints_nothing_on_standard_output(run, few, tmp_path):
    done = run("fit", few, "-o", tmp_path / "m", *SMALL)
    assert done.exit_code == 0
    assert re.search(r"m: \d+ patches in the memory bank, 4 images read, in .* s, .* MB", done.stdout)


def test_for_few_images_fit_names_the_recipe_that_is_made_for_them(run, few, tmp_path):
    two = run("fit", few, "--limit", 2, "-o", tmp_path / "m", *SMALL)
    assert "--recipe few_shot often finds more defects" in two.stderr
    assert "--recipe few_shot" not in run("fit", "--force", few, "-o", tmp_path / "m", *SMALL).stderr  # four images
    for recipe in ("fast", "few_shot"):
        assert (
            "--recipe few_shot"
            not in run("fit", "--force", few, "--limit", 2, "-o", tmp_path / "m", "--recipe", recipe, *SMALL).stderr
        )


def test_fit_says_what_it_found(run, hazelnut, few, tmp_path):
    table = tmp_path / "parts.csv"
    table.write_text("path,label\n" + "".join(f"good/{p.name},good\n" for p in few.iterdir()), "utf-8")
    for data, expected in (
        (hazelnut, "MVTec AD layout, 10 good to train on, 3 good and 4 defective to test on"),
        (few, "folder, 4 images taken as good"),
        (table, "CSV table, 4 good to train on"),
    ):
        done = run("fit", "--force", data, "-o", tmp_path / "m", *SMALL, "--limit", 2)
        assert done.exit_code == 0
        assert expected in done.stderr


def test_defects_beside_good_images_are_not_learned_from(run, hazelnut, few, tmp_path):
    for words in ((hazelnut / "test",), (few, "--calibration", hazelnut / "test")):
        done = run("fit", "--force", *words, "-o", tmp_path / "m", *SMALL)
        assert done.exit_code == 1
        assert "has a sub-folder good, and other images beside it (4 in colour, 3 in good)" in done.stderr
        assert not (tmp_path / "m").exists()


def test_fit_of_a_data_set_root_learns_from_its_training_images_alone(run, hazelnut, tmp_path):
    assert run("fit", hazelnut, "-o", tmp_path / "m", *SMALL).exit_code == 0
    names = Detector.load(tmp_path / "m").fitted.images
    assert len(names) == 10
    assert all(name.startswith("train/good/") for name in names)


def test_fit_stops_at_a_bad_image_and_leaves_no_file(run, few, tmp_path):
    (few / "01x.png").write_bytes(b"this is no image")
    done = run("fit", few, "-o", tmp_path / "m", *SMALL)
    assert done.exit_code == 1
    assert f"Error: {few / '01x.png'}: not an image that can be read" in done.stderr
    assert "Chosen" not in done.stderr  # the error alone
    assert done.stderr.rstrip().endswith("With --skip-bad, images that cannot be used are left out and listed.")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == [few]


def test_an_error_in_spite_of_skip_bad_does_not_advise_it(run, tmp_path):
    (tmp_path / "a.csv").write_text("path\na.png\n")
    (tmp_path / "a.png").touch()
    done = run("fit", tmp_path / "a.csv", "-o", tmp_path / "m", *SMALL, "--skip-bad")
    assert done.exit_code == 1
    assert "--skip-bad" not in done.stderr


def test_fit_leaves_bad_images_out_and_lists_them_when_told_to(run, few, tmp_path):
    (few / "01x.png").write_bytes(b"this is no image")
    (few / "02x.png").touch()
    done = run("fit", few, "-o", tmp_path / "m", *SMALL, "--skip-bad", "--json")
    assert done.exit_code == 0
    (row,) = lines(done.stdout)
    assert row["skipped"] == ["01x.png", "02x.png"]
    assert row["images"] == 4
    assert "Left out 2 images that could not be read:" in done.stderr
    assert f"  {few / '01x.png'}: not an image" in done.stderr
    assert f"  {few / '02x.png'}: an empty file" in done.stderr
    assert str(few) not in str(Detector.load(tmp_path / "m").fitted.images)


def test_fit_takes_a_limit_and_a_seed(run, hazelnut, tmp_path):
    def names(*arguments):
        done = run("fit", "--force", hazelnut, "-o", tmp_path / "m", *SMALL, "--limit", 3, *arguments)
        assert done.exit_code == 0
        detector = Detector.load(tmp_path / "m")
        return detector.fitted.images, detector.recipe.seed

    chosen = {seed: names("--seed", seed) for seed in (0, 1, 2)}
    assert all(len(images) == 3 for images, _ in chosen.values())
    assert {seed: used for seed, (_, used) in chosen.items()} == {0: 0, 1: 1, 2: 2}
    assert len({images for images, _ in chosen.values()}) > 1
    assert names("--set", "seed=2") == chosen[2]


def test_fit_sets_the_threshold_with_other_images_when_given_them(run, hazelnut, few, tmp_path):
    done = run("fit", few, "-o", tmp_path / "m", *SMALL, "--calibration", hazelnut / "test/good", "--json")
    assert done.exit_code == 0
    (row,) = lines(done.stdout)
    assert row["calibration_images"] == 3
    detector = Detector.load(tmp_path / "m")
    scores = [result.score for result in detector.predict(hazelnut / "test/good")]
    assert row["threshold"] == pytest.approx(1.0001 * max(scores))


def test_fit_refuses_to_calibrate_on_what_it_learned_from(run, few, tmp_path):
    done = run("fit", few, "-o", tmp_path / "m", *SMALL, "--calibration", few)
    assert done.exit_code == 1
    assert "00.jpg: this calibration image is among the training images too" in done.stderr
    assert not (tmp_path / "m").exists()


def test_fit_can_leave_the_weights_out(run, few, hazelnut, model_file, tmp_path):
    done = run("fit", few, "-o", tmp_path / "m", *SMALL, "--no-weights")
    assert done.exit_code == 0
    assert (tmp_path / "m").stat().st_size < 0.2 * model_file.stat().st_size
    assert run("predict", tmp_path / "m", hazelnut / "test/good/04.jpg").exit_code == 0


def test_fit_reads_a_recipe_file(run, few, tmp_path):
    (tmp_path / "rezept grün.json").write_text(json.dumps({"base": "fast", "size": 96, "resize": "stretch"}), "utf-8")
    done = run("fit", few, "-o", tmp_path / "m", "--recipe", tmp_path / "rezept grün.json", "--set", "ratio=0.03")
    assert done.exit_code == 0
    expected = Recipe.named("fast").replace(size=96, resize="stretch", ratio=0.03)
    found = Detector.load(tmp_path / "m").recipe
    decided = {name: getattr(found, name) for name in ("exposure", "pool", "scaling")}
    assert found == expected.replace(**decided)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "rato=0.1"], "There is no recipe field 'rato'. Did you mean 'ratio'?"),
        (["--set", "ratio"], "'ratio' sets nothing; expected field=value"),
        (["--set", "ratio=1.5"], "Recipe field ratio got 1.5: Input should be less than or equal to 1"),
        (["--set", "ratio=much"], "Recipe field ratio got 'much'"),
        (["--set", "resize=squash"], "Recipe field resize got 'squash'"),
        (["--recipe", "defualt"], "There is no recipe 'defualt'. Did you mean 'default'?"),
        (["--recipe", "nowhere.json"], "The recipe file nowhere.json cannot be read"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--limit", "0"], "Invalid value for '--limit'"),
    ],
)
def test_wrong_choices_are_explained_before_any_work(arguments, message, run, few, tmp_path):
    done = run("fit", few, "-o", tmp_path / "m", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "taken as good" not in done.stderr
    assert not (tmp_path / "m").exists()


def test_a_recipe_file_with_a_wrong_field_is_explained(run, few, tmp_path):
    (tmp_path / "r.json").write_text('{"neighbors": 3}', "utf-8")
    done = run("fit", few, "-o", tmp_path / "m", "--recipe", tmp_path / "r.json")
    assert done.exit_code == 2
    assert "There is no recipe field 'neighbors'. Did you mean 'neighbours'?" in done.stderr


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("backbone=eficientnet_lite0", "no backbone 'eficientnet_lite0'. Did you mean 'efficientnet_lite0'?"),
        ("backbone=module", "give the network"),
        ('taps=["blocks.33"]', "The tap 'blocks.33' is not a module that runs in this backbone. Did you mean"),
        ("weights=nowhere.pth", "weights is 'nowhere.pth', but there is no such file"),
    ],
)
def test_a_backbone_a_tap_or_weights_that_do_not_exist_are_wrong_usage(assignment, message, run, few, tmp_path):
    done = run("fit", few, "-o", tmp_path / "m", "--set", assignment)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_weights_file_that_is_none_is_a_failure(run, few, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"this is no state dict")
    done = run("fit", few, "-o", tmp_path / "m", "--set", f"weights={tmp_path / 'w.pth'}")
    assert done.exit_code == 1
    assert "The weights file w.pth cannot be read" in done.stderr


def test_calibration_images_that_are_not_there_are_wrong_usage(run, few, tmp_path):
    done = run("fit", few, "-o", tmp_path / "m", *SMALL, "--calibration", tmp_path / "nowhere")
    assert done.exit_code == 2
    assert "nowhere' does not exist" in done.stderr


def test_a_missing_output_folder_is_said_before_any_work(run, few, tmp_path):
    done = run("fit", few, "-o", tmp_path / "nowhere" / "m", *SMALL)
    assert done.exit_code == 2
    assert "nowhere does not exist. Create it first" in done.stderr
    assert "Reading good images" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="/dev/null is POSIX's")
def test_a_device_as_output_is_refused_before_any_work(run, few):
    done = run("fit", few, "-o", "/dev/null", *SMALL)
    assert done.exit_code == 1
    assert "/dev/null: a device, pipe or socket; expected the path of a file" in done.stderr
    assert "Reading good images" not in done.stderr


@pytest.mark.parametrize("data", ["nowhere", "empty", "set"])
def test_data_that_cannot_be_used_is_named(data, run, hazelnut, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "set").mkdir()
    shutil.copytree(hazelnut / "train", tmp_path / "set/hazelnut/train")
    done = run("fit", tmp_path / data, "-o", tmp_path / "m", *SMALL)
    assert done.exit_code == (2 if data == "nowhere" else 1)
    expected = {
        "nowhere": "nowhere' does not exist",
        "empty": "empty holds no images",
        "set": f"holds 1 category (hazelnut); give one of them, for example {tmp_path / 'set' / 'hazelnut'}",
    }[data]
    assert expected in done.stderr
    assert not (tmp_path / "m").exists()


def test_paths_may_hold_spaces_and_any_letters(run, few, tmp_path):
    folder = tmp_path / "gute Teile grün 二"
    few.rename(folder)
    (folder / "00.jpg").rename(folder / "Nuß № 1.jpg")
    out = tmp_path / "Modell für Nüsse.patchcore"
    done = run("fit", folder, "-o", out, *SMALL, "--json")
    assert done.exit_code == 0
    assert lines(done.stdout)[0]["path"] == str(out)
    assert "Nuß № 1.jpg" in Detector.load(out).fitted.images


def test_the_largest_image_can_be_set(run, few, tmp_path):
    done = run("fit", few, "-o", tmp_path / "m", *SMALL, "--max-pixels", 1000)
    assert done.exit_code == 1
    assert "512 x 512 pixels are more than the limit of 1000" in done.stderr
    assert "--max-pixels" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize(
    ("stage", "sent"),
    [
        ("Reading good images", signal.SIGINT),
        ("Choosing patches", signal.SIGINT),
        ("Choosing patches", signal.SIGTERM),
    ],
)
def test_a_fit_that_is_stopped_leaves_nothing_behind(stage, sent, hazelnut, tmp_path):
    # Large images and a large bank, so that there is time to interrupt.
    command = [sys.executable, "-m", "patchcore", "fit", str(hazelnut), "-o", str(tmp_path / "m")]
    command += ["--set=size=512", "--set=resize=stretch", "--set=ratio=0.9"]
    # A shell's background job, as the tests may be, has SIGINT ignored.
    preexec = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=preexec)
    try:
        said = b""
        while stage.encode() not in said:
            chunk = os.read(process.stderr.fileno(), 65536)
            assert chunk, said.decode()
            said += chunk
        time.sleep(0.1)
        process.send_signal(sent)
        out, rest = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert out == b""
    assert b"Stopped. No half-written files were left." in rest
    assert b"Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "2XB"], "memory is '2XB'; expected a size, for example '2GB' or 2000000000 bytes."),
        (["--memory", ""], "memory is ''; expected a size"),
        (["--memory", "0"], "memory is 0; a fit needs at least 500MB beside the model."),
        (["--memory", "10MB"], "memory is 10MB; a fit needs at least 500MB"),
        (["--threads", "0"], "Invalid value for '--threads'"),
    ],
)
def test_a_limit_that_cannot_be_is_wrong_usage_and_no_image_is_read(arguments, message, run, few, tmp_path):
    done = run("fit", few, "-o", tmp_path / "m", *SMALL, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Reading" not in done.stderr
    assert not (tmp_path / "m").exists()


def test_memory_and_threads_do_not_change_the_file(run, few, tmp_path, monkeypatch):
    assert run("fit", few, "-o", tmp_path / "a", *SMALL, "--memory", "2GB", "--threads", 1).exit_code == 0
    assert run("fit", few, "-o", tmp_path / "b", *SMALL, "--threads", 2).exit_code == 0
    monkeypatch.setattr("patchcore.memory.patches._LEAST_MEMORY", 1)
    assert run("fit", few, "-o", tmp_path / "c", *SMALL, "--memory", 1).exit_code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_fit_that_is_killed_leaves_no_file_of_patches(hazelnut, tmp_path):
    # With next to no memory, so that all patches are in a file; large images, so that there is time.
    temp = tmp_path / "temp"
    temp.mkdir()
    code = (
        "import sys; from patchcore import cli; from patchcore.memory import patches; "
        "patches._LEAST_MEMORY = 1; cli.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "fit", str(hazelnut), "-o", str(tmp_path / "m"), "--memory", "1"]
    command += ["--set=size=512", "--set=resize=stretch", "--set=ratio=0.9"]
    environment = {**os.environ, "TMPDIR": str(temp)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    try:
        said = b""
        while b"Choosing patches" not in said:
            chunk = os.read(process.stderr.fileno(), 65536)
            assert chunk, said.decode()
            said += chunk
        descriptors = Path(f"/proc/{process.pid}/fd")
        if descriptors.is_dir():  # the file is there, and it is in that folder
            targets = [os.readlink(path) for path in descriptors.iterdir() if path.exists() or path.is_symlink()]
            assert any(target.startswith(str(temp)) for target in targets)
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert list(temp.iterdir()) == []
    assert list(tmp_path.iterdir()) == [temp]


# ---- tiles and ensembles


def test_tiles_are_a_field_like_any_other(run, few, hazelnut, tmp_path):
    out = tmp_path / "tiled.patchcore"
    tiles = ("--set=tile=64", "--set=tile_stride=48")
    assert run("fit", few, "-o", out, *SMALL, *tiles).exit_code == 0
    loaded = Detector.load(out)
    assert loaded.recipe.tiles == ((64, 64), (48, 48))
    again = Detector(loaded.recipe).fit(few)
    image = hazelnut / "test/colour/00.jpg"
    (row,) = lines(run("predict", out, image, "--json").stdout)
    assert row["score"] == pytest.approx(again.predict(image).score, rel=1e-5)
    done = run("fit", "--force", few, "-o", out, *SMALL, "--set=tile=100")
    assert done.exit_code == 2
    assert "tile is 100; with these taps it must be a multiple of 16" in done.stderr


def test_several_recipes_make_an_ensemble_in_one_file(run, few, hazelnut, tmp_path):
    out, mine = tmp_path / "two.patchcore", tmp_path / "mine.json"
    mine.write_text(json.dumps({"base": "fast", "scaling": "none", "seed": 5}))
    done = run(
        "fit",
        few,
        "-o",
        out,
        "--recipe",
        "fast",
        "--recipe",
        mine,
        "--set=size=96",
        "--set=false_reject_rate=0.2",
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    recipe = Detector.load(out).recipe
    assert [part.size for part in recipe.each] == [96, 96]
    assert [part.scaling for part in recipe.each] == ["taps", "none"]
    assert (recipe.seed, recipe.false_reject_rate) == (5, 0.2)
    (row,) = lines(done.stdout)
    (header,) = lines(run("info", out, "--json").stdout)
    assert row["bank_rows"] == sum(member["bank"]["rows"] for member in header["members"])
    assert header["members"][1]["search"].startswith("exact")
    assert header["weights_included"] is True
    shown = run("info", out).stdout
    for expected in ("recipe of member 2", "unit of scores", "recipe of all members", "patches of 272 values"):
        assert expected in shown
    assert run("predict", out, hazelnut / "test/colour/00.jpg").exit_code == 0
    assert run("evaluate", out, hazelnut).exit_code == 0


def test_an_ensemble_may_be_a_recipe_file(run, few, tmp_path):
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({"members": ["fast", {"base": "fast", "size": 96}], "seed": 2}))
    assert run("fit", few, "-o", tmp_path / "two.patchcore", "--recipe", mine, "--seed", 4).exit_code == 0
    assert [part.seed for part in Detector.load(tmp_path / "two.patchcore").recipe.each] == [4, 4]


def test_recipes_that_cannot_be_joined_say_why(run, few, tmp_path):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text('{"seed": 1}')
    two.write_text('{"seed": 2}')
    done = run("fit", "--force", few, "-o", tmp_path / "two.patchcore", "--recipe", one, "--recipe", two)
    assert done.exit_code == 2
    assert "member 2 has seed=2, and the whole 1" in done.stderr


def test_the_loader_of_faiss_is_not_heard(run_process, few, tmp_path):
    pytest.importorskip("faiss")
    done = run_process("fit", few, "-o", tmp_path / "m", *SMALL, "--set", "search=ivf_pq")
    assert done.returncode == 2
    assert "search='ivf_pq' got a bank of" in done.stderr  # so it has been loaded
    assert "Loading" not in done.stderr
    assert "Could not load" not in done.stderr


def test_neither_order_locale_place_nor_environment_change_the_file(run, run_process, hazelnut, tmp_path, monkeypatch):
    images = sorted((hazelnut / "train/good").iterdir())[:4]
    for folder, order in (("one", images), ("two", images[::-1])):
        (tmp_path / folder / "good").mkdir(parents=True)
        for image in order:
            shutil.copy(image, tmp_path / folder / "good")
    small = ("--set", "size=64", "--threads", 1)
    assert run("fit", tmp_path / "one/good", "-o", tmp_path / "a", *small).exit_code == 0
    for name, value in {
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "7",
        "TMPDIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    done = run_process("fit", "good", "-o", "../b", *small, cwd=tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_size_beyond_all_memory_is_refused_before_the_work(run, hazelnut, tmp_path, monkeypatch):
    monkeypatch.setattr("patchcore.detector.Detector.fit", lambda *_, **__: pytest.fail("the work had begun"))
    for change in ("size=99999999", "size=512.5", "patch_size=99999999", "bins=99999999999"):
        done = run("fit", hazelnut / "train/good", "-o", tmp_path / "m", "--set", change)
        assert done.exit_code == 2, (change, done.stderr)
        assert change.split("=")[0] in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_region_of_interest_from_a_file_and_its_verdicts_in_json(run, few, hazelnut, tmp_path):
    file = tmp_path / "areas.json"
    area = {"include": [[[0.2, 0.2], [0.8, 0.2], [0.8, 0.5], [0.2, 0.5]]]}
    rest = {"name": "lower", "include": [[[0.2, 0.5], [0.8, 0.5], [0.8, 0.8], [0.2, 0.8]]]}
    file.write_text(json.dumps({"areas": [{"name": "upper", **area}, rest]}), "utf-8")
    model = tmp_path / "m.patchcore"
    done = run("fit", few, "-o", model, *SMALL, "--roi", file, "--set", "registration=shift")
    assert done.exit_code == 0, done.stderr
    (row,) = lines(run("predict", model, hazelnut / "test/colour/00.jpg", "--json", "-o", tmp_path / "out").stdout)
    with (tmp_path / "out/results.csv").open(encoding="utf-8-sig", newline="") as table:
        (cells,) = csv.DictReader(table)
    assert {name: json.loads(cells[name]) for name in ("areas", "registration")} == {
        name: row[name] for name in ("areas", "registration")
    }
    assert [one["name"] for one in row["areas"]] == ["upper", "lower"]
    assert set(row["areas"][0]) == {"name", "score", "threshold", "decision"}
    assert set(row["registration"]) == {"shift", "angle", "residual", "found"}
    assert row["reason"] == (None if row["registration"]["found"] else "part not found")
    told = run("info", model).stdout
    assert "thresholds of areas" in told
    assert "shift; a part is found up to a residual of" in told
    done = run("fit", few, "-o", model, "--force", *SMALL, "--roi", tmp_path / "none.json")
    assert done.exit_code == 2
    assert "none.json" in done.stderr
