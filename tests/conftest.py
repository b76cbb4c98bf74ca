"""What tests share: real images, a recipe that is quick to fit, a detector fitted with it, and the commands."""

import json
import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from hypothesis import settings

from patchcore import Detector, Recipe
from patchcore.cli import main
from patchcore.cli.outputs import adapter

settings.register_profile("untimed", deadline=None)  # a test says what is right, not how long it takes
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder that is filled once in a run, also where several processes share the tests. Nobody writes into it."""
    base = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # a process of pytest-xdist, beside the others
        base = base.parent
    (base / "once").mkdir(exist_ok=True)

    def get(name: str, fill: Callable[[Path], object]) -> Path:
        place = base / "once" / name
        with FileLock(f"{place}.lock"):
            if not place.is_dir():
                unfinished = place.with_name(f"{name}.unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                fill(unfinished)
                unfinished.rename(place)
        return place

    return get


@pytest.fixture
def run() -> Iterator[Callable[..., Result]]:
    """`patchcore ARGUMENTS` in this process: exit_code, stdout, stderr. A command has the log to itself; not a test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def invoke(*arguments: object, env: dict[str, str] | None = None) -> Result:
        words = [str(one) for one in arguments]
        # Wide enough that no table folds what is looked for.
        done = CliRunner().invoke(main, words, prog_name="patchcore", env={"COLUMNS": "250", **(env or {})})
        if done.stdout.startswith("{") and ("--json" in words or words[0] == "watch"):
            as_promised(words[0], done.stdout)
        return done

    yield invoke
    root.handlers[:], root.level = handlers, level


def as_promised(command: str, printed: str) -> None:
    """Every line of JSON that a command prints, in any test, is one that `patchcore schema` describes."""
    check = adapter(command)
    for text in printed.splitlines():
        check.validate_python(json.loads(text))


@pytest.fixture(scope="session")
def hazelnut() -> Path:
    """A few real photographs in the MVTec AD layout (tests/images/README.md)."""
    return Path(__file__).parent / "images" / "hazelnut"


@pytest.fixture(scope="session")
def category(hazelnut: Path) -> Callable[[Path], Path]:
    """Makes a category of 6 images to train on, and 2 good and 2 defective ones to test on."""

    def make(root: Path) -> Path:
        for part, count in (("train/good", 6), ("test/good", 2), ("test/colour", 2), ("ground_truth/colour", 2)):
            (root / part).mkdir(parents=True)
            for path in sorted((hazelnut / part).iterdir())[:count]:
                shutil.copy(path, root / part)
        return root

    return make


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """A second to fit; every field that a test here relies on is set."""
    fields = {
        "taps": (8, 16),
        "size": 128,
        "resize": "stretch",
        "crop": None,
        "ratio": 0.05,
        "min_rows": 1,
        "gate": "none",
    }
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
