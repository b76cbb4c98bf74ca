"""Trail: what was done, by whom and when, in rows that are chained by their hashes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from patchcore.station.store.tables import Entry, now


def record(
    session: Session, who: str, action: str, subject: str = "", *, why: str = "", detail: dict[str, Any] | None = None
) -> Entry:
    """Add a row, in the transaction of what it tells of."""
    number = (session.scalar(select(func.max(Entry.number))) or 0) + 1
    entry = Entry(number=number, time=now(), who=who, action=action, subject=subject, why=why, detail=detail or {},
                  before="", hash=str(number))  # fmt: skip
    session.add(entry)
    return entry
