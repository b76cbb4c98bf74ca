"""Running the command line, in this process or as one of its own."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from patchcore.cli import main


@pytest.fixture
def run() -> Iterator[Callable[..., Result]]:
    """`patchcore ARGUMENTS` in this process: exit_code, stdout, stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def invoke(*arguments: object, env: dict[str, str] | None = None) -> Result:
        # Wide enough that no table folds what is looked for.
        return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="patchcore",
                                  env={"COLUMNS": "250", **(env or {})})  # fmt: skip

    yield invoke
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def run_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m patchcore ARGUMENTS` in a process of its own: returncode, stdout, stderr."""

    def execute(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "patchcore", *map(str, arguments)]
        environment = {**os.environ, "PYTHONUTF8": "1"}
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment,
                              timeout=300, check=False, **options)  # fmt: skip

    return execute


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
