"""`patchcore sign`, `fit --sign` and `--require-signature`."""

import json
import shutil

import pytest
from cli_helpers import SMALL
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519


@pytest.fixture
def pair(tmp_path):
    """The files of a private and a public key."""
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def model(model_file, tmp_path):
    return shutil.copy(model_file, tmp_path / "nuts.patchcore")


def commands(model, hazelnut, folder):
    """Every command that reads a model."""
    return [
        ("predict", model, hazelnut / "test/colour/00.jpg"),
        ("evaluate", model, hazelnut),
        ("report", model, hazelnut, "-o", folder / "r.html", "--limit", 0),
        ("info", model),
    ]


def test_a_model_is_signed_when_it_is_fitted(run, hazelnut, pair, tmp_path):
    private, public = pair
    plain, path = tmp_path / "plain", tmp_path / "m"
    assert run("fit", hazelnut, "-o", plain, *SMALL).exit_code == 0
    done = run("fit", hazelnut, "-o", path, *SMALL, "--sign", private)
    assert done.exit_code == 0
    assert f"Signature: {path}.sig" in done.stdout
    assert path.read_bytes() == plain.read_bytes()  # a signed file is the same file
    assert run("info", path, "--require-signature", public).exit_code == 0


def test_a_key_that_cannot_be_used_is_said_before_the_work(run, hazelnut, pair, tmp_path):
    done = run("fit", hazelnut, "-o", tmp_path / "m", "--sign", pair[1])
    assert done.exit_code == 2
    assert "a public key; expected an Ed25519 private key" in done.stderr
    assert "Looking" not in done.stderr
    assert not (tmp_path / "m").exists()


def test_every_command_that_reads_a_model_takes_a_signed_one(run, model, hazelnut, pair, tmp_path):
    private, public = pair
    done = run("sign", model, "--key", private)
    assert done.exit_code == 0
    assert done.stdout == f"Signature: {model}.sig\n"
    for command in commands(model, hazelnut, tmp_path):
        assert run(*command, "--require-signature", public).exit_code == 0, command


def test_every_command_that_reads_a_model_refuses_one_that_is_not_signed_or_changed(
    run, model, hazelnut, pair, tmp_path
):
    private, public = pair
    for command in [*commands(model, hazelnut, tmp_path), ("export", model, "-o", tmp_path / "exported")]:
        done = run(*command, "--require-signature", public)
        assert done.exit_code == 1
        assert "not signed: there is no nuts.patchcore.sig beside it" in done.stderr
        assert done.stdout == ""
    run("sign", model, "--key", private)
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    for command in commands(model, hazelnut, tmp_path):
        done = run(*command, "--require-signature", public)
        assert done.exit_code == 1
        assert "nuts.patchcore: changed after signing" in done.stderr
    assert not (tmp_path / "r.html").exists()


def test_what_is_no_detector_is_not_signed(run, model, pair, tmp_path):
    foreign = tmp_path / "letter.txt"
    foreign.write_text("Dear")
    damaged = model.with_name("damaged")
    damaged.write_bytes(model.read_bytes()[:-1])
    for path in (foreign, damaged):
        assert run("sign", path, "--key", pair[0]).exit_code == 1
        assert not path.with_name(f"{path.name}.sig").exists()


def test_a_folder_is_signed_as_a_whole(run, pair, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    done = run("sign", folder, "--key", pair[0])
    assert done.exit_code == 1
    assert "Expected a folder that `patchcore export` has written" in done.stderr
    (folder / "manifest.json").write_text("{}")
    assert run("sign", folder, "--key", pair[0]).exit_code == 0
    assert set(json.loads((folder / "signature.json").read_text())["files"]) == {"model.onnx", "manifest.json"}
