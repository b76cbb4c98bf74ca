import os
import shutil
import threading
import time
from contextlib import suppress

import pytest
from plain_line import PlainLine, png, until

from patchcore.station.errors import BusyError, UnavailableError
from patchcore.station.running import State
from patchcore.station.sources.folder import FolderSource
from patchcore.station.sources.specs import FolderSpec
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Setting
from patchcore.watch import folder as watching

SETTLE = 0.15


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(watching, "SETTLE", SETTLE)


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'station.sqlite'}")
    yield database
    database.close()


@pytest.fixture
def line(detector):
    line = PlainLine(detector)
    yield line
    line.close()


@pytest.fixture
def start(tmp_path, database, line):
    """Runs a folder source over `tmp_path/in`; `end()` of what it returns stops it, as at the end of a station."""
    folder = tmp_path / "in"
    folder.mkdir()
    running = []

    def begin(limit=10_000_000, **settings):
        stop, state = threading.Event(), State("folder")
        source = FolderSource(FolderSpec(path=folder, **settings), 1, line.submit, database, state, limit)
        thread = threading.Thread(target=source.run, args=(stop,), daemon=True)
        thread.start()

        def end():
            stop.set()
            thread.join(10)
            assert not thread.is_alive()

        running.append(end)
        return folder, state, end

    yield begin
    for end in running:
        end()


def test_what_lies_there_arrives_and_is_moved_in_is_inspected_once_in_order(start, line, tmp_path):
    (tmp_path / "in" / "before.png").write_bytes(png(0))
    folder, state, _ = start(every=600)  # only the system's word for a change makes it look
    until(lambda: line.names == ["before.png"])
    (folder / "written.png").write_bytes(png(1))
    until(lambda: len(line.stored) == 2)
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(png(2))
    os.utime(elsewhere, (1, 1))  # a file that is old already when it is moved in
    elsewhere.rename(folder / "moved.png")
    until(lambda: len(line.stored) == 3)
    (folder / "deep").mkdir()
    (folder / "deep" / "part.png").write_bytes(png(3))
    until(lambda: len(line.stored) == 4)
    assert line.names == ["before.png", "written.png", "moved.png", "deep/part.png"]
    assert state.to_dict()["state"] == "running"
    until(lambda: state.to_dict()["images"] == 4)


def test_a_file_that_is_written_slowly_is_inspected_when_it_is_whole(start, line):
    folder, _, _ = start()
    content = png(1, side=200)
    with (folder / "slow.png").open("wb", buffering=0) as file:
        for begin in range(0, len(content), 8000):
            file.write(content[begin : begin + 8000])
            time.sleep(SETTLE / 3)
            assert not line.stored
    until(lambda: line.stored)
    assert [one["content"] for one in line.stored] == [content]


def test_a_file_that_is_renamed_into_place_is_not_seen_under_its_temporary_name(start, line):
    folder, _, _ = start()
    (folder / ".part.png.tmp").write_bytes(png(1))
    (folder / "part.png.filepart").write_bytes(png(1))
    time.sleep(2 * SETTLE)
    (folder / "part.png.filepart").rename(folder / "part.png")
    until(lambda: line.stored)
    assert line.names == ["part.png"]


def test_the_same_name_with_another_image_is_another_part_and_a_touched_attribute_is_not(start, line):
    folder, _, _ = start()
    path = folder / "latest.png"
    path.write_bytes(png(1))
    until(lambda: len(line.stored) == 1)
    path.chmod(0o600)  # changes its ctime, and nothing else
    (folder / "other.png").write_bytes(png(5))
    until(lambda: len(line.stored) == 2)
    path.write_bytes(png(2))
    until(lambda: len(line.stored) == 3)
    assert [one["content"] for one in line.stored] == [png(1), png(5), png(2)]


def test_nothing_is_lost_or_doubled_over_restarts_while_200_files_arrive(start, line):
    folder, _, end = start(every=0.1)
    written = [f"{number:03d}.png" for number in range(200)]

    def write():
        for number, name in enumerate(written):
            (folder / name).write_bytes(png(number, side=16))
            time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    for some in (20, 90, 150):  # the station is stopped with images in its queue, and begun again
        until(lambda some=some: len(line.stored) > some)
        end()
        _, _, end = start(every=0.1)
    writer.join()
    until(lambda: len(line.stored) >= 200)
    time.sleep(3 * SETTLE)
    assert sorted(line.names) == written


def test_a_kill_between_a_result_and_the_position_doubles_nothing(start, line, database):
    folder, _, end = start()
    (folder / "a.png").write_bytes(png(1))
    until(lambda: line.stored)
    end()
    with database.engine.begin() as connection:  # as if it had been killed before it could write its position
        connection.exec_driver_sql("DELETE FROM setting")
    start()
    (folder / "b.png").write_bytes(png(2))
    until(lambda: len(line.stored) >= 2)
    assert line.names == ["a.png", "b.png"]


@pytest.mark.parametrize("afterwards", ["leave", "move", "delete"])
def test_a_file_is_left_moved_or_deleted_after_its_result(start, line, afterwards):
    folder, _, _ = start(afterwards=afterwards)
    for content in (png(1), png(2)):
        before = len(line.stored)
        (folder / "tray").mkdir(exist_ok=True)
        (folder / "tray" / "a.png").write_bytes(content)
        until(lambda before=before: len(line.stored) > before)
        if afterwards != "leave":
            until(lambda: not (folder / "tray" / "a.png").exists())
    time.sleep(2 * SETTLE)  # what was moved does not arrive again
    assert len(line.stored) == 2
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    assert left == {"leave": ["tray/a.png"], "move": ["done/tray/a-1.png", "done/tray/a.png"], "delete": []}[afterwards]


