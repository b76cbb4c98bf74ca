"""Running the command line as a process of its own, and what it is given."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from patchcore import Detector, Recipe


@pytest.fixture
def run_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m patchcore ARGUMENTS` in a process of its own: returncode, stdout, stderr."""

    def execute(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "patchcore", *map(str, arguments)]
        environment = {**os.environ, "PYTHONUTF8": "1"}
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment,
                              timeout=300, check=False, **options)  # fmt: skip

    return execute


@pytest.fixture(scope="session")
def noise_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that is quick to export."""
    images = list(np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8))
    recipe = Recipe(backbone="resnet18", weights="random", taps=("layer1",), size=32, ratio=0.05)
    path = tmp_path_factory.mktemp("noise") / "noise.patchcore"
    Detector(recipe).fit(images).save(path)
    return path


@pytest.fixture
def parts(hazelnut: Path, tmp_path: Path) -> Path:
    """A folder of images to predict: three good ones, a defect, and three that cannot be read."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("00.jpg", "02.jpg", "03.jpg"):
        shutil.copy(hazelnut / "train/good" / name, folder / f"good{name}")
    shutil.copy(hazelnut / "test/colour/00.jpg", folder / "scratched.jpg")
    (folder / "bad_empty.png").touch()
    (folder / "bad_text.png").write_text("this is no image")
    (folder / "bad_cut.jpg").write_bytes((hazelnut / "train/good/00.jpg").read_bytes()[:20_000])
    return folder
