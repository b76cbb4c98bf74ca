"""A disk that is full: an error that names the file, and nothing half-written."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from patchcore.errors import StoreError
from patchcore.files import appearing
from patchcore.memory.patches import PatchStore
from patchcore.model import store


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def as_bytes(target, data):
    with appearing(target) as temporary:
        temporary.write_bytes(data.tobytes())


def by_numpy(target, data):
    with appearing(target) as temporary, temporary.open("wb") as file:
        np.save(file, data)


def by_safetensors(target, data):
    store.write(target, {"a": torch.from_numpy(data)}, {"recipe": {}})


@pytest.mark.parametrize("write", [as_bytes, by_numpy, by_safetensors])
def test_the_old_file_stays_and_nothing_else(small_disk, write):
    target = small_disk / "file"
    target.write_text("old")
    said = rf"^{target}: cannot be written \(No space left on device\)\. .* MB were free"
    with pytest.raises(StoreError, match=said):
        write(target, np.zeros(1 << 20, np.uint8))
    assert names(small_disk) == ["file"]
    assert target.read_text() == "old"


def test_a_model_s_error_says_how_much_is_needed(small_disk, detector):
    with pytest.raises(
        StoreError, match=r"m\.patchcore: cannot be written .*\. \d+\.\d MB are needed, 0\.\d MB were free"
    ):
        detector.save(small_disk / "m.patchcore")
    assert names(small_disk) == []


def test_an_error_of_another_kind_stays_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError), appearing(tmp_path / "a"):
        _ = 1 / 0
    with pytest.raises(FileNotFoundError), appearing(tmp_path / "a"):
        (tmp_path / "none").read_text()
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_limit_of_the_process_is_told_like_a_full_disk(tmp_path):
    code = (
        "import resource, sys, torch\nfrom patchcore.model import store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    store.write(sys.argv[1], {'a': torch.zeros(100_000)}, {})\n"
        "except store.StoreError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "m"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path}/m: cannot be written (File too large). 0.4 MB are needed")
    assert names(tmp_path) == []


def test_patches_that_find_no_room_are_an_error_and_end_no_process(small_disk, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    patches = PatchStore(limit=0)
    patches.append((torch.zeros(100, 8), (10, 10)))
    with pytest.raises(StoreError, match=rf"{small_disk} \(TMPDIR\).*: cannot be written \(No space left .* needed"):
        patches.empty(100_000, 8, torch.float16)  # mapped: the first that writes there would be ended by the system
    assert patches.empty(100, 8, torch.float16).fill_(1).sum() == 800
    with pytest.raises(StoreError, match=rf"{small_disk} \(TMPDIR\).*: cannot be written \(No space left"):
        patches.append((torch.zeros(100_000, 8), (1000, 100)))
    assert names(small_disk) == []