def test_bad_files_are_tried_three_times_listed_and_moved_and_hold_up_nothing(start, line):
    folder, state, end = start(bad="move", limit=20_000)
    (folder / "torn.png").write_bytes(png(1)[:60])
    (folder / "empty.png").touch()
    (folder / "huge.png").write_bytes(bytes(20_001))
    (folder / "good.png").write_bytes(png(2))
    until(lambda: state.to_dict().get("failed") == 3)
    until(lambda: len(list((folder / "failed").iterdir())) == 3)
    assert line.names == ["good.png"]
    bad = {one["name"]: one["error"] for one in state.to_dict()["bad"]}
    assert bad.keys() == {"torn.png", "empty.png", "huge.png"}
    assert "empty file" in bad["empty.png"]
    assert "20000 bytes" in bad["huge.png"]
    end()
    _, state, _ = start()
    until(lambda: state.condition == "running")
    assert len(state.to_dict()["bad"]) == 3  # still listed, and not tried again


def test_a_torn_file_that_is_mended_is_inspected(start, line):
    folder, state, _ = start()
    (folder / "a.png").write_bytes(png(1)[:60])
    time.sleep(2 * SETTLE)
    (folder / "a.png").write_bytes(png(1))
    until(lambda: line.names == ["a.png"])
    assert "failed" not in state.to_dict()


def test_images_wait_while_the_station_cannot_inspect(start, line):
    line.refusing = UnavailableError("Line main has no model yet.")
    folder, state, _ = start()
    (folder / "a.png").write_bytes(png(1))
    until(lambda: state.condition == "waiting" and "no model" in str(state))
    conditions = []
    state._tell = lambda now: conditions.append(now["state"])
    time.sleep(1.5)  # it tries again, and says nothing else meanwhile
    line.refusing = None
    until(lambda: line.names == ["a.png"])
    until(lambda: state.condition == "running")
    assert conditions == ["running"]


def test_an_image_that_makes_the_engine_fail_does_not_hold_up_the_next_one(start, line):
    line.refusing = RuntimeError("a fault of the engine")
    folder, state, _ = start()
    (folder / "odd.png").write_bytes(png(1))
    until(lambda: state.to_dict().get("bad") == [{"name": "odd.png", "error": "a fault of the engine"}])
    line.refusing = None
    (folder / "fine.png").write_bytes(png(2))
    until(lambda: line.names == ["fine.png"])


def test_links_that_lead_out_of_the_folder_are_not_read_moved_or_deleted(start, line, tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.png").write_bytes(png(1))
    folder, state, _ = start(afterwards="delete", bad="move")
    (folder / "b.png").symlink_to(tmp_path / "private" / "a.png")
    (folder / "tray").symlink_to(tmp_path / "private")
    until(lambda: state.to_dict().get("failed") == 2)
    assert not line.stored
    assert "leads out" in state.to_dict()["bad"][0]["error"]
    assert (tmp_path / "private" / "a.png").exists()


def test_a_full_queue_is_waited_for(start, line):
    folder, _, _ = start()
    line.open.clear()
    for number in range(40):
        (folder / f"{number:02d}.png").write_bytes(png(number, side=16))
    others = 0
    with suppress(BusyError):  # somebody else fills the queue
        while True:
            line.submit(png(99), line=2, name="other")
            others += 1
    time.sleep(2 * SETTLE)
    line.open.set()
    until(lambda: len(line.stored) == 40 + others)
    assert sorted(name for name in line.names if name != "other") == [f"{number:02d}.png" for number in range(40)]


def test_a_folder_that_goes_is_lost_and_found_again(start, line):
    folder, state, _ = start(every=0.1)
    until(lambda: state.condition == "running")
    shutil.rmtree(folder)
    until(lambda: state.condition == "lost")
    folder.mkdir()
    until(lambda: state.condition == "running")
    (folder / "a.png").write_bytes(png(1))
    until(lambda: line.names == ["a.png"])


def test_the_part_is_found_in_the_name(start, line):
    folder, _, _ = start(part=r"SN([0-9]+)")
    (folder / "cam1_SN00412_top.png").write_bytes(png(1))
    until(lambda: line.stored)
    (folder / "nameless.png").write_bytes(png(2))
    until(lambda: len(line.stored) == 2)
    assert [one["part"] for one in line.stored] == ["00412", None]


def test_names_that_are_no_utf8_are_read(start, line):
    folder, _, _ = start(every=0.1)
    with open(os.fsencode(folder) + b"/\xff\xfe.png", "wb") as file:
        file.write(png(1))
    until(lambda: line.names == ["\ufffd\ufffd.png"])
    (folder / "a.png").write_bytes(png(2))
    until(lambda: line.names == ["\ufffd\ufffd.png", "a.png"])


def test_what_arrives_after_the_clock_was_set_back_is_seen_and_nothing_is_doubled(start, line, database):
    folder, _, end = start()
    (folder / "a.png").write_bytes(png(1))
    until(lambda: line.stored)
    end()
    with database.begin() as session:  # the position of a station whose clock was an hour ahead
        row = session.get(Setting, "source:1")
        row.value = {**row.value, "mark": [time.time_ns() + 3600 * 10**9, ""]}
    (folder / "b.png").write_bytes(png(2))
    start()
    until(lambda: len(line.stored) >= 2)
    assert line.names == ["a.png", "b.png"]
