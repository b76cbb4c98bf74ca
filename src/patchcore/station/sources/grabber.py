"""Grabber: a camera that is read all the time, so that no old image waits in a buffer, and opened again when lost."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from patchcore.station.errors import UnavailableError, coded
from patchcore.station.running import Backoff

if TYPE_CHECKING:
    import cv2

_OPENING = 5000  # milliseconds that a camera on the network may take to answer


def shown_address(address: int | str) -> str:
    """The address without the user and password that it may hold."""
    if isinstance(address, int):
        return f"camera {address}"
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class Grabber:
    """Reads a camera in a thread of its own. Images that nobody wants are dropped, most of them undecoded.

    Args:
        address: As `CameraSpec.address`.
        silence: Seconds without an image after which the camera is lost.
    """

    def __init__(self, address: int | str, silence: float) -> None:
        self._address, self._silence = address, silence
        self._stop, self._changed = threading.Event(), threading.Condition()
        self._number = 0  # of the last image; never begins again
        self._wanted: int | None = None
        self._frame: tuple[int, cv2.typing.MatLike] | None = None
        self._lost: str | None = None
        self._last: float | None = None  # time of the last image, or of opening; None while it is not open
        self._came = False  # an image, since it was opened
        self._thread = threading.Thread(target=self._run, name=f"{shown_address(address)}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """The thread ends with the next image, or when the camera's driver gives up waiting for one."""
        self._stop.set()
        self._thread.join(timeout)

    @property
    def trouble(self) -> str | None:
        """Why there are no images; None while they come."""
        if self._lost is not None:
            return self._lost
        if (last := self._last) is not None and time.monotonic() - last > self._silence:
            return f"{shown_address(self._address)} has sent no image for {self._silence:g} s. Is it connected?"
        return None

    @property
    def ready(self) -> bool:
        """Whether an image has come since the camera was opened."""
        return self._came

    def take(self, skip: int, timeout: float) -> cv2.typing.MatLike:
        """The first image whose reading begins after this call, or a later one. For one caller at a time.

        Args:
            skip: Images to leave out first; -1 takes even the one that is being read, and was exposed before the call.
            timeout: Seconds.

        Returns:
            (H, W, 3) uint8; blue, green, red.

        Raises:
            UnavailableError: The camera is lost, or sends none in that time.
        """
        end = time.monotonic() + timeout
        with self._changed:
            self._want(self._number + 2 + skip)
            try:
                while self._frame is None:
                    if (why := self.trouble) is not None:
                        raise coded(UnavailableError(why), "camera_lost", why=why)
                    if (left := end - time.monotonic()) <= 0:
                        text = f"{shown_address(self._address)} sent no image within {timeout:g} s."
                        raise coded(UnavailableError(text), "camera_lost", why=text)
                    self._changed.wait(min(left, 0.1))
                return self._frame[1]
            finally:
                self._want(None)

    def _want(self, number: int | None) -> None:
        self._wanted, self._frame = number, None

    def _run(self) -> None:
        import cv2

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the state says it, once and not at each try
        backoff = Backoff(0.25, 3.0)
        while not self._stop.is_set():
            capture = None
            try:
                self._last, self._came = None, False
                capture = self._open()
                if capture.isOpened():
                    self._last = time.monotonic()
                    self._read(capture, backoff)
                    self._lose("sends no more images. Is it connected, and switched on?")
                else:
                    self._lose("cannot be opened. Is it connected, switched on, and used by nobody else?")
            except Exception as error:
                self._lose(f"failed: {error}")
            finally:
                if capture is not None:
                    capture.release()
            self._stop.wait(backoff.next())

    def _open(self) -> cv2.VideoCapture:
        import cv2

        if isinstance(self._address, int):
            capture = cv2.VideoCapture(self._address)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            return capture
        options = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPENING,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * self._silence),
            cv2.CAP_PROP_N_THREADS, 1,  # with more, the decoder holds as many images back
        ]  # fmt: skip
        return cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, options)

    def _read(self, capture: cv2.VideoCapture, backoff: Backoff) -> None:
        while not self._stop.is_set() and capture.grab():
            with self._changed:
                self._number += 1
                self._last, self._lost, self._came = time.monotonic(), None, True
                backoff.reset()
                if self._wanted is None or self._number < self._wanted or self._frame is not None:
                    continue
            there, frame = capture.retrieve()
            if not there:
                return
            with self._changed:
                self._frame = self._number, frame
                self._changed.notify_all()

    def _lose(self, why: str) -> None:
        with self._changed:
            self._lost = None if self._stop.is_set() else f"{shown_address(self._address)} {why}"
            self._changed.notify_all()
