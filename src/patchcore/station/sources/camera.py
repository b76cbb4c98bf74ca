"""Camera: takes images in turn, or when it is asked for one; always a fresh one."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING

from patchcore.errors import ImageError
from patchcore.station.errors import BusyError, UnavailableError, coded
from patchcore.station.running import State
from patchcore.station.sources.grabber import Grabber
from patchcore.station.sources.specs import CameraSpec
from patchcore.station.sources.submit import Stored, Submit

if TYPE_CHECKING:
    from cv2.typing import MatLike

_TICK = 0.2  # seconds between two looks at how the camera is
_AHEAD = 2  # images with the engine: one is judged while the next one is taken
_LAST = 6.0  # seconds that a camera's driver may take to return from a read that nobody wants any more
_PATIENCE = 5.0  # seconds that an image somebody has asked for may wait for the camera, and for room in the queue


def encoded(image: MatLike) -> bytes:
    """A PNG file with exactly these pixels; (H, W, 3) uint8, blue first, as OpenCV has them."""
    import cv2

    there, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not there:
        raise ImageError("camera", f"no PNG can be made of an image of {image.shape}.")
    return data.tobytes()


class CameraSource:
    """Hands over images of a camera. In turn, the latest one counts: those that nobody could take are gone.

    Args:
        spec: Its settings.
        line: Where its images are inspected.
        submit: Takes them.
        state: Where it says how it is: `lost` within `spec.silence` seconds of the last image, and `running` again with
            the next one.
    """

    def __init__(self, spec: CameraSpec, line: int, submit: Submit, state: State) -> None:
        self._spec, self._line, self._submit, self._state = spec, line, submit, state
        self._grabber = Grabber(spec.address, spec.silence)
        self._taking = threading.Lock()
        self._flying = deque[Future[Stored]]()
        self._trouble: BaseException | None = None  # why the station does not judge the images

    def run(self, stop: Event) -> None:
        self._grabber.start()
        due = time.monotonic()
        try:
            while not stop.is_set():
                self._tell()
                now = time.monotonic()
                if self._spec.every is None or self._grabber.trouble or not self._grabber.ready:
                    stop.wait(_TICK)
                elif due > now:
                    stop.wait(min(_TICK, due - now))
                elif self._free() and self._next():
                    due = max(now, due + self._spec.every)
        finally:
            self._grabber.stop(_LAST)

    def shoot(self, part: str | None = None, key: str | None = None) -> Future[Stored]:
        """Take an image now and hand it over; the call returns when it is taken, the future has the result.

        Raises:
            UnavailableError: The camera is lost, or still busy with another image.
            BusyError: The queue stays full.
        """
        if not self._taking.acquire(timeout=2 * _TICK):
            raise coded(UnavailableError("The camera is still taking the image before."), "camera_busy")
        try:
            image = self._grabber.take(self._spec.flush, _PATIENCE)
        finally:
            self._taking.release()
        content, name, end = encoded(image), self._name(), time.monotonic() + _PATIENCE
        while True:
            try:
                return self._counted(self._submit(content, line=self._line, name=name, part=part, key=key))
            except BusyError as busy:
                if time.monotonic() + busy.retry > end:
                    raise
                time.sleep(busy.retry)

    def _next(self) -> bool:
        """One image in turn; False if none could be taken."""
        if not self._taking.acquire(timeout=_TICK):
            return False
        try:
            image = self._grabber.take(-1, _TICK)
        except UnavailableError:  # the state says why
            return False
        finally:
            self._taking.release()
        try:
            self._flying.append(self._counted(self._submit(encoded(image), line=self._line, name=self._name())))
        except BusyError:
            self._state.count("dropped")
        return True

    def _free(self) -> bool:
        while self._flying and self._flying[0].done():
            self._flying.popleft()
        if len(self._flying) < _AHEAD:
            return True
        wait_for(self._flying, _TICK, FIRST_COMPLETED)
        return False

    def _counted(self, future: Future[Stored]) -> Future[Stored]:
        future.add_done_callback(self._answered)
        return future

    def _answered(self, future: Future[Stored]) -> None:
        error = None if future.cancelled() else future.exception()
        self._trouble = error
        self._state.count("images" if error is None else "failed")

    def _tell(self) -> None:
        if (why := self._grabber.trouble) is not None:
            self._state.set("lost", coded(UnavailableError(why), "camera_lost", why=why))
        elif not self._grabber.ready:
            self._state.set("waiting", coded(UnavailableError("the camera is being opened"), "camera_opened"))
        elif self._trouble is not None:
            self._state.set("waiting", self._trouble)
        else:
            self._state.set("running")

    def _name(self) -> str:
        return f"camera {datetime.now(UTC).isoformat(timespec='milliseconds')}"
