"""Images from files, folders, video files and cameras."""

import os
from itertools import islice

import cv2
import numpy as np
import pytest
from PIL import Image

from patchcore.data.frames import frames
from patchcore.data.images import read
from patchcore.errors import DataError, UsageError

COLOURS = [(200, 30, 30), (30, 180, 30), (20, 40, 220)]  # R, G, B


def image(colour, size=(48, 64)) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (*size, 3)).copy()


@pytest.fixture(params=[("clip.avi", "MJPG"), ("clip.mp4", "mp4v")], ids=["avi", "mp4"])
def video(request, tmp_path):
    name, code = request.param
    writer = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter_fourcc(*code), 5, (64, 48))
    assert writer.isOpened()
    for colour in COLOURS:
        writer.write(image(colour)[..., ::-1])
    writer.release()
    return tmp_path / name


def test_a_video_gives_its_images_in_order_in_rgb(video):
    found = list(frames(video))
    assert [sample.name for sample in found] == ["clip/000000", "clip/000001", "clip/000002"]
    for sample, colour in zip(found, COLOURS, strict=True):
        pixels = read(sample.image, sample.name)
        assert pixels.shape == (48, 64, 3)
        assert pixels.dtype == np.uint8
        assert np.abs(pixels.mean((0, 1)) - colour).max() < 8  # both codecs lose a little


def test_images_of_a_video_are_read_when_they_are_asked_for(video):
    taken = list(islice(frames(str(video)), 1))
    assert [sample.name for sample in taken] == ["clip/000000"]


def test_a_file_gives_itself_and_a_folder_its_images(tmp_path):
    for name in ("b.png", "a.png", "notes.txt"):
        Image.fromarray(image((1, 2, 3))).save(tmp_path / name, "PNG")
    assert [(s.name, s.image) for s in frames(tmp_path / "b.png")] == [("b.png", tmp_path / "b.png")]
    assert [s.name for s in frames(str(tmp_path))] == ["a.png", "b.png"]


def test_a_file_whose_name_is_a_number_is_no_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(image((1, 2, 3))).save("0", "PNG")
    assert [s.name for s in frames("0")] == ["0"]


@pytest.mark.skipif(os.path.exists("/dev/video97"), reason="there is a camera 97 here")
@pytest.mark.parametrize("index", [97, "97"])
def test_a_camera_that_is_not_there_says_so(index, capfd):
    with pytest.raises(DataError, match="Camera 97 cannot be opened"):
        next(frames(index))


def test_a_source_that_is_not_there_or_is_no_video_says_so(tmp_path, capfd):
    with pytest.raises(UsageError, match="no such file or folder"):
        next(frames(tmp_path / "gone.png"))
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(DataError, match="no image of this video can be read"):
        next(frames(tmp_path / "broken.mp4"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        next(frames(tmp_path / "empty"))
