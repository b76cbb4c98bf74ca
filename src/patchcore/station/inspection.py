"""Inspection: the way of one image, from its source to a verdict that is stored, and only then told to anybody.

submit -> queue -> Detector.predict -> image file, row and outbox in one transaction -> hub, outputs, the caller
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.errors import ImageError, PatchcoreError, StoreError
from patchcore.result import Result
from patchcore.station.errors import BusyError, ConflictError, NoModelError, UnavailableError, coded, told
from patchcore.station.hub import Hub
from patchcore.station.models import Models
from patchcore.station.record import inspected, to_dict
from patchcore.station.settings import Settings
from patchcore.station.store.database import Database
from patchcore.station.store.files import Files
from patchcore.station.store.tables import Inspection, Line, Model

log = logging.getLogger(__name__)
_TOGETHER = 4  # images that the engine takes at a time, if so many wait
_WATCHED = 1.0  # seconds between two images that are watched while others wait
_SLOWEST = 60.0  # seconds that a caller is told to wait at most

Stored = dict[str, Any]


@dataclass(eq=False)
class _Waiting:
    content: bytes
    line: int
    name: str
    part: str | None
    key: str | None
    future: Future[Stored] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class Inspector:
    """Takes images from its queue to stored results, one after the other, in a thread of its own.

    Args:
        settings, database, files, models, hub: Of the station.
        enqueue: Called in the transaction of each result: what is to be said of it to machines, later.
        announce: Called after it, with what was stored.
        watch: Called after that: is the line still as it was?
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        files: Files,
        models: Models,
        hub: Hub,
        *,
        enqueue: Callable[[Session, Inspection], None] = lambda session, inspection: None,
        announce: Callable[[Stored], None] = lambda stored: None,
        watch: Callable[[Line, Result], None] = lambda line, result: None,
    ) -> None:
        self._settings, self._database, self._files = settings, database, files
        self._models, self._hub = models, hub
        self._enqueue, self._announce, self._watch = enqueue, announce, watch
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(settings.queue)
        self._lock, self._keys, self._pace = threading.Lock(), dict[str, _Waiting](), 0.1
        self._closed, self._watched = False, 0.0
        self.trouble: dict[str, Any] | None = None  # why the last image could not be inspected, as `told` says it
        self._thread = threading.Thread(target=self._work, name="inspection", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it takes images."""
        return self._thread.is_alive() and not self._closed

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def submit(
        self, content: bytes, *, line: int, name: str = "", part: str | None = None, key: str | None = None
    ) -> Future[Stored]:
        """Put an image into the queue; the future has its result once that is stored.

        Args:
            content: The bytes of an image file.
            line: Whose model judges it.
            name: What the source calls it.
            part: The part that it shows, if that is known.
            key: The same key gives the same result, without another inspection, however often it is sent.

        Raises:
            BusyError: Too many wait.
            UnavailableError: The station is being stopped.

        The future raises ImageError for an image that cannot be read, UnavailableError, or ConflictError.
        """
        one = _Waiting(content, line, name, part, key)
        with self._lock:
            if self._closed:
                raise coded(UnavailableError("The station is being stopped."), "stopping")
            if key is not None and (same := self._keys.get(key)) is not None:
                if same.sha256 == one.sha256:
                    return same.future
                text = f"The idempotency key {key!r} is in use for another image. Take a new one."
                raise coded(ConflictError(text), "key_used", key=key)
            try:
                self._queue.put_nowait(one)
            except queue.Full:
                waiting = self._queue.qsize()
                retry = min(_SLOWEST, max(1.0, waiting * self._pace))
                busy = BusyError(f"{waiting} images are waiting already. Try again in {retry:.0f} s.", retry)
                raise coded(busy, "busy", waiting=waiting, seconds=round(retry)) from None
            if key is not None:
                self._keys[key] = one
        return one.future

    def close(self) -> None:
        """Finish what waits, and stop."""
        with self._lock:
            self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, last = [first], False
            while len(batch) < _TOGETHER:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                batch.append(more)
            begin = time.monotonic()
            for line in dict.fromkeys(one.line for one in batch):
                self._inspect(line, [one for one in batch if one.line == line])
            self._pace = 0.8 * self._pace + 0.2 * (time.monotonic() - begin) / len(batch)
            if last:
                return

    def _inspect(self, number: int, batch: list[_Waiting]) -> None:
        """Judge images of one line, store the results, and tell them. Whatever happens, every caller gets an answer."""
        try:
            fresh = self._without_known(batch)
            if fresh:
                line, detector = self._ready(number)
                model = line.model
                assert model is not None
                results = self._judge(detector, fresh)
                stored = self._store(line, model, results)
                self.trouble = None
                for (one, result), said in zip(results, stored, strict=True):
                    self._hub.publish("result", said)
                    self._announce(said)
                    self._answer(one, said)
                    self._look_after(line, result)
                self._shadow(line, results, stored)
        except NoModelError as error:  # no trouble of the station
            self._refuse(batch, error)
        except (StoreError, UnavailableError, DBAPIError, OSError) as error:
            self.trouble = said = told(error)
            self._hub.publish("trouble", {"line": number, **said})
            if not isinstance(error, UnavailableError):
                error = coded(UnavailableError(said["text"]), said["code"], **said["values"])
            self._refuse(batch, error)
        except Exception as error:
            log.exception("An inspection failed")
            self._refuse(batch, error)

    def _look_after(self, line: Line, result: Result) -> None:
        """Whether the line is as it was. Not every image is looked at while others wait, but one in a second."""
        if self._queue.empty() or time.monotonic() - self._watched > _WATCHED:
            self._watched = time.monotonic()
            self._watch(line, result)

    def _refuse(self, batch: Sequence[_Waiting], error: Exception) -> None:
        for one in batch:
            if not one.future.done():
                self._answer(one, error)

    def _answer(self, one: _Waiting, answer: Stored | Exception) -> None:
        with self._lock:
            if one.key is not None:
                self._keys.pop(one.key, None)  # from now on, what is stored answers for it
        if one.future.done():  # a shadow's error is nobody's answer
            return
        if isinstance(answer, Exception):
            one.future.set_exception(answer)
        else:
            one.future.set_result(answer)

    def _without_known(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Those whose key has no result yet; the others are answered."""
        keys = [one.key for one in batch if one.key is not None]
        if not keys:
            return batch
        with self._database.read() as session:
            found = {one.key: one for one in session.scalars(select(Inspection).where(Inspection.key.in_(keys)))}
            for one in batch:
                if one.key is not None and (known := found.get(one.key)) is not None:
                    if known.sha256 == one.sha256:
                        self._answer(one, {**to_dict(known), "replayed": True})
                    else:
                        text = f"The idempotency key {one.key!r} was used for another image. Take a new one."
                        self._answer(one, coded(ConflictError(text), "key_used", key=one.key))
        return [one for one in batch if not one.future.done()]

    def _ready(self, number: int) -> tuple[Line, Any]:
        with self._database.read() as session:
            line = session.get(Line, number)
        if line is None:
            raise coded(UnavailableError(f"There is no line {number}."), "no_line", line=str(number))
        if line.model is None:
            text = f"Line {line.name} has no model yet. Teach one, or import a file."
            raise coded(NoModelError(text), "no_model", line=line.name)
        return line, self._models.detector(line.model)

    def _judge(self, detector: Any, batch: list[_Waiting]) -> list[tuple[_Waiting, Result]]:
        bad = dict[str, ImageError]()
        # Opened, as short bytes may be a path: nobody reads the station's own files by sending their names.
        samples = [Sample(str(number), io.BytesIO(one.content)) for number, one in enumerate(batch)]
        reading = Reading(
            max_pixels=self._settings.pixels,
            on_bad=lambda error: bad.setdefault(error.name, error),
            threads=min(len(batch), self._settings.threads or os.cpu_count() or 1),
        )
        found = {result.name: result for result in detector.predict(samples, reading=reading)}
        for name, error in bad.items():
            one = batch[int(name)]
            self._answer(one, ImageError(one.name or "the image", error.reason))
        return [(batch[int(name)], result) for name, result in found.items()]

    def _store(self, line: Line, model: Model, results: Sequence[tuple[_Waiting, Result]]) -> list[Stored]:
        """Image files first, then all rows in one transaction: a row never names a file that is not there."""
        rows = list[Inspection]()
        written = list[str]()
        try:
            for one, result in results:
                place = f"images/{one.time:%Y/%m/%d}/{uuid4().hex}"
                self._files.add(place, one.content)
                written.append(place)
                row = inspected(result, one.sha256, place, name=one.name, part=one.part, key=one.key)
                row.line_id, row.model_id, row.time = line.id, model.id, one.time
                row.waited = max(0.0, time.monotonic() - one.arrived - result.seconds)
                rows.append(row)
            with self._database.begin() as session:
                session.add_all(rows)
                session.flush()
                for row in rows:
                    self._enqueue(session, row)
        except BaseException:
            for place in written:
                with suppress(StoreError):
                    self._files.delete(place)
            raise
        for row in rows:
            row.line, row.model = line, model
        return [to_dict(row) for row in rows]

    def _shadow(self, line: Line, results: Sequence[tuple[_Waiting, Result]], stored: Sequence[Stored]) -> None:
        """What the shadow model says, after everybody has been answered; left out while many wait."""
        if line.shadow is None or self._queue.qsize() * 2 > self._settings.queue:
            return
        try:
            detector = self._models.detector(line.shadow)
            again = self._judge(detector, [one for one, _ in results])
        except PatchcoreError as error:
            self._hub.publish("trouble", {"line": line.id, "of": "shadow", **told(error)})
            return
        with self._database.begin() as session:
            numbers = {id(one): said["id"] for (one, _), said in zip(results, stored, strict=True)}
            for one, result in again:
                if (row := session.get(Inspection, numbers[id(one)])) is not None:
                    row.shadow = {
                        "model_id": line.shadow_id, "score": result.score, "verdict": result.decision,
                        "threshold": result.threshold,
                    }  # fmt: skip
