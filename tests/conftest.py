"""What tests share: real images, a recipe that is quick to fit, and a detector fitted with it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from patchcore import Detector, Recipe

settings.register_profile("untimed", deadline=None)  # a test says what is right, not how long it takes
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def hazelnut() -> Path:
    """A few real photographs in the MVTec AD layout (tests/images/README.md)."""
    return Path(__file__).parent / "images" / "hazelnut"


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """A second to fit; every field that a test here relies on is set."""
    fields = {"taps": (8, 16), "size": 128, "resize": "stretch", "crop": None, "ratio": 0.05, "min_rows": 1}
    return Recipe(backbone="efficientnet_lite0", **fields)


@pytest.fixture(scope="session")
def detector(hazelnut: Path, small_recipe: Recipe) -> Detector:
    return Detector(small_recipe).fit(hazelnut / "train" / "good")


@pytest.fixture(scope="session")
def model_file(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "nuts.patchcore"
    detector.save(path)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB. Full is only a real one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        failed = subprocess.run(command, capture_output=True, check=False).returncode
    except FileNotFoundError:
        failed = 1
    if failed:
        pytest.skip("only root of a Linux can mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
