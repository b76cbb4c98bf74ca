import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from export_helpers import TAPS, Deep, fitted, images, labelled

from patchcore import Detector, Recipe, export


@pytest.fixture(scope="session")
def folder(small: Detector, once: Callable[..., Path]) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("patchcore_runtime")
    given = images(6, (50, 60), seed=5)
    return once("small-onnx", lambda place: export.save(small, place / "exported", images=given)) / "exported"


@pytest.fixture(scope="session")
def deep() -> Detector:
    """Of 30 images, the bank remembers 24."""
    recipe = Recipe(size=32, taps=TAPS, ratio=0.3, min_rows=1, calibration="held_out", gate="none")
    return Detector(recipe, backbone=Deep()).fit(images(30))


@pytest.fixture(scope="session")
def int8(deep: Detector, once: Callable[..., Path]) -> export.Saved:
    for name in ("onnxscript", "onnxruntime", "nncf", "patchcore_runtime"):
        pytest.importorskip(name)

    def fill(place: Path) -> None:
        measured = {"test": labelled(), "max_auroc_drop": 1, "max_threshold_shift": 1}
        saved = export.save(deep, place / "exported", precision="int8", images=images(30), **measured)
        (place / "saved").write_bytes(pickle.dumps(saved))  # for the other process

    place = once("deep-int8", fill)
    return replace(pickle.loads((place / "saved").read_bytes()), folder=place / "exported")


@pytest.fixture(scope="session")
def small() -> Detector:
    return fitted()
