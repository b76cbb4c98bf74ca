"""Outbox: what is to be said, written in the transaction of the result, and kept until it has been said."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.orm import Session

from patchcore.station.outputs.errors import RefusedError, UnsentError
from patchcore.station.outputs.specs import MqttSpec, Spec, WebhookSpec
from patchcore.station.record import to_dict
from patchcore.station.running import Backoff, State
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Inspection, Message, now

log = logging.getLogger(__name__)
_TOGETHER = 20  # messages that are sent before it is written down that they were
_SLOWEST = 60.0  # seconds between two tries at most
_REFUSALS = 8  # tries of a message that its receiver refuses, rather than one that cannot be reached
_IDLE = 5.0  # seconds between two looks where nothing woke it
_SENT_KEPT, _LOST_KEPT = timedelta(days=7), timedelta(days=30)


def enqueue(session: Session, inspection: Inspection, outputs: Sequence[Spec]) -> None:
    """Write what is to be said of a result, in its transaction; the result has its number already."""
    result: dict[str, Any] | None = None
    for spec in outputs:
        if isinstance(spec, WebhookSpec | MqttSpec):
            result = result or to_dict(inspection)
            if spec.tells(result):
                body = {"message": uuid4().hex, "event": "result", "result": result}
                session.add(Message(output=spec.name, inspection_id=inspection.id, body=body))


class Outbox:
    """Sends the messages of one output, in order, in a thread of its own: a dead receiver holds up no other.

    Each arrives at least once, and more than once where the station was killed, or an answer was lost: `message` in it
    is its id. One that cannot be sent is tried again, after 1, 2, 4 ... 60 seconds, and those behind it wait.

    Args:
        database: Of the station.
        name: Of the output.
        send: Sends a message and returns when the receiver has it. Errors: UnsentError.
        state: Where it says how it is.
        keep: How long it tries; then a message is given up.
        trouble: Why nothing can be sent at the moment, as far as is known without trying.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        send: Callable[[dict[str, Any]], None],
        state: State,
        keep: timedelta,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._database, self._name, self._send, self._state, self._keep = database, name, send, state, keep
        self._trouble, self._failing = trouble, False
        self._stop, self._awake, self._now = threading.Event(), threading.Event(), False
        self._swept = 0.0
        self._thread = threading.Thread(target=self._run, name=f"outbox of {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self, now: bool = False) -> None:
        """There is something new; or, with `now`, the receiver is there again, so that nothing has to wait."""
        self._now |= now
        self._awake.set()

    def stop(self, timeout: float) -> bool:
        """Whether it has ended within that time; a message that is under way then may arrive twice."""
        self._stop.set()
        self._awake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        backoff = Backoff(1.0, 30.0)
        while not self._stop.is_set():
            try:
                wait = self._round()
                backoff.reset()
            except Exception as error:  # the database; or a fault of ours, which must not end the thread
                log.warning("The outbox of %s: %s", self._name, error)
                self._state.set("lost", error)
                wait = backoff.next()
            self._awake.wait(wait)
            self._awake.clear()

    def _round(self) -> float:
        """Send what is due; the seconds after which to look again."""
        self._sweep()
        with self._database.read() as session:
            query = select(Message).where(_waiting(self._name)).order_by(Message.id).limit(_TOGETHER)
            messages = list(session.scalars(query))
        if self._now:
            self._failing = False
        if not messages:
            self._tell()
            return _IDLE
        early = (messages[0].due - now()).total_seconds()
        if early > 0 and not self._now:
            self._tell()
            return min(early, _IDLE)
        self._now = False
        arrived, failed = self._sent(messages)
        with self._database.begin() as session:
            if arrived:
                session.execute(update(Message).where(Message.id.in_([one.id for one in arrived])).values(sent=now()))
            if failed is not None:
                self._failed(session, *failed)
        self._failing = failed is not None
        if failed is not None:
            self._state.set("lost", failed[1])
        else:
            self._tell()
        return 0.0 if arrived or failed is None else min(_IDLE, _after(failed[0].tries + 1))

    def _tell(self) -> None:
        if (why := self._trouble()) is not None:
            self._state.set("lost", why)
        elif not self._failing:
            self._state.set("running")

    def _sent(self, messages: Sequence[Message]) -> tuple[list[Message], tuple[Message, UnsentError] | None]:
        arrived, begin = list[Message](), time.monotonic()
        for one in messages:
            try:
                self._send({**one.body, "time": one.created.isoformat(timespec="milliseconds")})
            except UnsentError as error:
                return arrived, (one, error)
            arrived.append(one)
            if self._stop.is_set() or time.monotonic() - begin > 1:
                break
        return arrived, None

    def _failed(self, session: Session, message: Message, error: UnsentError) -> None:
        tries, moment = message.tries + 1, now()
        due = moment + timedelta(seconds=_after(tries))
        refused = isinstance(error, RefusedError) and tries >= _REFUSALS
        session.execute(
            update(Message)
            .where(Message.id == message.id)
            .values(tries=tries, error=str(error), due=due, given_up=moment if refused else None)
        )
        old = and_(_waiting(self._name), Message.created < moment - self._keep)
        session.execute(update(Message).where(old).values(given_up=moment, error=str(error)))

    def _sweep(self) -> None:
        """Once an hour, forget what was sent or given up long ago."""
        if self._swept and time.monotonic() - self._swept < 3600:
            return
        self._swept = time.monotonic()
        moment = now()
        old = (Message.sent < moment - _SENT_KEPT) | (Message.given_up < moment - _LOST_KEPT)
        some = select(Message.id).where(Message.output == self._name, old).limit(2000)
        while not self._stop.is_set():
            with self._database.begin() as session:
                found = list(session.scalars(some))
                session.execute(delete(Message).where(Message.id.in_(found)))
            if not found:
                return


def _waiting(name: str) -> ColumnElement[bool]:
    return and_(Message.output == name, Message.sent.is_(None), Message.given_up.is_(None))


def _after(tries: int) -> float:
    """Seconds until the next try."""
    return float(min(_SLOWEST, 2.0 ** (min(tries, 10) - 1)))


def backlog(session: Session, name: str) -> dict[str, Any]:
    """What waits for an output: how many messages, since when; and how many were given up, and why the last one."""
    waiting, oldest = session.execute(select(func.count(), func.min(Message.created)).where(_waiting(name))).one()
    lost = and_(Message.output == name, Message.given_up.is_not(None))
    given_up = session.scalar(select(func.count()).where(lost))
    why = session.scalar(select(Message.error).where(lost).order_by(Message.id.desc()).limit(1))
    since: datetime | None = oldest
    return {
        "waiting": waiting,
        "oldest": since and since.isoformat(timespec="seconds"),
        "given_up": given_up,
        "given_up_why": why or "",
    }


def abandon(session: Session, names: Sequence[str]) -> None:
    """Give up what waits for outputs that are there no more; `names` are those that are."""
    left = and_(Message.output.not_in(names), Message.sent.is_(None), Message.given_up.is_(None))
    session.execute(update(Message).where(left).values(given_up=now(), error="This output was removed."))
