"""What tests share: real images, a recipe that is quick to fit, and a detector fitted with it."""

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
    return Recipe(backbone="efficientnet_lite0", taps=(8, 16), size=128, resize="stretch", crop=None, ratio=0.05)


@pytest.fixture(scope="session")
def detector(hazelnut: Path, small_recipe: Recipe) -> Detector:
    return Detector(small_recipe).fit(hazelnut / "train" / "good")


@pytest.fixture(scope="session")
def model_file(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "nuts.patchcore"
    detector.save(path)
    return path
