"""Keeper: runs the source of each line in a thread of its own, and begins again when one fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from patchcore.errors import PatchcoreError
from patchcore.station.errors import UnavailableError, coded
from patchcore.station.running import Backoff, State
from patchcore.station.sources.camera import CameraSource
from patchcore.station.sources.folder import FolderSource
from patchcore.station.sources.specs import CameraSpec, FolderSpec, Nothing, VideoSpec
from patchcore.station.sources.submit import Source, Stored, Submit
from patchcore.station.sources.triggers import trigger_of
from patchcore.station.sources.video import VideoSource
from patchcore.station.store.database import Database

log = logging.getLogger(__name__)
Spec = Nothing | FolderSpec | CameraSpec | VideoSpec
_CALM = 60.0  # seconds after which a source that fails again is begun again at once


class Keeper:
    """The sources of all lines.

    Args:
        submit: Takes their images.
        database: Where positions are kept.
        tell: Called with a line and the state of its source, whenever that changes.
        limit: Bytes of one image file at most.
    """

    def __init__(
        self, submit: Submit, database: Database, tell: Callable[[int, dict[str, Any]], None], limit: int = 50_000_000
    ) -> None:
        self._submit, self._database, self._tell, self._limit = submit, database, tell, limit
        self._lock, self._kept = threading.Lock(), dict[int, _Kept]()

    @property
    def states(self) -> dict[int, dict[str, Any]]:
        """By line: how each source is now."""
        return {line: kept.to_dict() for line, kept in self._kept.copy().items()}

    def set(self, line: int, spec: Spec, timeout: float = 8.0) -> None:
        """From now on the line has this source; one that it had is stopped first, for which so many seconds are waited.

        Errors: UnavailableError if that one does not end: the new one is not begun, as there would be two.
        """
        with self._lock:
            if (old := self._kept.get(line)) is not None:
                old.stop.set()
                if not old.end(timeout):
                    text = f"The source of line {line} is still busy: {old.state}. Try again."
                    raise coded(UnavailableError(text), "source_busy")
                del self._kept[line]
            if isinstance(spec, Nothing):
                self._tell(line, {"kind": "none", "state": "off", "why": ""})
                return
            self._kept[line] = _Kept(line, spec, self)
            self._kept[line].thread.start()

    def shoot(self, line: int, part: str | None = None, key: str | None = None) -> Future[Stored]:
        """Take an image with the camera of a line. Errors: UnavailableError, BusyError."""
        kept = self._kept.get(line)
        source = kept.source if kept is not None else None
        if not isinstance(source, CameraSource):
            raise coded(UnavailableError(f"Line {line} has no camera that runs."), "no_camera")
        return source.shoot(part, key)

    def close(self, timeout: float = 8.0) -> list[int]:
        """Stop all. Returns the lines whose source did not end in that time; their threads hold up nothing."""
        end = time.monotonic() + timeout
        with self._lock:
            for kept in self._kept.values():
                kept.stop.set()
            return [line for line, kept in self._kept.items() if not kept.end(max(0.0, end - time.monotonic()))]

    def made(self, spec: FolderSpec | CameraSpec | VideoSpec, line: int, state: State) -> Source:
        """The source that the settings ask for."""
        if isinstance(spec, FolderSpec):
            return FolderSource(spec, line, self._submit, self._database, state, self._limit)
        if isinstance(spec, VideoSpec):
            return VideoSource(spec, line, self._submit, state)
        return CameraSource(spec, line, self._submit, state)


class _Kept:
    """A source, its thread and its states."""

    def __init__(self, line: int, spec: FolderSpec | CameraSpec | VideoSpec, keeper: Keeper) -> None:
        self.line, self.spec, self._keeper = line, spec, keeper
        self.stop = threading.Event()
        self.source: Source | None = None
        self.trigger: State | None = None
        self.state = State(spec.kind, lambda _: self._told())
        self.thread = threading.Thread(target=self._run, name=f"source of line {line}", daemon=True)

    def to_dict(self) -> dict[str, Any]:
        return {**self.state.to_dict(), **({"trigger": self.trigger.to_dict()} if self.trigger else {})}

    def end(self, timeout: float) -> bool:
        """Whether the thread ends within that time."""
        if self.thread.is_alive():
            self.thread.join(timeout)
        return not self.thread.is_alive()

    def _told(self) -> None:
        self._keeper._tell(self.line, self.to_dict())

    def _run(self) -> None:
        backoff = Backoff(1.0, 30.0)
        while not self.stop.is_set():
            begin = time.monotonic()
            try:
                self._once()
                if not self.stop.is_set():
                    return  # it has come to its end
            except Exception as error:
                if not isinstance(error, PatchcoreError):
                    log.exception("The source of line %s failed", self.line)
                self.state.set("lost", error)
            if time.monotonic() - begin > _CALM:
                backoff.reset()
            self.stop.wait(backoff.next())
        self.state.set("off")

    def _once(self) -> None:
        source = self.source = self._keeper.made(self.spec, self.line, self.state)
        trigger = None
        try:
            if isinstance(source, CameraSource) and isinstance(self.spec, CameraSpec) and self.spec.trigger is not None:
                self.trigger = State(self.spec.trigger.kind, lambda _: self._told())
                trigger = trigger_of(self.spec.trigger, source.shoot, self.trigger)
                trigger.start()
            source.run(self.stop)
        finally:
            self.source = None
            if trigger is not None:
                trigger.stop(2.0)
