"""Keys: how machines say who they are. A key is shown once; the database has only its hash."""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import select, update

from patchcore.station.errors import ConflictError, MissingError, coded
from patchcore.station.people import trail
from patchcore.station.people.accounts import name_of
from patchcore.station.people.sessions import token_hash
from patchcore.station.store.database import Database
from patchcore.station.store.tables import ApiKey, Role, now

PREFIX = "pc_"
_USED = timedelta(minutes=1)  # `used` is written no more often


def make(database: Database, who: str, name: str, role: Role, *, why: str = "") -> tuple[ApiKey, str]:
    """A new key, and its text, to be shown once. Errors: ConflictError, UsageError for the name."""
    name, token = name_of(name), PREFIX + secrets.token_urlsafe(32)
    with database.begin() as session:
        trail.lock(session)
        if session.scalar(select(ApiKey.id).where(ApiKey.name == name)) is not None:
            text = f"There is already a key named {name!r}. Names are never used again."
            raise coded(ConflictError(text), "name_used", name=name)
        key = ApiKey(name=name, token=token_hash(token), role=role, made_by=who)
        session.add(key)
        trail.record(session, who, "key.make", name, why=why, detail={"role": role.value})
    return key, token


def find(database: Database, token: str) -> ApiKey | None:
    """The key with that text, if it is valid."""
    with database.read() as session:
        key = session.scalar(select(ApiKey).where(ApiKey.token == token_hash(token)))
    if key is None or key.revoked is not None:
        return None
    time = now()
    if key.used is None or time - key.used > _USED:
        with database.begin() as session:
            session.execute(update(ApiKey).where(ApiKey.id == key.id).values(used=time))
    return key


def revoke(database: Database, who: str, number: int, *, why: str = "") -> ApiKey:
    """End a key, at once and for good. Errors: MissingError."""
    with database.begin() as session:
        trail.lock(session)
        key = session.get(ApiKey, number)
        if key is None:
            raise MissingError(f"There is no key {number}.")
        if key.revoked is None:
            key.revoked = now()
            trail.record(session, who, "key.revoke", key.name, why=why)
    return key
