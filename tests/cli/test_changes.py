"""Teaching on the command line: the file becomes its next version, and goes back."""

from pathlib import Path

import pytest
from cli_helpers import lines

from patchcore import Detector

cryptography = pytest.importorskip("cryptography")


@pytest.fixture
def model(model_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "m.patchcore"
    path.write_bytes(model_file.read_bytes())
    return path


@pytest.fixture
def defect(hazelnut: Path) -> Path:
    return hazelnut / "test" / "colour" / "00.jpg"


def decision(run, model: Path, image: Path) -> str:
    (row,) = lines(run("predict", model, image, "--json").stdout)
    return row["decision"]


def test_a_taught_image_passes_until_it_is_undone(run, model, defect):
    before = Detector.load(model).fitted
    assert decision(run, model, defect) == "fail"
    done = run("teach", model, defect, "--who", "ann", "--why", "only dye", "--json")
    (entry,) = lines(done.stdout)
    assert (entry["version"], entry["who"], entry["why"]) == (2, "ann", "only dye")
    assert entry["sha256"] in model.read_bytes().decode("latin1")
    assert decision(run, model, defect) == "pass"
    assert run("undo", model).exit_code == 0
    assert decision(run, model, defect) == "fail"
    after = Detector.load(model).fitted
    assert after.members[0].bank.rows.equal(before.members[0].bank.rows)


def test_history_says_who_and_why(run, model, defect):
    assert "as it was fitted" in run("history", model).stdout
    run("teach", model, defect, "--who", "ann", "--why", "only dye")
    run("forget", model, "01.jpg", "--who", "bob")
    text = run("history", model).stdout
    assert "by ann" in text
    assert "(only dye)" in text
    assert "forget  by bob  01.jpg" in text
    assert [one["what"] for one in lines(run("history", model, "--json").stdout)] == ["teach", "forget"]


def test_another_file_may_be_written(run, model, defect, tmp_path):
    before = model.read_bytes()
    assert run("teach", model, defect, "-o", tmp_path / "b.patchcore").exit_code == 0
    assert model.read_bytes() == before
    assert decision(run, tmp_path / "b.patchcore", defect) == "pass"


def test_compacting_makes_the_file_smaller_and_ends_undo(run, model):
    run("forget", model, "01.jpg")
    size = model.stat().st_size
    assert run("compact", model).exit_code == 0
    assert model.stat().st_size < size
    done = run("undo", model)
    assert done.exit_code == 1
    assert "`patchcore compact` has dropped" in done.stderr
    assert "holds nothing of earlier versions" in run("compact", model).stderr


def test_a_signature_does_not_outlive_the_version_it_was_for(run, model, defect, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private = Ed25519PrivateKey.generate()
    (tmp_path / "key").write_bytes(private.private_bytes(*kinds))
    public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "pub").write_bytes(private.public_key().public_bytes(*public))
    run("sign", model, "--key", tmp_path / "key")
    done = run("teach", model, defect)
    assert "Sign this one" in done.stderr
    assert not model.with_name("m.patchcore.sig").exists()
    run("sign", model, "--key", tmp_path / "key")
    run("compact", model)
    assert not model.with_name("m.patchcore.sig").exists()
    run("forget", model, "01.jpg", "--sign", tmp_path / "key")
    assert run("history", model, "--require-signature", tmp_path / "pub").exit_code == 0


def test_fit_update_teaches_what_is_new(run, model, hazelnut, tmp_path):
    done = run("fit", hazelnut / "train" / "good", "--update", model)
    assert "known, and pass: there is nothing to learn" in done.stderr
    new = tmp_path / "new"
    new.mkdir()
    (new / "a.jpg").write_bytes((hazelnut / "test" / "colour" / "00.jpg").read_bytes())
    done = run("fit", new, "--update", model)
    assert "version 2. 1 image learned" in done.stdout
    assert Detector.load(model).fitted.images[-1] == "a.jpg"


def test_fit_update_takes_no_recipe(run, model, hazelnut):
    done = run("fit", hazelnut, "--update", model, "--set", "size=64")
    assert done.exit_code == 2
    assert "--update keeps the recipe and the thresholds" in done.stderr
    assert "Give the file to write: -o FILE" in run("fit", hazelnut).stderr


def test_diff_lists_the_verdicts_that_change(run, model, hazelnut, defect, tmp_path):
    run("teach", model, defect, "-o", tmp_path / "b.patchcore")
    done = run("diff", model, tmp_path / "b.patchcore", hazelnut, "-o", tmp_path / "sheet.png")
    assert done.exit_code == 0, done.stderr
    assert "1 verdict of" in done.stdout
    assert "colour/00.jpg: fail -> pass" in done.stdout
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    first, *rest = lines(run("diff", model, tmp_path / "b.patchcore", hazelnut, "--json").stdout)
    assert first["version"] == [1, 2]
    assert first["images"]["added"] == ["00.jpg (version 2)"]
    changed = [row for row in rest if row["decision"][0] != row["decision"][1]]
    assert [(row["kind"], row["decision"]) for row in changed] == [("colour", ["fail", "pass"])]


def test_diff_of_a_model_with_itself_is_empty(run, model):
    done = run("diff", model, model)
    assert "->" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["undo", "{model}", "7"], "no version 7"),
        (["forget", "{model}", "zzz.jpg"], "no training image is called so"),
        (["teach", "{model}", "nowhere.png"], "does not exist"),
        (["diff", "{model}", "{model}", "-o", "sheet.png"], "give DATA too"),
    ],
)
def test_wrong_usage(run, model, arguments, said):
    done = run(*(one.format(model=model) for one in arguments))
    assert done.exit_code == 2
    assert said in done.stderr
