"""Exported folders, signed, and the keys: made once for all tests of what runs them."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from patchcore import Detector, Recipe
from patchcore.cli import main


@pytest.fixture(scope="session")
def detector(hazelnut: Path, small_recipe: Recipe) -> Detector:
    """With a bank that is large enough to be searched by bounds, in every engine."""
    return Detector(small_recipe.replace(ratio=0.5)).fit(hazelnut / "train" / "good")


@pytest.fixture(scope="session")
def model_file(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "nuts.patchcore"
    detector.save(path)
    return path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with private.pem and public.pem, and the public half of another pair in other.pem."""
    folder = tmp_path_factory.mktemp("keys")
    key, other = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "private.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    for name, one in (("public.pem", key), ("other.pem", other)):
        public = one.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        (folder / name).write_bytes(public)
    return folder


def _export(model: Path, folder: Path, keys: Path, format: str) -> Path:
    done = CliRunner().invoke(
        main, ["export", str(model), "-o", str(folder), "--format", format, "--sign", str(keys / "private.pem")]
    )
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="session")
def exported_onnx(model_file: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    return _export(model_file, tmp_path_factory.mktemp("export") / "onnx", keys, "onnx")


@pytest.fixture(scope="session")
def exported_openvino(model_file: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    return _export(model_file, tmp_path_factory.mktemp("export") / "openvino", keys, "openvino")


@pytest.fixture
def folder(exported_onnx: Path, tmp_path: Path) -> Path:
    """A copy of an exported folder, to be spoiled."""
    return shutil.copytree(exported_onnx, tmp_path / "exported")
