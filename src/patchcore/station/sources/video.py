"""Video: the images of a file, one after the other."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import wait as wait_for
from threading import Event
from typing import TYPE_CHECKING

from patchcore.errors import DataError
from patchcore.station.errors import UnavailableError, coded
from patchcore.station.running import Backoff, State
from patchcore.station.sources.camera import encoded
from patchcore.station.sources.specs import VideoSpec
from patchcore.station.sources.submit import Submit, handed_over

if TYPE_CHECKING:
    from cv2.typing import MatLike


class VideoSource:
    """Hands over the images of a video file. Without `repeat` each is inspected once, over restarts too.

    Args:
        spec: Its settings.
        line: Where its images are inspected.
        submit: Takes them.
        state: Where it says how it is; `ended` after the last image.
    """

    def __init__(self, spec: VideoSpec, line: int, submit: Submit, state: State) -> None:
        self._spec, self._line, self._submit, self._state = spec, line, submit, state

    def run(self, stop: Event) -> None:
        """Errors: DataError, for a file that is not there, or in which no image can be read."""
        while not stop.is_set():
            self._play(stop)
            if not self._spec.repeat:
                if not stop.is_set():
                    self._state.set("ended")
                return

    def _play(self, stop: Event) -> None:
        import cv2

        path = self._spec.path
        if not path.is_file():
            raise coded(DataError(f"{path}: there is no such file."), "path_missing", path=str(path))
        place = hashlib.sha256(bytes(path)).hexdigest()[:16]
        found, about, number, due = False, path.stat(), -1, time.monotonic()
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        try:
            while not stop.is_set() and capture.grab():
                number += 1
                if number % self._spec.step:
                    continue
                there, image = capture.retrieve()
                if there:
                    found = True
                    stop.wait(max(0.0, due - time.monotonic()))
                    due = max(time.monotonic(), due + self._spec.every)
                    key = f"video:{self._line}:{place}:{about.st_mtime_ns}:{about.st_size}:{number}"
                    self._hand_over(image, f"{path.stem}/{number:06d}", None if self._spec.repeat else key, stop)
        finally:
            capture.release()
        if not found and not stop.is_set():
            raise DataError(f"{path}: no image of this video can be read: it is damaged, or coded in an unknown way.")

    def _hand_over(self, image: MatLike, name: str, key: str | None, stop: Event) -> None:
        """Until it is stored; what keeps the station from judging it is waited for."""
        content, backoff = encoded(image), Backoff(1.0, 5.0)
        while not stop.is_set():
            future = handed_over(self._submit, content, stop, line=self._line, name=name, key=key)
            if future is None:
                return
            while not wait_for([future], 0.1).done:
                if stop.is_set():
                    return
            error = future.exception()
            if not isinstance(error, UnavailableError):
                self._state.set("running")
                self._state.count("images" if error is None else "failed")
                return
            self._state.set("waiting", error)
            stop.wait(backoff.next())
