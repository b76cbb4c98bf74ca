"""Exported folders, signed, and the keys: made once for all tests of what runs them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from patchcore import Detector, Recipe, export


@pytest.fixture(scope="session")
def detector(hazelnut: Path, small_recipe: Recipe) -> Detector:
    """With a bank that is large enough to be searched by bounds, in every engine."""
    return Detector(small_recipe.replace(ratio=0.5)).fit(hazelnut / "train" / "good")


@pytest.fixture(scope="session")
def keys(once: Callable[..., Path]) -> Path:
    """A folder with private.pem and public.pem, and the public half of another pair in other.pem."""

    def fill(folder: Path) -> None:
        key, other = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        (folder / "private.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        for name, one in (("public.pem", key), ("other.pem", other)):
            public = one.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
            (folder / name).write_bytes(public)

    return once("keys", fill)


@pytest.fixture(scope="session")
def exported_onnx(detector: Detector, keys: Path, once: Callable[..., Path]) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    return once("nuts-onnx", lambda place: export.save(detector, place / "onnx", sign=keys / "private.pem")) / "onnx"


@pytest.fixture(scope="session")
def exported_openvino(detector: Detector, keys: Path, once: Callable[..., Path]) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    options = {"format": "openvino", "sign": keys / "private.pem"}
    return once("nuts-openvino", lambda place: export.save(detector, place / "openvino", **options)) / "openvino"


@pytest.fixture
def folder(exported_onnx: Path, tmp_path: Path) -> Path:
    """A copy of an exported folder, to be spoiled."""
    return shutil.copytree(exported_onnx, tmp_path / "exported")
