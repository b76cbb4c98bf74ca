import json
import re
import threading
from pathlib import Path

import pytest
from cameras import Stream
from plain_line import PlainLine, png, until
from receivers import free_port

from patchcore.errors import UsageError
from patchcore.station.errors import UnavailableError
from patchcore.station.outputs.specs import output_specs
from patchcore.station.secrets import HIDDEN, hidden
from patchcore.station.sources.keeper import Keeper
from patchcore.station.sources.specs import CameraSpec, FolderSpec, Nothing, VideoSpec, source_spec
from patchcore.station.store.database import Database
from patchcore.watch import folder as watching


@pytest.fixture
def line(detector):
    line = PlainLine(detector)
    yield line
    line.close()


@pytest.fixture
def told():
    return []


@pytest.fixture
def keeper(tmp_path, line, told, monkeypatch):
    monkeypatch.setattr(watching, "SETTLE", 0.1)
    database = Database(f"sqlite:///{tmp_path / 'station.sqlite'}")
    keeper = Keeper(line.submit, database, lambda line, state: told.append((line, state["state"])))
    yield keeper
    assert keeper.close() == []
    database.close()


def test_each_line_has_its_source_and_another_one_takes_its_place(keeper, line, told, tmp_path):
    (tmp_path / "one").mkdir()
    stream = Stream()
    keeper.set(1, FolderSpec(path=tmp_path / "one"))
    keeper.set(2, CameraSpec(address=stream.address, every=0.05))
    (tmp_path / "one" / "a.png").write_bytes(png(1))
    until(lambda: {one["line"] for one in line.stored} == {1, 2})
    until(lambda: [state["state"] for state in keeper.states.values()] == ["running", "running"])
    assert keeper.states[1]["kind"] == "folder"
    assert keeper.shoot(2, part="P").result(20)["part"] == "P"
    with pytest.raises(UnavailableError, match="Line 1 has no camera"):
        keeper.shoot(1)
    keeper.set(2, Nothing())
    assert list(keeper.states) == [1]
    assert told[-1] == (2, "off")
    keeper.set(1, CameraSpec(address=stream.address, every=None))
    until(lambda: keeper.states[1]["state"] == "running")
    assert keeper.states[1]["kind"] == "camera"
    stream.close()
    until(lambda: keeper.states[1]["state"] == "lost")
    assert (1, "lost") in told


