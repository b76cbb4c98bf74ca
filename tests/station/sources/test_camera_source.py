import threading
from collections import Counter

import cv2
import numpy as np
import pytest
from cameras import Stream
from plain_line import PlainLine, until

from patchcore.data.images import read
from patchcore.station.errors import UnavailableError
from patchcore.station.running import State
from patchcore.station.sources.camera import CameraSource, encoded
from patchcore.station.sources.specs import CameraSpec


@pytest.fixture
def line(detector):
    line = PlainLine(detector)
    yield line
    line.close()


@pytest.fixture
def stream():
    stream = Stream()
    yield stream
    stream.close()


@pytest.fixture
def start(line):
    """Runs a camera; gives it, its state, and the states that it was in."""
    stop, threads, told = threading.Event(), [], []

    def begin(address, **settings):
        state = State("camera", lambda now: told.append((now["state"], now["why"])))
        source = CameraSource(CameraSpec(address=address, silence=0.5, **settings), 1, line.submit, state)
        threads.append(threading.Thread(target=source.run, args=(stop,), daemon=True))
        threads[-1].start()
        return source, state, told

    yield begin
    stop.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def grey(content: bytes) -> int:
    return int(np.median(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)))


def test_a_png_of_an_image_has_exactly_its_pixels_with_red_as_red():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert np.array_equal(read(encoded(image), "it"), image[..., ::-1])


def test_images_in_turn_are_fresh_and_the_latest_wins(start, line, stream):
    _, state, _ = start(stream.address, every=0)
    until(lambda: len(line.stored) >= 5)
    line.open.clear()  # the engine is busy for a while
    seen, now = len(line.stored), stream.number
    until(lambda: stream.number > now + 40)
    line.open.set()
    until(lambda: len(line.stored) > seen + 6)
    numbers = [grey(one["content"]) for one in line.stored]
    assert Counter(numbers).most_common(1)[0][1] == 1
    assert numbers[-1] >= (now + 40) % 250  # what came while it was busy was not kept for later
    assert state.condition == "running"


def test_an_image_that_is_asked_for_was_taken_after_it_was_asked_for(start, line, stream):
    source, state, _ = start(stream.address, every=None)
    until(lambda: state.condition == "running")
    for number in range(10):
        until(lambda number=number: stream.number > 8 * number)
        now = stream.number
        found = source.shoot(part=f"P{number}").result(20)
        assert now < grey(found["content"]) <= stream.number
        assert found["part"] == f"P{number}"
    assert len(line.stored) == 10


def test_a_camera_that_goes_is_lost_says_so_and_comes_back_by_itself(start, line, stream):
    source, state, told = start(stream.address, every=0.05)
    until(lambda: line.stored)
    stream.close()
    until(lambda: state.condition == "lost")
    with pytest.raises(UnavailableError, match="connected"):
        source.shoot()
    before = len(line.stored)
    back = Stream(stream.port)
    until(lambda: state.condition == "running" and len(line.stored) > before + 2)
    back.close()
    assert [condition for condition, _ in told if condition != "waiting"][:3] == ["running", "lost", "running"]
    assert not any("secret" in why for _, why in told)


def test_a_camera_that_falls_silent_is_lost_though_it_is_still_connected(start, line, stream):
    source, state, _ = start(stream.address, every=None)
    until(lambda: state.condition == "running")
    stream.silent = True
    until(lambda: state.condition == "lost")
    assert "no image for 0.5 s" in str(state) or "no more images" in str(state)
    with pytest.raises(UnavailableError):
        source.shoot()
    stream.silent = False
    until(lambda: state.condition == "running")
    source.shoot().result(20)


def test_a_camera_that_was_never_there_is_lost(start):
    _, state, _ = start(98)
    until(lambda: "lost: camera 98 cannot be opened. Is it connected" in str(state))


def test_the_state_says_what_keeps_the_station_from_judging(start, line, stream):
    line.refusing = UnavailableError("Line main has no model yet.")
    _, state, _ = start(stream.address, every=0.05)
    until(lambda: str(state) == "waiting: Line main has no model yet.")
    line.refusing = None
    until(lambda: state.condition == "running" and line.stored)
