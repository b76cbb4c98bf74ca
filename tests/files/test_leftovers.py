"""What killed processes leave in a folder, and who removes it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from patchcore.files import appearing, targets, tidy_up

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and locks are POSIX's")
CODE = """
import sys, time
from patchcore.files import appearing
with appearing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    (temporary.parent / "of a library").write_text("half")
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is writing a file of that name, and waits."""
    begun = []

    def begin(name):
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, tmp_path / name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        begun.append(process)
        process.stdout.readline()
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def listing(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("how", ["the next file", "the check of a file", "the check of a folder"])
def test_the_next_to_write_removes_what_a_killed_process_has_left(tmp_path, writer, how):
    (tmp_path / "a").write_text("old")
    process = writer("a")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(listing(tmp_path)) == 2
    if how == "the next file":
        with appearing(tmp_path / "b"):
            pass
        (tmp_path / "b").unlink()
    elif how == "the check of a file":
        targets.file(tmp_path / "b")
    else:
        targets.folder(tmp_path, ["b"])
    assert listing(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_what_a_living_process_writes_is_left_alone(tmp_path, writer):
    process = writer("a")
    with appearing(tmp_path / "b") as temporary:
        temporary.write_text("mine")
        tidy_up(tmp_path)
    assert len(listing(tmp_path)) == 2
    process.communicate("")
    assert listing(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "half"
    assert (tmp_path / "b").read_text() == "mine"


def test_what_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lock").write_text("precious")
    (tmp_path / ".patchcore-1.tmp").symlink_to("elsewhere")
    (tmp_path / ".patchcore-2.tmp").write_text("a file")
    (tmp_path / ".patchcore-3.tmp").mkdir()  # about to be locked
    (tmp_path / "notes.tmp").mkdir()
    before = listing(tmp_path)
    tidy_up(tmp_path)
    assert listing(tmp_path) == before
    assert (tmp_path / "elsewhere" / "lock").read_text() == "precious"
    os.utime(tmp_path / ".patchcore-3.tmp", (0, 0))
    tidy_up(tmp_path)
    assert ".patchcore-3.tmp" not in listing(tmp_path)


def test_many_at_once_do_not_take_each_other_s_files(tmp_path):
    code = (
        "import sys\nfrom patchcore.files import appearing\n"
        "for number in range(60):\n"
        "    with appearing(f'{sys.argv[1]}/{sys.argv[2]}{number % 7}') as temporary:\n"
        "        temporary.write_text('whole')\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, tmp_path, name]) for name in ("a", "b", "a")]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert listing(tmp_path) == sorted(f"{name}{number}" for name in "ab" for number in range(7))
    assert {path.read_text() for path in Path(tmp_path).iterdir()} == {"whole"}
