"""Running: what works beside the server for days; it says how it is, and begins again when it fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from patchcore.errors import PatchcoreError
from patchcore.station.errors import told

log = logging.getLogger(__name__)
Condition = Literal["running", "waiting", "lost", "ended", "off"]
T = TypeVar("T")


class State:
    """How something is, at this moment; all who ask get the same answer.

    Conditions: `running`; `waiting`: it works, but has to wait for something; `lost`: what it needs is not there, and
    it tries again by itself; `ended`: it came to its end; `off`. `why` says for what, and what to do.

    Args:
        kind: What it is: `folder`, `camera`, `webhook` ...
        tell: Called with `to_dict()` whenever the condition or its reason changes, and not for counts.
    """

    def __init__(self, kind: str, tell: Callable[[dict[str, Any]], None] = lambda state: None) -> None:
        self._tell, self._lock = tell, threading.Lock()
        self._now: dict[str, Any] = {
            "kind": kind, "state": "waiting", "why": "starting", "since": _now(), "code": "starting", "values": {},
        }  # fmt: skip
        self._about: dict[str, Any] = {}

    def __str__(self) -> str:
        why = self._now["why"]
        return f"{self._now['state']}: {why}" if why else str(self._now["state"])

    @property
    def condition(self) -> Condition:
        return self._now["state"]

    def set(self, condition: Condition, why: str | BaseException = "") -> None:
        """It is so now; `why`: the reason in words, or an error, whose code pages can say in other languages."""
        said = {"text": why, "code": "", "values": {}} if isinstance(why, str) else told(why)
        with self._lock:
            if (condition, said["text"]) == (self._now["state"], self._now["why"]):
                return
            since = self._now["since"] if condition == self._now["state"] else _now()
            self._now |= {"state": condition, "why": said["text"], "since": since}
            self._now |= {"code": said["code"], "values": said["values"]}
        try:
            self._tell(self.to_dict())
        except Exception as error:  # who listens has troubles of their own: they must not end what runs
            log.warning("The state %s of a %s was not told: %s", self, self._now["kind"], error)

    def put(self, name: str, value: object) -> None:
        """Something to be shown beside the condition."""
        with self._lock:
            self._about[name] = value

    def count(self, name: str) -> None:
        with self._lock:
            self._about[name] = self._about.get(name, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        with self._lock:
            return {**self._now, **self._about}


def troubled(about: str, name: str, state: dict[str, Any]) -> dict[str, Any]:
    """Of a state that is `lost`: whose it is, and why, as `errors.told` has it."""
    return {"about": about, "of": name, "text": state["why"], "code": state.get("code", ""),
            "values": state.get("values", {})}  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Backoff:
    """Seconds to wait before the next try: twice as long after each failure, up to a limit."""

    def __init__(self, first: float = 0.5, most: float = 10.0) -> None:
        self.first, self.most, self._next = first, most, first

    def next(self) -> float:
        now, self._next = self._next, min(self.most, 2 * self._next)
        return now

    def reset(self) -> None:
        self._next = self.first


class Loop:
    """An event loop in a thread of its own, for clients and servers that are written that way.

    Args:
        name: Of the thread.
        main: What it runs, until `stop` cancels it; again, after a wait, whenever it ends or fails.
        failed: Called with the reason, when it does.
    """

    def __init__(self, name: str, main: Callable[[], Coroutine[Any, Any, None]], failed: Callable[[str], None]) -> None:
        self._main, self._failed, self._ready = main, failed, threading.Event()
        self._backoff = Backoff()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        async def main() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            self._ready.set()
            with suppress(asyncio.CancelledError):
                while True:
                    await self._once()
                    await asyncio.sleep(self._backoff.next())

        asyncio.run(main())

    async def _once(self) -> None:
        try:
            await self._main()
        except Exception as error:
            if not isinstance(error, PatchcoreError | OSError):
                log.exception("%s failed", self._thread.name)
            self._failed(str(error) or type(error).__name__)

    def up(self) -> None:
        """What it runs works: after the next failure it begins again at once."""
        self._backoff.reset()

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run something in the loop, from another thread. Errors: its own; TimeoutError; RuntimeError once stopped."""
        if self._loop is None or not self._thread.is_alive():
            work.close()
            raise RuntimeError("It has been stopped.")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise

    def soon(self, work: Callable[[], object]) -> None:
        """Call something in the loop, without waiting for it; nothing happens once it has stopped."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(work)

    def stop(self, timeout: float) -> bool:
        """Whether it has ended within that time, in seconds."""
        if self._task is not None:
            self.soon(self._task.cancel)
        self._thread.join(timeout)
        return not self._thread.is_alive()
