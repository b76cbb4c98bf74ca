import threading

import cv2
import numpy as np
import pytest
from plain_line import PlainLine, until

from patchcore import DataError
from patchcore.station.errors import UnavailableError
from patchcore.station.running import State
from patchcore.station.sources.specs import VideoSpec
from patchcore.station.sources.video import VideoSource


@pytest.fixture
def line(detector):
    line = PlainLine(detector, room=3)
    yield line
    line.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """20 images, the grey value of each 10 times its number."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(20):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    return path


def test_each_image_is_inspected_once_in_order_over_restarts_too(video, line):
    line.refusing = UnavailableError("no model yet")
    state, stop = State("video"), threading.Event()
    running = threading.Thread(
        target=VideoSource(VideoSpec(path=video, step=2), 1, line.submit, state).run, args=(stop,)
    )
    running.start()
    until(lambda: str(state) == "waiting: no model yet")
    line.refusing = None
    until(lambda: len(line.stored) > 4)
    stop.set()
    running.join()
    assert state.condition != "ended"
    VideoSource(VideoSpec(path=video, step=2), 1, line.submit, state).run(threading.Event())
    assert state.condition == "ended"
    assert line.names == [f"clip/{number:06d}" for number in range(0, 20, 2)]
    greys = [cv2.imdecode(np.frombuffer(one["content"], np.uint8), 0).mean() for one in line.stored]
    assert np.allclose(greys, np.arange(0, 200, 20), atol=1)


def test_a_video_that_repeats_goes_on_until_it_is_stopped(video, line):
    stop = threading.Event()
    source = VideoSource(VideoSpec(path=video, repeat=True, step=5), 1, line.submit, State("video"))
    running = threading.Thread(target=source.run, args=(stop,))
    running.start()
    until(lambda: len(line.stored) > 9)
    stop.set()
    running.join(5)
    assert not running.is_alive()


def test_a_file_that_is_no_video_or_not_there_says_so(tmp_path, line):
    path = tmp_path / "clip.mp4"
    for text in ("no such file", "no image of this video"):
        with pytest.raises(DataError, match=text):
            VideoSource(VideoSpec(path=path), 1, line.submit, State("video")).run(threading.Event())
        path.write_bytes(bytes(1000))
