"""Images one after the other from whatever shows them: files, folders, video files, cameras."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from patchcore.data.sample import Sample, images_in
from patchcore.errors import DataError, UsageError

if TYPE_CHECKING:
    import cv2

log = logging.getLogger(__name__)
VIDEOS = frozenset({".avi", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})


def frames(source: str | Path | int) -> Iterator[Sample]:
    """The images of a source, in order, each read when it is asked for.

    `source`: an image file, a folder of images, a video file, or the number of a camera (an
    integer, or digits that name no file). Images of a video are named `clip/000000`, those of a
    camera `camera0/000000`, and are RGB arrays (H, W, 3), uint8. A camera never ends by itself.
    Errors: UsageError, DataError.
    """
    if isinstance(source, int):
        yield from _camera(source)
        return
    path = Path(source)
    if str(path).isdecimal() and not path.exists():
        yield from _camera(int(str(path)))
    elif path.is_dir():
        yield from (Sample(found.name, found) for found in images_in(path))
    elif not path.exists():
        raise UsageError(f"{path}: no such file or folder. Give an image, a folder, a video or a camera's number.")
    elif path.suffix.lower() in VIDEOS:
        yield from _video(path)
    else:
        yield Sample(path.name, path)


def _video(path: Path) -> Iterator[Sample]:
    number = -1
    with _opened(str(path)) as capture:
        for number, image in enumerate(_images(capture)):
            yield Sample(f"{path.stem}/{number:06d}", image)
    if number < 0:
        raise DataError(f"{path}: no image of this video can be read: it is damaged, or coded in an unknown way.")


def _camera(index: int) -> Iterator[Sample]:
    with _opened(index) as capture:
        if not capture.isOpened():
            raise DataError(f"Camera {index} cannot be opened. Is it connected, and free? The first one is 0.")
        for number, image in enumerate(_images(capture)):
            yield Sample(f"camera{index}/{number:06d}", image)
    log.warning("Camera %d gives no more images.", index)


@contextmanager
def _opened(source: str | int) -> Iterator[cv2.VideoCapture]:
    import cv2

    capture = cv2.VideoCapture(source)
    try:
        yield capture
    finally:
        capture.release()


def _images(capture: cv2.VideoCapture) -> Iterator[cv2.typing.MatLike]:
    while True:
        there, image = capture.read()
        if not there:
            return
        yield image[..., ::-1].copy()  # OpenCV has blue first
