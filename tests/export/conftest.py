from pathlib import Path

import pytest
from export_helpers import TAPS, Deep, fitted, images, labelled

from patchcore import Detector, Recipe, export


@pytest.fixture(scope="session")
def folder(small: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("patchcore_runtime")
    path = tmp_path_factory.mktemp("onnx") / "exported"
    export.save(small, path, images=images(6, (50, 60), seed=5))
    return path


@pytest.fixture(scope="session")
def deep() -> Detector:
    """Of 30 images, the bank remembers 24."""
    return Detector(Recipe(size=32, taps=TAPS, ratio=0.3, min_rows=1), backbone=Deep()).fit(images(30))


@pytest.fixture(scope="session")
def int8(deep: Detector, tmp_path_factory: pytest.TempPathFactory) -> export.Saved:
    for name in ("onnxscript", "onnxruntime", "nncf", "patchcore_runtime"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("int8") / "exported"
    return export.save(
        deep, folder, precision="int8", images=images(30), test=labelled(), max_auroc_drop=1, max_threshold_shift=1
    )


@pytest.fixture(scope="session")
def small() -> Detector:
    return fitted()
