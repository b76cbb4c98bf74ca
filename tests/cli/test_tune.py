"""`patchcore tune`."""

import json
import shutil

import pytest
from cli_helpers import SMALL, lines

from patchcore import Recipe

FEW = [*SMALL, "--folds=2"]


@pytest.fixture(scope="module")
def parts(hazelnut, tmp_path_factory):
    """The hazelnuts, with 6 good ones to learn from, and a folder of defects of their own."""
    folder = tmp_path_factory.mktemp("tune")
    shutil.copytree(hazelnut, folder / "nuts")
    for path in sorted((folder / "nuts/train/good").iterdir())[6:]:
        path.unlink()
    shutil.copytree(hazelnut / "test/colour", folder / "defects")
    return folder


def test_a_recipe_is_chosen_and_fit_takes_its_file(parts, run, tmp_path):
    output = tmp_path / "mine.json"
    options = ["--recipes=fast", "--set=top_share=0.01,0.05", *FEW, "-o", output, "--json"]
    done = run("tune", parts / "nuts", "--defects", parts / "defects", *options)
    assert done.exit_code == 0, done.stderr
    *recipes, choice = lines(done.stdout)
    assert [one["recipe"] for one in recipes] == ["fast top_share=0.01", "fast top_share=0.05"]
    for one in recipes:
        assert len(one["fold_auroc"]) == 2
        assert one["auroc_low"] <= one["auroc"] <= one["auroc_high"]
        assert one["limits_broken"] == []
        assert f"{one['auroc']:.4f}" in done.stderr
    (chosen,) = (one for one in recipes if one["chosen"])
    assert choice["chosen"] == chosen["recipe"]
    assert choice["why"] in done.stderr
    assert choice["supported"] is False  # 4 defects cannot bear anything out
    assert "The data cannot tell these apart" in choice["why"]
    assert (choice["good"], choice["parts"], choice["defective"], choice["folds"]) == (6, 6, 4, 2)
    assert not any("test split" in note for note in choice["notes"])
    written = json.loads(output.read_text("utf-8"))
    assert written == chosen["file"]
    assert written["base"] == chosen["recipe"].split()[0]
    share = float(chosen["recipe"].rpartition("=")[2])
    assert Recipe.read(output) == Recipe.named(written["base"]).set(*(o[6:] for o in SMALL)).replace(top_share=share)
    assert f"patchcore fit {parts / 'nuts'} -o model.patchcore --recipe {output}" in done.stderr
    fitted = run("fit", parts / "nuts", "-o", tmp_path / "model", "--recipe", output)
    assert fitted.exit_code == 0, fitted.stderr


def test_a_recipe_is_replaced_only_if_that_is_asked_for(parts, run, tmp_path):
    path = tmp_path / "r.json"
    path.write_text("mine")
    done = run("tune", parts / "nuts", "-o", path)
    assert done.exit_code == 2
    assert f"{path} already exists. Give another -o, or --force to replace it." in done.stderr
    assert path.read_text() == "mine"


def test_the_test_split_is_used_only_where_it_is_asked_for(parts, run, tmp_path):
    command = ["tune", "--force", parts / "nuts", "--recipes=default", *FEW, "-o", tmp_path / "r.json", "--json"]
    done = run(*command)
    assert done.exit_code == 0, done.stderr
    one, choice = lines(done.stdout)
    assert one["auroc"] is one["miss_rate"] is one["below_best_low"] is None
    assert "AUROC" not in done.stderr
    assert choice["defective"] == 0
    assert "Good images alone show what a recipe costs" in done.stderr

    done = run(*command, "--defects=test")
    assert done.exit_code == 0, done.stderr
    *_, choice = lines(done.stdout)
    assert choice["defective"] == 4
    assert any("no longer an independent test" in note for note in choice["notes"])
    assert f"Note: {choice['notes'][0]}" in done.stderr


def test_limits_that_nothing_keeps_leave_no_file(parts, run, tmp_path):
    options = ["--recipes=default", *FEW, "--max-ms=0.001", "-o", tmp_path / "r.json", "--json"]
    done = run("tune", parts / "nuts", *options)
    assert done.exit_code == 1
    one, choice = lines(done.stdout)
    assert one["limits_broken"][0].endswith("ms an image, more than 0.001")
    assert (choice["chosen"], choice["path"]) == (None, None)
    assert "No recipe is within the limits" in done.stderr
    assert "No file was written" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--defects=nowhere"], 2, "--defects is 'nowhere', but there is no such folder or table"),
        (["--folds=1"], 2, "1 is not in the range x>=2"),
        (["--folds=7"], 1, "6 good images of 6 parts for 7 folds"),
        (["--recipes=default,fats"], 2, "There is no recipe 'fats'. Did you mean 'fast'?"),
        (["--recipes=fast,fast"], 2, "There are two recipes 'fast'"),
        (["--set=sise=3,4"], 2, "There is no recipe field 'sise'. Did you mean 'size'?"),
        (["--set=size="], 2, "'size=' has an empty value"),
        (["--part=(x"], 2, "expected a regular expression"),
        (["--part=(x)"], 2, "matches nothing in train/good/00.jpg"),
        (["--tolerance=0"], 2, "0 is not in the range"),
        (["--max-ms=-1"], 2, "-1.0 is not in the range"),
        (["-o", "nowhere/r.json"], 2, "the folder nowhere does not exist. Create it first."),
        (["--device=gpu"], 2, "device is 'gpu'"),
        (["--recipes=default", "--set=taps=[3]"], 2, "The recipe 'default' cannot be used here"),
    ],
)
def test_what_is_wrong_is_said_and_no_file_is_written(parts, run, tmp_path, monkeypatch, options, code, said):
    monkeypatch.chdir(tmp_path)
    done = run("tune", parts / "nuts", *options)
    assert done.exit_code == code, done.stderr
    assert said in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_is_compared_is_not_written_over(parts, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.json").write_text('{"size": 128}')
    done = run("tune", parts / "nuts", "--recipes=default,recipe.json")
    assert done.exit_code == 2
    assert "recipe.json is one of --recipes, and would be overwritten" in " ".join(done.stderr.split())
    assert (tmp_path / "recipe.json").read_text() == '{"size": 128}'


def test_a_bad_image_is_named_before_the_work_or_left_out(parts, run, tmp_path):
    shutil.copytree(parts / "nuts/train/good", tmp_path / "good")
    (tmp_path / "good/bad.jpg").write_bytes(b"this is no image")
    command = ["tune", tmp_path / "good", "--recipes=default", *FEW, "-o", tmp_path / "r.json"]
    done = run(*command)
    assert done.exit_code == 1
    assert f"{tmp_path / 'good' / 'bad.jpg'}: not an image" in done.stderr
    assert "Cross-validating" not in done.stderr
    done = run(*command, "--skip-bad", "--json")
    assert done.exit_code == 0, done.stderr
    assert lines(done.stdout)[-1]["skipped"] == ["bad.jpg"]
    assert lines(done.stdout)[-1]["good"] == 6
