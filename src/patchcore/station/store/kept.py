"""Kept: what people have set for the whole station, by name."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from patchcore.station.store.tables import Setting


def kept(session: Session, name: str, first: dict[str, Any]) -> Setting:
    """The setting of that name, in a transaction that writes; a new one with the value `first` where there is none."""
    row = session.get(Setting, name)
    if row is None:
        session.add(row := Setting(name=name, value=first))
    return row
