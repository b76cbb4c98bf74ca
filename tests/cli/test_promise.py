"""`patchcore plan` and `patchcore set`, and the options of `fit` that promise."""

import json

import pytest
from cli_helpers import lines

from patchcore import Detector
from patchcore.changes.history import content


def test_plan_says_what_a_rate_needs(run, model_file, detector):
    n = len(detector.fitted.calibration.scores)
    done = run("plan", model_file, "--false-reject", "1%", "--confidence", "95%")
    assert done.exit_code == 0
    assert "a false-reject rate of 0.01 with 0.95 confidence needs 299 good parts." in done.stdout
    assert f"was calibrated with {n}: {299 - n} more are needed." in done.stdout
    (found,) = lines(run("plan", model_file, "--false-reject", "0.5", "--json").stdout)
    assert found["needed"] == 1
    assert found["missing"] == 0
    assert found["lowest_rate"] == pytest.approx(1 / (n + 1))
    assert found["threshold"] == pytest.approx(detector.fitted.calibration.at_rate(0.5).threshold)
    (own,) = lines(run("plan", model_file, "--json").stdout)
    assert own["false_reject_rate"] == detector.recipe.false_reject_rate
    assert (own["needed"], own["threshold"]) == (19, None)


@pytest.mark.parametrize("rate", ["0", "100%", "1.5", "much", "-1%", "1e-310"])
def test_a_share_is_between_nothing_and_all(run, model_file, rate):
    done = run("plan", model_file, f"--false-reject={rate}")
    assert done.exit_code == 2
    assert "is no share between 0 and 1; expected for example 0.01 or 1%." in done.stderr


def test_set_writes_a_new_file_with_its_history(run, model_file, tmp_path, hazelnut):
    new = tmp_path / "new.patchcore"
    (told,) = lines(run("set", model_file, "--false-reject", "40%", "-o", new, "--json").stdout)
    before, after = Detector.load(model_file), Detector.load(new)
    assert after.fitted.calibration == before.fitted.calibration.at_rate(0.4)
    assert told["threshold"] == after.fitted.calibration.threshold < before.fitted.calibration.threshold
    assert after.recipe == before.recipe.replace(false_reject_rate=0.4)
    image = hazelnut / "test/colour/00.jpg"
    assert after.predict(image).score == before.predict(image).score
    (old,), (info,) = (lines(run("info", path, "--json").stdout) for path in (model_file, new))
    (change,) = info["history"]
    assert (change["before"], change["after"]) == (content(before.fitted), content(after.fitted))
    assert "history" not in old
    assert (change["from"]["false_reject_rate"], change["to"]["false_reject_rate"]) == (0.05, 0.4)
    assert info["sha256"] == told["sha256"]
    again = tmp_path / "again.patchcore"
    assert run("set", new, "--false-reject", "0.3", "--confidence", "0.5", "-o", again).exit_code == 0
    assert len(Detector.load(again).fitted.history) == 2
    assert "false-reject rate 0.4 -> 0.3" in run("info", again).stdout
    Detector.load(again).save(tmp_path / "saved.patchcore")
    assert Detector.load(tmp_path / "saved.patchcore").fitted.history == Detector.load(again).fitted.history


def test_set_asks_for_a_rate_and_never_replaces_a_file_unasked(run, model_file, tmp_path):
    done = run("set", model_file, "-o", tmp_path / "new.patchcore")
    assert done.exit_code == 2
    assert "Give what to set: --false-reject" in done.stderr
    assert not (tmp_path / "new.patchcore").exists()
    (tmp_path / "there").write_text("mine")
    assert run("set", model_file, "--false-reject", "1%", "-o", tmp_path / "there").exit_code != 0
    assert (tmp_path / "there").read_text() == "mine"


def test_set_replaces_a_model_by_its_next_version_which_undo_takes_back(run, model_file, tmp_path, detector):
    path = tmp_path / "nuts.patchcore"
    path.write_bytes(model_file.read_bytes())
    assert run("set", path, "--false-reject", "40%", "--who", "Ann", "--why", "fewer misses").exit_code == 0
    (entry,) = Detector.load(path).fitted.history
    assert (entry["who"], entry["why"]) == ("Ann", "fewer misses")
    assert run("undo", path).exit_code == 0
    assert Detector.load(path).fitted.calibration == detector.fitted.calibration


