"""Accounts: who may log in, with which role. Nobody is deleted, and one active admin always stays."""

from __future__ import annotations

import re
import unicodedata

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from patchcore.errors import UsageError
from patchcore.files.text import shown
from patchcore.station.errors import ConflictError, MissingError, coded
from patchcore.station.people import sessions, trail
from patchcore.station.people.passwords import check_strength, hashed, matches, new_password
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Person, Role

STATION = "station"  # who does what nobody asked for, such as the first account
LANGUAGES = ("en", "de", "zh")
_NAME = re.compile(r"\w[\w.@ -]{0,62}\w")  # without `:`, which the names of machines have in the trail


def folded(text: str) -> str:
    """A name as it is stored: letters of either case are one, and so are several ways to write a letter."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def name_of(text: str) -> str:
    """The same. Errors: UsageError if it can be no name."""
    name = folded(text)
    if not _NAME.fullmatch(name) or name == STATION:
        said = f"{text!r} can be no name: take 2 to 64 letters, digits, spaces or any of . _ @ -"
        raise coded(UsageError(said), "no_name", name=text)
    return name


def first_admin(database: Database) -> str | None:
    """Make the account `admin`, if there is none at all, and return its password, to be shown once; else None."""
    with database.read() as session:
        if session.scalar(select(func.count()).select_from(Person)):
            return None
    password = new_password()
    stored = hashed(password)
    with database.begin() as session:
        trail.lock(session)
        if session.scalar(select(func.count()).select_from(Person)):  # another one that starts at the same time
            return None
        session.add(Person(name="admin", password=stored, role=Role.admin, must_change=True))
        trail.record(session, STATION, "person.make", "admin", detail={"role": "admin"})
    return password


def make(database: Database, who: str, name: str, role: Role, *, why: str = "") -> tuple[Person, str]:
    """A new account, and its password, to be shown once and changed at the first login.

    Errors: ConflictError if there is one of that name; UsageError if it can be no name.
    """
    name, password = name_of(name), new_password()
    stored = hashed(password)
    with database.begin() as session:
        trail.lock(session)
        if session.scalar(select(Person.id).where(Person.name == name)) is not None:
            text = f"There is already somebody named {name!r}. Names are never used again."
            raise coded(ConflictError(text), "name_used", name=name)
        person = Person(name=name, password=stored, role=role, must_change=True)
        session.add(person)
        trail.record(session, who, "person.make", name, why=why, detail={"role": role.value})
    return person, password


def change(
    database: Database, who: str, number: int, *, role: Role | None = None, active: bool | None = None, why: str = ""
) -> Person:
    """Give somebody another role, or shut or open their account; all their sessions end.

    Errors: ConflictError if no active admin would be left.
    """
    with database.begin() as session:
        trail.lock(session)
        person = _person(session, number)
        before = {"role": person.role.value, "active": person.active}
        person.role = person.role if role is None else role
        person.active = person.active if active is None else active
        after = {"role": person.role.value, "active": person.active}
        if after == before:
            return person
        session.flush()
        admins = select(func.count()).select_from(Person).where(Person.active, Person.role == Role.admin)
        if not session.scalar(admins):
            text = f"{person.name} is the only active admin. Make another one first."
            raise coded(ConflictError(text), "only_admin", name=person.name)
        sessions.revoke_all(session, person)
        trail.record(session, who, "person.change", person.name, why=why, detail={"before": before, "after": after})
    return person


def reset(database: Database, who: str, number: int, *, why: str = "") -> tuple[Person, str]:
    """Give somebody a new password, and return it too, to be shown once; all their sessions end."""
    password = new_password()
    stored = hashed(password)
    with database.begin() as session:
        trail.lock(session)
        person = _person(session, number)
        person.password, person.must_change = stored, True
        sessions.revoke_all(session, person)
        trail.record(session, who, "person.reset", person.name, why=why)
    return person, password


def log_out(database: Database, who: str, number: int, *, why: str = "") -> Person:
    """End all sessions of somebody."""
    with database.begin() as session:
        trail.lock(session)
        person = _person(session, number)
        ended = sessions.revoke_all(session, person)
        trail.record(session, who, "person.logout", person.name, why=why, detail={"sessions": ended})
    return person


def set_password(database: Database, number: int, old: str, new: str) -> Person | None:
    """Change one's own password; all sessions end. None if the old one is wrong.

    Errors: UsageError if the new one is too easy, or is the old one.
    """
    with database.read() as session:
        person = _person(session, number)
    if not matches(person.password, old):
        return None
    check_strength(new, person.name)
    if matches(person.password, new):
        raise coded(UsageError("The new password is the old one. Take another."), "password_same")
    stored = hashed(new)
    with database.begin() as session:
        trail.lock(session)
        former, person = person.password, _person(session, number)
        if person.password != former or not person.active:  # it was changed meanwhile
            return None
        person.password, person.must_change = stored, False
        sessions.revoke_all(session, person)
        trail.record(session, person.name, "person.password", person.name)
    return person


def set_language(database: Database, number: int, language: str) -> Person:
    """Errors: UsageError for a language that the pages do not have."""
    if language not in LANGUAGES:
        raise UsageError(f"There is no language {language!r}. Known: {', '.join(LANGUAGES)}.")
    with database.begin() as session:
        person = _person(session, number)
        person.language = language
    return person


def named(database: Database, name: str) -> Person:
    """Somebody by name. Errors: MissingError."""
    with database.read() as session:
        person = session.scalar(select(Person).where(Person.name == shown(folded(name))))
    if person is None:
        raise MissingError(f"There is nobody named {name!r}.")
    return person


def _person(session: Session, number: int) -> Person:
    person = session.get(Person, number)
    if person is None:
        raise MissingError(f"There is no person {number}.")
    return person
