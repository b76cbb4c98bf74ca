"""Shapes: what the routes of people take and give, as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from patchcore.station.store.tables import Role

Number = Annotated[int, Field(ge=1, le=2**53)]
Name = Annotated[str, Field(min_length=2, max_length=64)]
Why = Annotated[str, Field(max_length=2000, description="Why; it is in the audit trail.")]
Password = Annotated[str, Field(max_length=1000)]


class Problem(BaseModel):
    """What went wrong, and what to do next."""

    detail: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "Nobody is logged in, or the key is not valid."},
    403: {"model": Problem, "description": "The role is too low, or the CSRF token is missing."},
}
NONE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is none of that number."}}
WRONG: dict[int | str, dict[str, Any]] = {409: {"model": Problem, "description": "It cannot be done, and why."}}


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Me(BaseModel):
    """Who asks. `csrf`: to be sent as `X-CSRF-Token` with everything that changes something; null for a machine."""

    name: str
    role: Role
    machine: bool
    language: str | None
    must_change: bool
    csrf: str | None


class Language(_Given):
    language: Literal["en", "de", "zh"]


class NewPassword(_Given):
    old: Password
    new: Password


class Somebody(BaseModel):
    """An account. `sessions`: in how many browsers they are logged in."""

    id: int
    name: str
    role: Role
    active: bool
    must_change: bool
    created: datetime
    sessions: int


class MakePerson(_Given):
    name: Name
    role: Role
    why: Why = ""


class ChangePerson(_Given):
    role: Role | None = None
    active: bool | None = None
    why: Why = ""


class Reason(_Given):
    why: Why = ""


class Secret(BaseModel):
    """Something new. `secret`: its password or key, which is never shown again."""

    id: int
    name: str
    secret: str


class Key(BaseModel):
    """The key of a machine, without the key itself."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str
    role: Role
    made_by: str
    created: datetime
    used: datetime | None
    revoked: datetime | None


class MakeKey(_Given):
    name: Name
    role: Role
    why: Why = ""


class Hosts(BaseModel):
    """Names and addresses, without port."""

    hosts: list[str]


class ChangeHosts(_Given):
    hosts: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=100)]
    why: Why = ""


class Row(BaseModel):
    """A row of the audit trail."""

    model_config = ConfigDict(from_attributes=True)
    number: int
    time: datetime
    who: str
    action: str
    subject: str
    why: str
    detail: dict[str, Any]
    before: str
    hash: str


class Checked(BaseModel):
    """What following the chain found. `number`: the first row that is wrong, and `problem` what is; null if none is.

    Note `rows` and `hash` elsewhere: only with them a trail that was written anew can be told from the former one.
    """

    ok: bool
    rows: int
    hash: str
    number: int | None
    problem: str | None