def test_set_takes_known_defects_and_says_how_many_more_it_needs(run, model_file, tmp_path, hazelnut, detector):
    new, image = tmp_path / "new.patchcore", hazelnut / "test/colour/00.jpg"
    done = run("set", model_file, "--defects", hazelnut, "--miss-rate", "10%", "-o", new)
    assert done.exit_code == 0, done.stderr
    assert "the smallest score of only 4 defective images" in done.stdout
    assert "you need 5 more defective parts" in done.stdout
    found = Detector.load(new)
    least = min(detector.predict(path).score for path in (hazelnut / "test/colour").iterdir()) * (1 - 1e-4)
    assert found.fitted.calibration.defects.threshold == pytest.approx(least)
    assert found.predict(image).lower_threshold == min(
        found.fitted.calibration.defects.threshold, detector.fitted.calibration.threshold
    )
    (info,) = lines(run("info", new, "--json").stdout)
    assert info["calibration"]["defects"]["miss_rate"] == 0.1
    assert info["calibration"]["interval"]["high"] is None
    assert "miss rate None -> 0.1" in run("info", new).stdout
    for options, said in (
        (("--miss-rate", "1%"), "--miss-rate and --defects belong together"),
        (("--defects", hazelnut / "train", "--miss-rate", "0.1"), "holds no defective images"),
    ):
        done = run("set", model_file, *options, "-o", tmp_path / "no.patchcore")
        assert done.exit_code != 0
        assert said in done.stderr
        assert not (tmp_path / "no.patchcore").exists()


def test_a_band_around_the_threshold_is_unsure(run, model_file, tmp_path, hazelnut, detector):
    new = tmp_path / "new.patchcore"
    (told,) = lines(run("set", model_file, "--false-reject", "30%", "--unsure", "80%", "-o", new, "--json").stdout)
    calibration = detector.fitted.calibration.at_rate(0.3).with_unsure(0.8)
    assert (told["lower_threshold"], told["threshold"]) == (calibration.lower_threshold, calibration.threshold)
    assert told["lower_threshold"] < told["threshold"]
    found = Detector.load(new)
    assert found.recipe.unsure == 0.8
    result = found.predict(hazelnut / "test/colour/00.jpg")
    assert (result.threshold, result.lower_threshold) == (calibration.threshold, calibration.lower_threshold)


def test_info_names_the_images_that_decide(run, model_file, detector):
    done = run("info", model_file)
    first = detector.fitted.calibration.deciding()[0]
    assert f"{first.name} {first.score:.6g} (without it {first.threshold_without:.6g})" in done.stdout
    assert "measured, not proved" in done.stdout


def test_fit_promises_what_it_is_asked_for(run, hazelnut, tmp_path):
    path = tmp_path / "m.patchcore"
    options = ("--set", "size=64", "--false-reject", "20%", "--confidence", "0.7")
    done = run("fit", hazelnut / "train/good", "-o", path, *options, "--set", "calibration=held_out")
    assert done.exit_code == 0, done.stderr
    fitted = Detector.load(path).fitted
    assert (fitted.recipe.false_reject_rate, fitted.recipe.confidence) == (0.2, 0.7)
    assert not fitted.calibration.crossed
    assert "of only 2 held-out good images" in done.stderr
    assert "with 0.7 confidence" in done.stderr


def test_parts_are_named_by_what_matches_in_a_path(run, hazelnut, tmp_path):
    path = tmp_path / "m.patchcore"
    names = [one.name for one in sorted((hazelnut / "train/good").iterdir())]
    done = run("fit", hazelnut / "train/good", "-o", path, "--set", "size=64", "--part", r"([0-9])\.[a-z]+$")
    assert done.exit_code == 0, done.stderr
    calibration = Detector.load(path).fitted.calibration
    assert calibration.parts == () or len(calibration.parts) == len(names)
    done = run("fit", hazelnut / "train/good", "-o", path, "--set", "size=64", "--part", r"[0-9]", "--force")
    assert done.exit_code == 0, done.stderr
    calibration = Detector.load(path).fitted.calibration
    assert calibration.units == len({name[0] for name in names})
    for pattern, said in (("(", "is no regular expression"), ("zzz", "matches nothing in this path")):
        done = run("fit", hazelnut / "train/good", "-o", tmp_path / "no.patchcore", "--part", pattern)
        assert done.exit_code in (1, 2)
        assert said in done.stderr
        assert not (tmp_path / "no.patchcore").exists()


def test_predict_gives_p_values(run, model_file, hazelnut, detector):
    done = run("predict", model_file, hazelnut / "test/colour/00.jpg", "--json")
    (row,) = map(json.loads, done.stdout.splitlines())
    assert row["p_value"] == pytest.approx(detector.predict(hazelnut / "test/colour/00.jpg").p_value)
