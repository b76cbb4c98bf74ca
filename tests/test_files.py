"""Files that appear whole, or not at all."""

import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

from patchcore.errors import StoreError
from patchcore.files import appearing

posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links and pipes are POSIX's")


def write(path, text="new"):
    with appearing(path) as temporary:
        temporary.write_text(text)


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_is_new_or_takes_the_place_of_an_old_one(tmp_path):
    for text in ("one", "two"):
        write(tmp_path / "a", text)
        assert (tmp_path / "a").read_text() == text
    assert listing(tmp_path) == ["a"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    write(tmp_path / "a", "old")
    with appearing(tmp_path / "a") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_stops_in_the_middle_leaves_the_old_and_nothing_new(tmp_path, error):
    write(tmp_path / "a", "old")

    def stop(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(error), appearing(tmp_path / "a") as temporary:
        stop(temporary)
    assert listing(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@posix
def test_a_process_that_is_killed_in_the_middle_leaves_the_old_file_whole(tmp_path):
    write(tmp_path / "a", "old")
    code = (
        "import sys, time\nfrom patchcore.files import appearing\n"
        "with appearing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n    print(flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "a").read_text() == "old"
    write(tmp_path / "a", "new")  # what it left is in nobody's way
    assert (tmp_path / "a").read_text() == "new"


@posix
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "a")
    finally:
        assert os.umask(before) == mask
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


@posix
def test_the_umask_of_the_process_is_never_changed(tmp_path, monkeypatch):
    monkeypatch.setattr("os.umask", lambda mask: pytest.fail("other threads would see it"))
    write(tmp_path / "a")


@pytest.mark.parametrize("name", ["a" * 250, "ü" * 125])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path, name):
    write(tmp_path / name)
    assert (tmp_path / name).read_text() == "new"


@posix
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    write(tmp_path / "there" / "a", "old")
    for name in ("a", "new"):
        (tmp_path / name).symlink_to(f"there/{name}")
    with appearing(tmp_path / "a") as temporary:
        assert temporary.parent == (tmp_path / "there").resolve()
        temporary.write_text("new")
    write(tmp_path / "new")  # leads to nothing yet
    assert all((tmp_path / name).is_symlink() for name in ("a", "new"))
    assert listing(tmp_path / "there") == ["a", "new"]
    assert (tmp_path / "there" / "a").read_text() == "new"


@posix
def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("none/c")
    with pytest.raises(StoreError, match=r"a: a link that leads in a circle\. Delete it"):
        write(tmp_path / "a")
    with pytest.raises(StoreError, match=r"c: the folder .*none does not exist\. Create it first"):
        write(tmp_path / "c")
    assert listing(tmp_path) == ["a", "b", "c"]


@posix
def test_what_is_no_file_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may be 108 bytes long
    os.mkfifo("pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        (tmp_path / "link").symlink_to("pipe")
        for name in ("pipe", "socket", "link", "/dev/null"):
            with pytest.raises(StoreError, match=rf"{name}: a device, pipe or socket; expected the path of a file"):
                write(tmp_path / name)
        with pytest.raises(StoreError, match="folder: a folder; expected the path of a file"):
            write(tmp_path / "folder")
        assert listing(tmp_path) == ["folder", "link", "pipe", "socket"]


def test_the_folder_above_has_to_be_there(tmp_path):
    with pytest.raises(StoreError, match=r"the folder .*none does not exist\. Create it first"):
        write_anyway(tmp_path / "none" / "a")


def write_anyway(path):
    with appearing(path):
        pytest.fail("nothing can be written")


@posix
def test_a_file_that_its_writer_has_replaced_is_kept_with_the_permissions_of_any(tmp_path):
    with appearing(tmp_path / "a") as temporary:
        (tmp_path / "other").write_text("new")
        (tmp_path / "other").chmod(0o600)
        os.replace(tmp_path / "other", temporary)
    (tmp_path / "plain").touch()
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_writer_that_leaves_no_file_is_an_error(tmp_path):
    write(tmp_path / "a", "old")
    with pytest.raises(FileNotFoundError), appearing(tmp_path / "a") as temporary:
        temporary.unlink()
    assert (tmp_path / "a").read_text() == "old"


def test_writers_at_the_same_time_are_not_in_each_other_s_way(tmp_path):
    with appearing(tmp_path / "a") as one, appearing(tmp_path / "a") as other:
        one.write_text("1")
        other.write_text("22")
        assert one != other
    assert (tmp_path / "a").read_text() == "1"
    assert listing(tmp_path) == ["a"]
