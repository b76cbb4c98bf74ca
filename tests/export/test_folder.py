"""Exported folders appear whole or not at all, and one at a time, whatever happens while they are written."""

import hashlib
import itertools
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from patchcore.errors import StoreError, UsageError
from patchcore.export import folder as folders
from patchcore.export.folder import appearing

pytest.importorskip("patchcore_runtime")
posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links and signals are POSIX's")


@pytest.fixture(params=[True, False], ids=["exchange", "two steps"])
def exchange(request, monkeypatch):
    """Whether the system can exchange two names in one step."""
    if not request.param:
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    return request.param


def fill(path, text="new"):
    with appearing(path) as temporary:
        write(temporary, text)


def write(folder, text):
    """What passes for an export: files that SHA256SUMS lists."""
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text(text)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  deep/file\n")


def stop(path, error):
    with appearing(path) as temporary:
        (temporary / "half").touch()
        raise error


def text(folder):
    return (folder / "deep" / "file").read_text()


def test_a_folder_takes_the_place_of_an_old_one_and_all_in_it(tmp_path, exchange):
    for told in ("old", "new"):
        fill(tmp_path / "f", told)
        assert text(tmp_path / "f") == told
    assert os.listdir(tmp_path) == ["f"]


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_folder(tmp_path, mask):
    before = os.umask(mask)
    try:
        fill(tmp_path / "f")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("name", ["a" * 250, "ü" * 125])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path, name):
    fill(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_stops_in_the_middle_leaves_the_old_and_nothing_new(tmp_path, error):
    fill(tmp_path / "f", "old")
    for name in ("f", "g"):
        with pytest.raises(error):
            stop(tmp_path / name, error)
    assert os.listdir(tmp_path) == ["f"]
    assert text(tmp_path / "f") == "old"


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("done", [False, True])
def test_a_folder_is_never_lost_when_the_swap_is_interrupted(tmp_path, monkeypatch, error, step, done):
    fill(tmp_path / "f", "old")
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == step and not done:
            raise error
        real(source, target)
        if len(calls) == step and done:
            raise error

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises((StoreError, KeyboardInterrupt)):
        fill(tmp_path / "f")
    assert os.listdir(tmp_path) == ["f"]
    assert text(tmp_path / "f") == ("new" if (step, done) == (2, True) else "old")


def killed(path, number, steps):
    """The exit code of a process that writes an export, and kills itself before the step of that number."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    calls = itertools.count(1)

    def counted(function):
        def call(*arguments, **options):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    try:
        if steps == "two":
            folders._exchange = lambda one, other: False
        os.replace, os.fsync, shutil.rmtree = counted(os.replace), counted(os.fsync), counted(shutil.rmtree)
        folders._exchange, Path.unlink = counted(folders._exchange), counted(Path.unlink)
        with appearing(path) as new:
            (new / "SHA256SUMS").write_text(f"{'0' * 64}  file\n")
            (new / "file").write_text("new")
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@posix
@pytest.mark.parametrize("steps", ["one", "two"])
def test_a_process_that_is_killed_between_any_two_steps_leaves_the_old_or_the_new(tmp_path, steps, caplog):
    caplog.set_level("INFO")
    place = tmp_path / "f"
    fill(place, "old")
    number, said = 1, set()
    while (code := killed(place, number, steps)) == -signal.SIGKILL:
        if steps == "one":  # at every moment
            assert (place / "file").exists() or text(place) == "old"
        caplog.clear()
        with pytest.raises(ValueError, match="stopped again"):  # the next export, which fails
            stop(place, ValueError("stopped again"))
        assert (place / "file").exists() or text(place) == "old"
        said.update(caplog.messages)
        assert os.listdir(tmp_path) == ["f"]
        shutil.rmtree(place)
        fill(place, "old")
        number += 1
    assert code == 0
    assert number > 6
    assert f"{place}: removed what an export that was stopped had left beside it." in said
    back = f"{place}: an export that was stopped had put the older one aside. It is back in its place."
    assert (back in said) == (steps == "two")


def test_a_second_export_into_one_folder_is_refused_while_the_first_is_written(tmp_path):
    with appearing(tmp_path / "f") as one:
        write(one, "first")
        with pytest.raises(UsageError, match=r"f: another export is being written there\. Wait"):
            fill(tmp_path / "f", "second")
    assert text(tmp_path / "f") == "first"
    fill(tmp_path / "f", "second")
    assert text(tmp_path / "f") == "second"
    assert os.listdir(tmp_path) == ["f"]


def test_another_folder_beside_it_may_be_written_at_the_same_time(tmp_path):
    with appearing(tmp_path / "f") as one, appearing(tmp_path / "g") as other:
        write(one, "1")
        write(other, "2")
    assert (text(tmp_path / "f"), text(tmp_path / "g")) == ("1", "2")


def test_what_somebody_puts_there_meanwhile_is_kept(tmp_path):
    fill(tmp_path / "f", "old")
    notes = tmp_path / "f" / "notes.txt"
    with pytest.raises(UsageError, match=r"something else already \(notes\.txt\)"), appearing(tmp_path / "f"):
        notes.write_text("keep me")
    assert (tmp_path / "f" / "notes.txt").read_text() == "keep me"
    assert text(tmp_path / "f") == "old"


def test_what_is_no_export_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("notes", r"something else already \(mine\.txt\)"),
        ("file", r"something else already \(a file\)"),
        ("none/f", r"the folder .*none does not exist\. Create it first"),
        ("..", "something else already"),
    ):
        with pytest.raises(UsageError, match=message):
            folders.check(tmp_path / name)
    monkeypatch.chdir(tmp_path / "empty")
    for name in (".", "../empty"):
        with pytest.raises(UsageError, match="the folder that the program runs in, which cannot be replaced"):
            folders.check(name)
    monkeypatch.setattr("os.path.ismount", lambda path: str(path).endswith("g"))
    with pytest.raises(
        UsageError, match=r"g: a mounted file system, which cannot be replaced\. Give the path of a new"
    ):
        folders.check(tmp_path / "g")


@posix
@pytest.mark.parametrize("closed", ["", "f", "f/deep"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch, closed):
    fill(tmp_path / "f", "old")
    real = os.access
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path / closed and real(path, mode))  # for root, too
    with pytest.raises(StoreError, match=r"f: nothing can be .*is read-only, or you lack the permission"):
        folders.check(tmp_path / "f")


@posix
def test_a_link_is_not_replaced(tmp_path):
    fill(tmp_path / "f")
    (tmp_path / "link").symlink_to("f")
    with pytest.raises(UsageError, match=r"something else already \(a link\)"):
        fill(tmp_path / "link")
    (tmp_path / "f" / "more").symlink_to(tmp_path)
    with pytest.raises(UsageError, match=r"something else already \(more\)"):
        fill(tmp_path / "f")
