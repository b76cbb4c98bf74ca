"""Hub: what happens, told to everybody who listens."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

_KEPT = 100  # events that wait for a listener; a slower one loses the oldest, and is told so


@dataclass(frozen=True)
class Event:
    """Something that happened: `kind` is the name that listeners choose by, `number` counts since the start."""

    kind: str
    data: dict[str, Any]
    number: int


@dataclass(eq=False)
class _Listener:
    loop: asyncio.AbstractEventLoop
    awake: asyncio.Event
    waiting: deque[Event] = field(default_factory=lambda: deque[Event](maxlen=_KEPT))


class Hub:
    """Tells events to listeners, each in the order in which they were published. `publish` may be called anywhere.

    Attributes:
        start: A name for this start of the station: a page that sees another one knows that the server was restarted.
    """

    def __init__(self) -> None:
        self.start = secrets.token_hex(8)
        self._lock, self._number, self._listeners = Lock(), 0, set[_Listener]()
        self._closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Tell all who listen now. Never waits."""
        with self._lock:
            self._number += 1
            event = Event(kind, data, self._number)
            for listener in list(self._listeners):
                listener.waiting.append(event)
                try:
                    listener.loop.call_soon_threadsafe(listener.awake.set)
                except RuntimeError:  # its loop has ended
                    self._listeners.discard(listener)

    def close(self) -> None:
        """All listening ends."""
        with self._lock:
            self._closed = True
            for listener in self._listeners:
                with suppress(RuntimeError):
                    listener.loop.call_soon_threadsafe(listener.awake.set)

    @contextmanager
    def _listening(self) -> Any:
        listener = _Listener(asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners.add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)

    async def listen(self, every: float = 1.0) -> AsyncIterator[Event | None]:
        """Events from now on; None after so many seconds without one, so that the other side sees that it is connected.

        Numbers that are missing were lost to a listener that was too slow: it asks for the present state again.
        """
        with self._listening() as listener:
            while not self._closed:
                try:
                    await asyncio.wait_for(listener.awake.wait(), every)
                except TimeoutError:
                    yield None
                    continue
                listener.awake.clear()
                while listener.waiting:
                    yield listener.waiting.popleft()
