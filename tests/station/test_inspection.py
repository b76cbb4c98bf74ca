"""The way of an image through a station: stored, and only then told."""

import threading
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from sqlalchemy import func, select

from patchcore.errors import ImageError
from patchcore.station.errors import BusyError, ConflictError, UnavailableError
from patchcore.station.record import restored
from patchcore.station.store.tables import Inspection, Line, Review


@pytest.fixture
def bad(hazelnut):
    return (hazelnut / "test/colour/00.jpg").read_bytes()


@pytest.fixture
def good(hazelnut):
    return (hazelnut / "train/good/00.jpg").read_bytes()


def told(future: Future):
    return future.result(timeout=60)


def test_a_result_is_what_the_detector_says_and_is_stored(station, detector, bad):
    said = told(station.inspector.submit(bad, line=1, name="00.jpg", part="A 7"))
    result = detector.predict(bad)
    assert said["score"] == pytest.approx(result.score, rel=1e-6)
    assert (said["verdict"], said["threshold"], said["part"]) == (result.decision, result.threshold, "A 7")
    with station.database.read() as session:
        row = session.get_one(Inspection, said["id"])
    assert station.files.read(row.image) == bad
    assert row.review == Review.open


def test_a_stored_result_is_made_again_exactly(station, bad):
    said = told(station.inspector.submit(bad, line=1))
    with station.database.read() as session:
        row = session.get_one(Inspection, said["id"])
    detector = station.models.detector(row.model)
    again, now = restored(row, station.files.read(row.image), detector.fitted), detector.predict(bad)
    assert torch.equal(again.patch_scores, now.patch_scores)
    assert torch.equal(again.nearest_rows, now.nearest_rows)
    assert np.array_equal(again.map, now.map, equal_nan=True)
    assert np.array_equal(again.mask, now.mask)
    assert (again.frame, again.decision, again.nearest_image) == (now.frame, now.decision, now.nearest_image)
    assert again.p_value == now.p_value


def test_a_good_part_waits_for_nobody(station, good):
    said = told(station.inspector.submit(good, line=1))
    assert (said["verdict"], said["review"]) == ("pass", "none")


def test_results_are_told_after_they_are_stored(station, bad, monkeypatch):
    seen = []

    def publish(kind, data):
        with station.database.read() as session:
            seen.append((kind, session.get(Inspection, data["id"]) is not None))

    monkeypatch.setattr(station.hub, "publish", publish)
    told(station.inspector.submit(bad, line=1))
    assert seen == [("result", True)]


def test_an_image_that_cannot_be_read_is_named_and_the_others_go_on(station, good):
    futures = [station.inspector.submit(content, line=1, name=name)
               for name, content in (("a.png", good), ("b.png", b"no image"), ("c.png", good))]  # fmt: skip
    assert told(futures[0])["verdict"] == told(futures[2])["verdict"] == "pass"
    with pytest.raises(ImageError, match=r"b\.png: not an image"):
        told(futures[1])
    with station.database.read() as session:
        assert session.scalar(select(func.count(Inspection.id))) == 2


def test_bytes_that_name_a_file_of_the_station_are_no_way_to_it(station, hazelnut):
    with pytest.raises(ImageError, match="not an image"):
        told(station.inspector.submit(str(hazelnut / "train/good/00.jpg").encode(), line=1))


def test_the_same_key_gives_the_same_result_and_one_row(station, good, bad):
    first = told(station.inspector.submit(bad, line=1, key="k"))
    second = told(station.inspector.submit(bad, line=1, key="k"))
    assert second == {**first, "replayed": True}
    with pytest.raises(ConflictError, match="'k' was used for another image"):
        told(station.inspector.submit(good, line=1, key="k"))
    with station.database.read() as session:
        assert session.scalar(select(func.count(Inspection.id))) == 1