def test_a_source_that_fails_is_begun_again_and_one_that_ends_has_ended(keeper, line, tmp_path):
    import cv2
    import numpy as np

    path = tmp_path / "clip.avi"
    keeper.set(1, VideoSpec(path=path))
    until(lambda: keeper.states[1]["state"] == "lost")
    assert "no such file" in keeper.states[1]["why"]
    writer = cv2.VideoWriter(str(path) + ".avi", cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    (tmp_path / "clip.avi.avi").rename(path)
    until(lambda: keeper.states[1]["state"] == "ended")
    assert len(line.stored) == 3


def test_the_trigger_of_a_camera_says_how_it_is(keeper):
    trigger = {"kind": "mqtt", "topic": "go", "broker": {"host": "localhost", "port": free_port()}}
    keeper.set(1, source_spec({"kind": "camera", "address": 97, "every": None, "trigger": trigger}))
    until(lambda: keeper.states[1].get("trigger", {}).get("state") == "lost")
    assert keeper.states[1]["trigger"]["kind"] == "mqtt"


def test_a_source_that_does_not_end_is_named_and_not_doubled(line, tmp_path):
    stuck, begun = threading.Event(), threading.Event()

    class Stuck(Keeper):
        def made(self, spec, line, state):
            class Source:
                def run(self, stop):
                    begun.set()
                    stuck.wait()

            return Source()

    keeper = Stuck(line.submit, None, lambda line, state: None)
    keeper.set(4, VideoSpec(path=tmp_path))
    begun.wait()
    with pytest.raises(UnavailableError, match="line 4 is still busy"):
        keeper.set(4, Nothing(), timeout=0.05)
    assert keeper.close(0.05) == [4]
    stuck.set()


def test_settings_are_checked_and_say_what_is_wrong(tmp_path):
    (tmp_path / "in").mkdir()
    roots = [tmp_path / "in"]
    assert source_spec({}) == Nothing()
    assert isinstance(source_spec({"kind": "folder", "path": str(tmp_path / "in")}, roots), FolderSpec)
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    for wrong, text in (
        ({"kind": "folder", "path": str(tmp_path)}, "in none of the station's roots"),
        ({"kind": "folder", "path": str(tmp_path / "in" / "..")}, "in none of the station's roots"),
        ({"kind": "folder", "path": str(tmp_path / "in" / "out")}, "in none of the station's roots"),
        ({"kind": "video", "path": "/etc/passwd"}, "in none of the station's roots"),
        ({"kind": "camera", "address": "file:///etc/passwd"}, "address"),
        ({"kind": "camera", "address": "concat:/etc/passwd"}, "address"),
        ({"kind": "camera", "address": "/etc/passwd"}, "address"),
        ({"kind": "camera", "address": -1}, "address"),
        ({"kind": "camera", "address": f"rtsp://a:{HIDDEN}@[::1"}, "address"),
        ({"kind": "folder", "path": str(tmp_path / "in"), "part": "("}, "no regular expression"),
        ({"kind": "folder", "path": str(tmp_path / "in"), "part": "a"}, "must have one group"),
        ({"kind": "folder", "path": str(tmp_path / "in"), "more": 1}, "more"),
        ({"kind": "tape"}, "folder"),
        ([], "source"),
    ):
        with pytest.raises(UsageError, match=text):
            source_spec(wrong or 5, roots)


def test_secrets_are_hidden_and_come_back_where_they_were_left_out():
    broker = {"host": "localhost", "user": "line", "password": "correct horse"}
    specs = output_specs(
        [
            {"kind": "webhook", "name": "mes", "url": "http://localhost/", "secret": "0123456789abcdef"},
            {"kind": "mqtt", "name": "scada", "broker": broker},
        ]
    )
    shown = [hidden(spec.model_dump(mode="json")) for spec in specs]
    assert shown[0]["secret"] == shown[1]["broker"]["password"] == HIDDEN
    assert output_specs(shown, specs) == specs
    shown[0]["name"] = "other"
    with pytest.raises(UsageError, match="other: secret is hidden"):
        output_specs(shown, specs)
    shown[0]["name"], shown[1]["broker"]["host"] = "mes", "elsewhere"
    with pytest.raises(UsageError, match="scada: password is hidden"):  # it is not for another host to learn
        output_specs(shown, specs)
    with pytest.raises(UsageError, match="two have this name") as failed:
        output_specs([specs[0].model_dump(), specs[0].model_dump()])
    for url in ("ftp://localhost/", "http://", "http://localhost:99999/", "http://[::1/", "http://a b"):
        with pytest.raises(UsageError, match=r"0\.webhook\.url"):
            output_specs([{"kind": "webhook", "name": "mes", "url": url, "secret": "0123456789abcdef"}])
    with pytest.raises(UsageError) as failed:
        output_specs([{"kind": "webhook", "name": "mes", "url": "http://localhost/", "secret": "tooshort"}])
    assert "tooshort" not in str(failed.value)


def test_the_password_in_the_address_of_a_camera_is_hidden_and_not_told_to_another_host():
    trigger = {"kind": "mqtt", "topic": "go", "broker": {"host": "localhost", "password": "correct horse"}}
    before = {"kind": "camera", "address": "rtsp://line:correct%20horse@10.0.0.5/1", "trigger": trigger}
    shown = hidden(source_spec(before).model_dump(mode="json"))
    assert "horse" not in str(shown)
    assert shown["address"] == f"rtsp://line:{HIDDEN}@10.0.0.5/1"
    assert source_spec(shown, before=source_spec(before).model_dump(mode="json")) == source_spec(before)
    shown["address"] = shown["address"].replace("10.0.0.5/1", "10.0.0.5/2")
    assert source_spec(shown, before=source_spec(before).model_dump(mode="json")).address.endswith("horse@10.0.0.5/2")
    for other in (f"rtsp://line:{HIDDEN}@10.0.0.6/1", f"rtsp://me:{HIDDEN}@10.0.0.5/1"):
        with pytest.raises(UsageError, match="address is hidden"):
            source_spec({**shown, "address": other}, before=before)


def test_the_settings_in_the_documents_are_taken():
    page = (Path(__file__).parents[3] / "docs" / "station-machines.md").read_text("utf-8")
    found = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    kinds = [source_spec(one, [Path("/data")]).kind for one in found if isinstance(one, dict)]
    kinds += [output_specs(one)[0].kind for one in found if isinstance(one, list)]
    assert kinds == ["folder", "camera", "camera", "video", "webhook", "mqtt", "modbus", "opcua"]
