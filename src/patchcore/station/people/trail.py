"""Trail: what was done, by whom and when, in rows that are chained by their hashes."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from patchcore.station.store.tables import Entry


def record(
    session: Session, who: str, action: str, subject: str = "", *, why: str = "", detail: dict[str, Any] | None = None
) -> Entry:
    """Add a row, in the transaction of what it tells of."""
    raise NotImplementedError
