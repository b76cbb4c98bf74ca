"""Submit: how a source hands over an image."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Event
from typing import Any, Protocol

from patchcore.station.errors import BusyError

Stored = dict[str, Any]  # a result, as `station.record.to_dict` gives it


class Submit(Protocol):
    """As `Inspector.submit`: raises BusyError; the future raises UnavailableError while the station cannot inspect, and
    ImageError or another error for an image that cannot be inspected."""

    def __call__(
        self, content: bytes, *, line: int, name: str = "", part: str | None = None, key: str | None = None
    ) -> Future[Stored]: ...


class Source(Protocol):
    """What brings images to a line: `run` ends when it is told to stop, at the source's end, or with an error."""

    def run(self, stop: Event) -> None: ...


def handed_over(
    submit: Submit,
    content: bytes,
    stop: Event,
    *,
    line: int,
    name: str,
    part: str | None = None,
    key: str | None = None,
) -> Future[Stored] | None:
    """Submit an image, and wait as long as the queue is full; None if it was stopped first."""
    while not stop.is_set():
        try:
            return submit(content, line=line, name=name, part=part, key=key)
        except BusyError as busy:
            stop.wait(busy.retry)
    return None
