"""Retention: what is kept for how long. What waits for a person is never deleted."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, and_, delete, select
from sqlalchemy.orm import Session

from patchcore.errors import PatchcoreError
from patchcore.station.store.database import Database
from patchcore.station.store.files import Files
from patchcore.station.store.tables import Inspection, Login, Review, Setting, now

log = logging.getLogger(__name__)
_NAME = "retention"
_EVERY = 3600.0  # seconds
_PAGE = 200  # images that are deleted in one transaction
_YOUNG = timedelta(hours=1)  # a file this young may belong to a result that is being stored


class Retention(BaseModel):
    """How many days images are kept; None: for ever. What was said of them, in words and figures, stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    passed_days: float | None = Field(default=None, gt=0, le=36_500, description="Images of parts that passed.")
    other_days: float | None = Field(default=None, gt=0, le=36_500, description="Others, once they are decided.")


class Sweeper:
    """Deletes what the rules let go, once an hour.

    An image file goes first and its row says so then: after a crash between the two the next round ends it. Files that
    no row names, which a crash can leave, go too.
    """

    def __init__(self, database: Database, files: Files) -> None:
        self._database, self._files = database, files
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def rules(self) -> Retention:
        with self._database.read() as session:
            kept = session.get(Setting, _NAME)
        return Retention(**kept.value) if kept is not None else Retention()

    def _work(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                self.sweep()
            except Exception as error:  # the next round tries again
                log.warning("Retention: %s", error)

    def sweep(self, at: datetime | None = None) -> int:
        """Delete what may go at a time, now by default; returns how many images went."""
        at, rules = at or now(), self.rules()
        gone = 0
        if rules.passed_days is not None:
            old = Inspection.time < at - timedelta(days=rules.passed_days)
            gone += self._delete(and_(old, Inspection.verdict == "pass", Inspection.review == Review.none))
        if rules.other_days is not None:
            old = Inspection.time < at - timedelta(days=rules.other_days)
            gone += self._delete(and_(old, Inspection.review.not_in((Review.none, Review.open))))
        with self._database.begin() as session:
            session.execute(delete(Login).where(Login.expires < at - timedelta(days=30)))
        return gone + self._orphans(at)

    def _delete(self, which: ColumnElement[bool]) -> int:
        gone = 0
        while not self._stop.is_set():
            with self._database.begin() as session:
                query = select(Inspection).where(which, Inspection.image != "").order_by(Inspection.id).limit(_PAGE)
                rows = session.scalars(query).all()
                for row in rows:
                    self._files.delete(row.image)
                    row.image, row.scores, row.rows = "", b"", b""
            gone += len(rows)
            if len(rows) < _PAGE:
                break
        return gone

    def _orphans(self, at: datetime) -> int:
        """Image files that no row names."""
        gone = 0
        for name, changed in self._files.all("images"):
            if datetime.fromtimestamp(changed, UTC) > at - _YOUNG:
                continue
            with self._database.read() as session:
                known = session.scalar(select(Inspection.id).where(Inspection.image == name).limit(1))
            if known is None:
                try:
                    self._files.delete(name)
                    gone += 1
                except PatchcoreError as error:
                    log.warning("%s", error)
        return gone


def set_rules(session: Session, rules: Retention) -> None:
    session.merge(Setting(name=_NAME, value=rules.model_dump()))
