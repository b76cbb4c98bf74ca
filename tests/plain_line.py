"""What tests of sources and outputs share: a line that judges with a real detector, and waiting for what happens."""

import queue
import threading
import time
from concurrent.futures import Future

import cv2
import numpy as np

from patchcore import Detector, ImageError
from patchcore.station.errors import BusyError


def until(true, seconds=20.0):
    """Wait until something is true, and return it. What never comes fails the test."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
    return found


def png(seed: int = 0, side: int = 48) -> bytes:
    """An image file; each seed gives another one."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


class PlainLine:
    """As the way of one image through the station, in memory: a queue, a detector, and what was stored, by key too.

    `stored` is what survives a restart of the station.
    """

    def __init__(self, detector: Detector, stored: list[dict] | None = None, room: int = 32) -> None:
        self.detector, self.stored, self.refusing = detector, [] if stored is None else stored, None
        self.open = threading.Event()  # cleared: nothing is judged
        self.open.set()
        self._queue: queue.Queue = queue.Queue(room)
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def names(self):
        return [one["name"] for one in self.stored]

    def submit(self, content, *, line, name="", part=None, key=None):
        future = Future()
        try:
            self._queue.put_nowait((content, line, name, part, key, future))
        except queue.Full:
            raise BusyError(self._queue.qsize(), 0.01) from None
        return future

    def close(self):
        self.open.set()
        self._queue.put(None)

    def _work(self):
        while (one := self._queue.get()) is not None:
            content, line, name, part, key, future = one
            self.open.wait()
            known = [done for done in self.stored if key is not None and done["key"] == key]
            try:
                if self.refusing is not None:
                    raise self.refusing
                result = None if known else self.detector.predict(content)
            except Exception as error:
                future.set_exception(ImageError(name, error.reason) if isinstance(error, ImageError) else error)
                continue
            if result is not None:
                told = {"id": len(self.stored) + 1, "line": line, "name": name, "part": part, "key": key}
                self.stored.append({**told, "verdict": result.decision, "score": result.score, "content": content})
            found = known[0] if known else self.stored[-1]
            future.set_result({**found, "replayed": True} if known else found)
