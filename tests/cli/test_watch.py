"""`patchcore watch`: events as JSON lines, each image once, and a state that survives."""

import os
import shutil
import time
from pathlib import Path

import pytest
from cli_helpers import lines

from patchcore.watch import folder
from patchcore.watch.folder import arrived
from patchcore.watch.state import State


@pytest.fixture
def line(hazelnut: Path, tmp_path: Path, monkeypatch) -> Path:
    """A folder that three images have arrived in."""
    monkeypatch.setattr(folder, "SETTLE", 0.05)
    place = tmp_path / "line"
    (place / "b").mkdir(parents=True)
    for source, name in (("good/04.jpg", "b/1.jpg"), ("colour/00.jpg", "a.jpg"), ("good/05.jpg", "z.jpg")):
        shutil.copy(hazelnut / "test" / source, place / name)
        time.sleep(0.01)
    return place


def once(run, *given) -> list:
    done = run("watch", *given, "--once", "--every", "0.1")
    assert done.exit_code == 0, done.stderr
    return lines(done.stdout)


def test_images_are_seen_once_in_the_order_of_their_arrival(run, model_file, line, hazelnut, tmp_path):
    state = tmp_path / "s.json"
    first = once(run, model_file, line, "--state", state)
    assert [one["event"] for one in first] == ["begin", "image", "image", "image", "end"]
    assert [Path(one["path"]).name for one in first[1:4]] == ["1.jpg", "a.jpg", "z.jpg"]
    assert [one["decision"] for one in first[1:4]] == ["pass", "fail", "pass"]
    assert first[0]["learning"]["score"] > 0
    shutil.copy2(hazelnut / "test/good/13.jpg", line / "b" / "0.jpg")  # with its old time
    second = once(run, model_file, line, "--state", state)
    assert [one["event"] for one in second] == ["begin", "image", "end"]
    assert (second[0]["seen"], second[1]["number"], second[2]["seen"]) == (3, 4, 4)


def test_a_file_that_cannot_be_read_is_tried_again_and_given_up(run, model_file, line, hazelnut):
    (line / "c.jpg").write_bytes((hazelnut / "test/good/13.jpg").read_bytes()[:20_000])
    (line / "d.png").write_text("no image")
    found = once(run, model_file, line)
    assert [one["event"] for one in found].count("image") == 3
    assert {Path(one["path"]).name for one in found if one["event"] == "unreadable"} == {"c.jpg", "d.png"}


def test_a_file_is_left_alone_while_it_is_written(line):
    time.sleep(0.06)
    (line / "new.png").write_text("half")
    found, fresh = arrived(line, (0, ""))
    assert fresh
    assert "new.png" not in [one.path.name for one in found]
    time.sleep(0.06)
    found, fresh = arrived(line, found[-1].mark)
    assert ([one.path.name for one in found], fresh) == (["new.png"], False)


def test_after_another_calibration_it_begins_anew_behind_what_was_seen(run, model_file, line, hazelnut, tmp_path):
    state, other = tmp_path / "s.json", tmp_path / "m.patchcore"
    once(run, model_file, line, "--state", state)
    recalibrated = run(
        "recalibrate", model_file, hazelnut / "test" / "good", "-o", other, "--why", "new lamp", "--json"
    )
    (entry,) = lines(recalibrated.stdout)
    assert (entry["what"], entry["good"]) == ("recalibrate", 3)
    found = once(run, other, line, "--state", state)
    assert [one["event"] for one in found] == ["restart", "begin", "end"]
    assert found[1]["seen"] == 0
    assert "recalibrate" in run("history", other).stdout


def test_wrong_usage_is_said(run, model_file, line, tmp_path):
    state = tmp_path / "s.json"
    assert run("watch", model_file, model_file, "--once").exit_code == 2
    assert run("watch", model_file, line, "--once", "--state", model_file).exit_code != 0
    once(run, model_file, line, "--state", state, "--false-alarm", "5%")
    assert State.read(state).false_alarm_rate == 0.05
    assert "--restart" in run("watch", model_file, line, "--once", "--state", state, "--false-alarm", "1%").stderr
    assert once(run, model_file, line, "--state", state, "--false-alarm", "1%", "--restart")[0]["event"] == "restart"
    os.truncate(state, 10)
    assert run("watch", model_file, line, "--once", "--state", state).exit_code == 1