def held(station, monkeypatch):
    """Stops the engine until the event is set; the other event says that it waits."""
    begun, go, judge = threading.Event(), threading.Event(), station.inspector._judge

    def wait(detector, batch):
        begun.set()
        assert go.wait(60)
        return judge(detector, batch)

    monkeypatch.setattr(station.inspector, "_judge", wait)
    return begun, go


def test_the_same_key_at_the_same_time_is_one_inspection(station, bad, monkeypatch):
    begun, go = held(station, monkeypatch)
    one = station.inspector.submit(bad, line=1, key="k")
    assert begun.wait(60)
    assert station.inspector.submit(bad, line=1, key="k") is one
    with pytest.raises(ConflictError, match="in use for another image"):
        station.inspector.submit(b"other", line=1, key="k")
    go.set()
    told(one)


def test_a_full_queue_says_when_to_come_back(station, good, monkeypatch):
    begun, go = held(station, monkeypatch)
    futures = [station.inspector.submit(good, line=1)]
    assert begun.wait(60)
    futures += [station.inspector.submit(good, line=1) for _ in range(station.settings.queue)]
    with pytest.raises(BusyError, match="32 images are waiting already") as error:
        station.inspector.submit(good, line=1)
    assert 1 <= error.value.retry <= 60
    go.set()
    assert {told(one)["verdict"] for one in futures} == {"pass"}


def test_a_line_without_a_model_says_what_to_do(station, good):
    with station.database.begin() as session:
        session.add(Line(name="second"))
    with pytest.raises(UnavailableError, match="Line second has no model yet"):
        told(station.inspector.submit(good, line=2))
    assert "models" not in station.health()["trouble"]  # nothing comes there
    with station.database.begin() as session:
        session.get_one(Line, 2).source = {"kind": "folder"}
    assert "Line second has no model yet" in station.health()["trouble"]["models"]


def test_a_model_file_that_is_gone_is_said_and_works_again_when_it_is_back(station, good):
    line = station.line("main")
    place = station.files.local / line.model.file
    content = place.read_bytes()
    place.unlink()
    station.models._ready.clear()
    with pytest.raises(UnavailableError, match=f"{line.model.file} cannot be read"):
        told(station.inspector.submit(good, line=1))
    assert not station.health()["ok"]
    place.write_bytes(content[:-1])
    with pytest.raises(UnavailableError, match="not the one that was stored"):
        told(station.inspector.submit(good, line=1))
    place.write_bytes(content)
    assert told(station.inspector.submit(good, line=1))["verdict"] == "pass"
    assert station.health()["ok"]


def test_no_image_file_stays_behind_where_the_database_refuses(station, good, monkeypatch):
    def broken(session, row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(station.inspector, "_enqueue", broken)
    with pytest.raises(UnavailableError, match="No space left"):
        told(station.inspector.submit(good, line=1))
    assert list(station.files.all("images")) == []
    with station.database.read() as session:
        assert session.scalar(select(func.count(Inspection.id))) == 0


def test_a_shadow_judges_too_and_nobody_acts_on_it(station, bad):
    model = station.line("main").model
    content, detector = station.models.taught(model, [bad], who="a", why="b")
    with station.database.begin() as session:
        taught = station.models.add(
            session, content, name="hazelnut", how="teach", who="a", parent=model, detector=detector
        )
        session.get_one(Line, 1).shadow_id = taught.id
    said = told(station.inspector.submit(bad, line=1))
    station.inspector.close()  # the shadow is judged after the answer
    with station.database.read() as session:
        row = session.get_one(Inspection, said["id"])
    assert (row.verdict, row.shadow["verdict"], row.shadow["model_id"]) == ("fail", "pass", taught.id)


def test_closing_finishes_what_waits(station, good):
    futures = [station.inspector.submit(good, line=1) for _ in range(6)]
    station.inspector.close()
    assert [one.done() for one in futures] == [True] * 6
    with pytest.raises(UnavailableError, match="being stopped"):
        station.inspector.submit(good, line=1)
