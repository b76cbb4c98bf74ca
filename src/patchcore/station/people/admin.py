"""Admin: the routes of those who look after people, keys and the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from patchcore.files.text import shown
from patchcore.station.people import accounts, keys, sessions, trail
from patchcore.station.people.access import Actor, database_of, need
from patchcore.station.people.protection import attachment
from patchcore.station.people.shapes import (
    NONE,
    PROBLEMS,
    WRONG,
    ChangePerson,
    Checked,
    Key,
    MakeKey,
    MakePerson,
    Number,
    Reason,
    Row,
    Secret,
    Somebody,
)
from patchcore.station.store.tables import ApiKey, Entry, Login, Person, Role, now

router = APIRouter(prefix="/api/v1", tags=["people"], responses=PROBLEMS)
Admin = Annotated[Actor, Depends(need(Role.admin))]


# People


@router.get("/people")
def people(request: Request, actor: Admin) -> list[Somebody]:
    """All accounts, by name; also those that are shut."""
    with database_of(request).read() as session:
        found = session.scalars(select(Person).order_by(Person.name)).all()
        logins = session.scalars(select(Login).where(Login.revoked.is_(None), Login.expires > now())).all()
    return [_somebody(person, logins) for person in found]


def _somebody(person: Person, logins: Sequence[Login] = ()) -> Somebody:
    return Somebody(
        id=person.id,
        name=person.name,
        role=person.role,
        active=person.active,
        must_change=person.must_change,
        created=person.created,
        sessions=sum(login.person_id == person.id and sessions.valid(login, now()) for login in logins),
    )


@router.post("/people", status_code=201, responses=WRONG)
def make_person(request: Request, given: MakePerson, actor: Admin) -> Secret:
    """A new account. Its password is shown once, and must be changed at the first login."""
    person, password = accounts.make(database_of(request), actor.name, given.name, given.role, why=given.why)
    return Secret(id=person.id, name=person.name, secret=password)


@router.patch("/people/{number}", responses=NONE | WRONG)
def change_person(request: Request, number: Number, given: ChangePerson, actor: Admin) -> Somebody:
    """Give somebody another role, or shut or open their account; all their sessions end."""
    person = accounts.change(
        database_of(request), actor.name, number, role=given.role, active=given.active, why=given.why
    )
    return _somebody(person)


@router.post("/people/{number}/password", responses=NONE)
def reset_password(request: Request, number: Number, given: Reason, actor: Admin) -> Secret:
    """Give somebody a new password, which is shown once; all their sessions end."""
    person, password = accounts.reset(database_of(request), actor.name, number, why=given.why)
    return Secret(id=person.id, name=person.name, secret=password)


@router.post("/people/{number}/logout", responses=NONE)
def log_out_person(request: Request, number: Number, given: Reason, actor: Admin) -> Somebody:
    """End all sessions of somebody."""
    return _somebody(accounts.log_out(database_of(request), actor.name, number, why=given.why))


# Keys


@router.get("/keys")
def list_keys(request: Request, actor: Admin) -> list[Key]:
    """The keys of machines, by name; also those that were revoked."""
    with database_of(request).read() as session:
        return [Key.model_validate(key) for key in session.scalars(select(ApiKey).order_by(ApiKey.name))]


@router.post("/keys", status_code=201, responses=WRONG)
def make_key(request: Request, given: MakeKey, actor: Admin) -> Secret:
    """A new key, which is shown once."""
    key, token = keys.make(database_of(request), actor.name, given.name, given.role, why=given.why)
    return Secret(id=key.id, name=key.name, secret=token)


@router.post("/keys/{number}/revoke", responses=NONE)
def revoke_key(request: Request, number: Number, given: Reason, actor: Admin) -> Key:
    """End a key, at once and for good."""
    return Key.model_validate(keys.revoke(database_of(request), actor.name, number, why=given.why))


# Trail


@router.get("/trail")
def list_trail(
    request: Request,
    actor: Admin,
    before: Annotated[int | None, Query(ge=1, le=2**53, description="Only rows with a lower number.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    who: str = "",
    action: Annotated[str, Query(description="Such as `person.make`, or its beginning, `person.`.")] = "",
    subject: str = "",
) -> list[Row]:
    """The audit trail, the last row first."""
    wanted = select(Entry).order_by(Entry.number.desc()).limit(limit)
    wanted = wanted.where(Entry.number < before) if before else wanted
    wanted = wanted.where(Entry.who == shown(who)) if who else wanted
    wanted = wanted.where(Entry.action.startswith(shown(action), autoescape=True)) if action else wanted
    wanted = wanted.where(Entry.subject == shown(subject)) if subject else wanted
    with database_of(request).read() as session:
        return [Row.model_validate(entry) for entry in session.scalars(wanted)]


@router.get("/trail/check")
def check_trail(
    request: Request,
    actor: Admin,
    number: Annotated[int | None, Query(ge=1, le=2**53, description="A row that was noted elsewhere,")] = None,
    hash: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="and its hash.")] = None,
) -> Checked:
    """Follow the chain of the whole trail."""
    with database_of(request).read() as session:
        found = trail.verify(session, {number: hash} if number and hash else None)
    return Checked(
        ok=found.problem is None, rows=found.rows, hash=found.hash, number=found.number, problem=found.problem
    )


@router.get("/trail/export", response_class=StreamingResponse)
def export_trail(request: Request, actor: Admin, form: Literal["jsonl", "csv"] = "jsonl") -> StreamingResponse:
    """The whole trail, as JSON lines or as a table. That it was exported is its last row."""
    database = database_of(request)
    with database.begin() as session:
        last = trail.record(session, actor.name, "trail.export", form)
    lines, kind = (trail.csv_lines, "text/csv") if form == "csv" else (trail.json_lines, "application/jsonl")
    headers = {"Content-Disposition": attachment(f"trail-{last.number}.{form}")}
    return StreamingResponse(lines(database), media_type=f"{kind}; charset=utf-8", headers=headers)
