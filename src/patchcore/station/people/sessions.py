"""Sessions: somebody is logged in, in one browser, until they log out, it expires, or it is revoked."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from patchcore.files.text import shown
from patchcore.station.people import trail
from patchcore.station.people.passwords import hashed, matches, outdated
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Login, Person, Role, now

# How long without a request, and how long at most. A display on the line runs for weeks, and those who only inspect and
# review can change least; whoever can change models or people logs in every shift.
IDLE = {Role.operator: timedelta(days=7), Role.engineer: timedelta(hours=2), Role.admin: timedelta(minutes=30)}
LONGEST = {Role.operator: timedelta(days=90), Role.engineer: timedelta(hours=12), Role.admin: timedelta(hours=12)}
_SEEN = timedelta(seconds=20)  # `seen` is written no more often
_KEPT = timedelta(days=30)  # that ended sessions stay in the database


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def log_in(database: Database, name: str, password: str, agent: str = "") -> tuple[str, Person] | None:
    """The token of a new session, for its cookie, and who it is; None for a wrong password or an unknown name.

    Both take the same way: one password is hashed, and one row is written to the trail.
    """
    with database.read() as session:
        person = session.scalar(select(Person).where(Person.name == shown(name)))
    right = matches(person.password if person else None, password)
    stored = hashed(password) if right and person and outdated(person.password) else None
    with database.begin() as session:
        trail.lock(session)
        compared = person.password if person else None
        person = session.get(Person, person.id) if person else None  # it may have been changed meanwhile
        if person is None or not right or person.password != compared or not person.active:
            # The name only if there is one: somebody may have typed a password there.
            trail.record(session, person.name if person else "unknown", "login.fail")
            return None
        person.password = stored or person.password
        _forget(session, person)
        token = begin(session, person, agent)
        trail.record(session, person.name, "login")
    return token, person


def begin(session: Session, person: Person, agent: str = "") -> str:
    """The token of a new session, which never had another one."""
    token, time = secrets.token_urlsafe(32), now()
    login = Login(
        token=token_hash(token),
        person_id=person.id,
        csrf=secrets.token_urlsafe(32),
        created=time,
        seen=time,
        expires=time + LONGEST[person.role],
        agent=shown(agent)[:200],
    )
    session.add(login)
    return token


def find(database: Database, token: str, *, touch: bool = True) -> Login | None:
    """The session of a token, if it is valid now.

    `touch`: this is a request of a person, so it is not idle. That of an operator, who may be a display, never is.
    """
    with database.read() as session:
        login = session.get(Login, token_hash(token))
    if login is None or not valid(login, time := now()):
        return None
    if (touch or login.person.role is Role.operator) and time - login.seen > _SEEN:
        with database.begin() as session:
            session.execute(update(Login).where(Login.token == login.token).values(seen=time))
    return login


def valid(login: Login, time: datetime) -> bool:
    role = login.person.role
    return (
        login.revoked is None
        and login.person.active
        and time < min(login.expires, login.created + LONGEST[role], login.seen + IDLE[role])
    )


def log_out(database: Database, token: str) -> None:
    """End one session."""
    with database.begin() as session:
        trail.lock(session)
        login = session.get(Login, token_hash(token))
        if login is not None and login.revoked is None:
            login.revoked = now()
            trail.record(session, login.person.name, "logout")


def revoke_all(session: Session, person: Person) -> int:
    """End all sessions of somebody, in the caller's transaction; their number."""
    changed = session.execute(
        update(Login).where(Login.person_id == person.id, Login.revoked.is_(None)).values(revoked=now()).returning(
            Login.token)
    )  # fmt: skip
    return len(changed.all())


def _forget(session: Session, person: Person) -> None:
    """Delete sessions that ended long ago; the trail has their beginnings and ends."""
    session.execute(delete(Login).where(Login.person_id == person.id, Login.expires < now() - _KEPT))
