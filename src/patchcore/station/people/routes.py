"""Routes: people log in and out, change their password, and admins look after people, keys and the trail."""

from __future__ import annotations

import logging
from math import ceil
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from patchcore.errors import UsageError
from patchcore.files.text import shown
from patchcore.station.errors import ConflictError, coded
from patchcore.station.people import accounts, admin, sessions
from patchcore.station.people.access import (
    LOGIN,
    PASSWORD,
    Actor,
    cookie_name,
    database_of,
    need,
    safe_next,
    set_cookie,
)
from patchcore.station.people.attempts import Attempts
from patchcore.station.people.shapes import PROBLEMS, WRONG, Language, Me, NewPassword, Problem
from patchcore.station.store.tables import Person, Role

router = APIRouter()
_log = logging.getLogger(__name__)

Anyone = Annotated[Actor, Depends(need(Role.operator, unchanged=True))]


def _address(request: Request) -> str:
    """Where a request comes from: as the proxy says, if there is one, which adds it at the end."""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    if forwarded and request.app.state.station.settings.tls:
        return forwarded
    return request.client.host if request.client else ""


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")


# Logging in and out: what the forms of pages send


@router.post("/login", status_code=303, response_class=RedirectResponse, tags=["people"])
def log_in(
    request: Request,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> RedirectResponse:
    """Log in, by a form. Goes on to `next`, or back to the page with `error=wrong`, or `error=wait` and `seconds`."""
    station, next = request.app.state.station, safe_next(next)
    attempts: Attempts = request.app.state.attempts
    name = accounts.folded(name)
    if wait := attempts.begin(name, _address(request)):
        _log.warning("login of %s from %s must wait %.0f s", shown(name), _address(request), wait)
        return _to(LOGIN, error="wait", seconds=str(ceil(wait)), next=next)
    if former := request.cookies.get(cookie_name(station.settings)):
        sessions.log_out(station.database, former)
    found = sessions.log_in(station.database, name, password, _agent(request))
    if found is None:
        _log.warning("login failed from %s", _address(request))
        return _to(LOGIN, error="wrong", next=next)
    attempts.succeed(name, _address(request))
    token, person = found
    response = _to(PASSWORD, next=next) if person.must_change else RedirectResponse(next, 303)
    set_cookie(response, station.settings, token)
    return response


def _to(place: str, **query: str) -> RedirectResponse:
    return RedirectResponse(f"{place}?{urlencode(query)}", 303)


@router.post("/logout", status_code=303, response_class=RedirectResponse, tags=["people"], responses=PROBLEMS)
def log_out(request: Request, actor: Anyone) -> RedirectResponse:
    """Log out here."""
    station = request.app.state.station
    sessions.log_out(station.database, request.cookies.get(cookie_name(station.settings), ""))
    response = RedirectResponse(LOGIN, 303)
    set_cookie(response, station.settings, None)
    return response


api = APIRouter(prefix="/api/v1", tags=["people"], responses=PROBLEMS)


@api.get("/me")
def me(actor: Anyone) -> Me:
    """Who asks."""
    login = actor.login
    return Me(
        name=actor.name,
        role=actor.role,
        machine=actor.machine,
        language=login.person.language if login else None,
        must_change=bool(login and login.person.must_change),
        csrf=login.csrf if login else None,
    )


def _person(actor: Actor) -> Person:
    if actor.login is None:
        raise HTTPException(403, "This is for people; a key has neither a password nor a language.")
    return actor.login.person


@api.put("/me/language", status_code=204)
def set_language(request: Request, given: Language, actor: Anyone) -> None:
    """The language of one's pages."""
    accounts.set_language(database_of(request), _person(actor).id, given.language)


@api.post("/me/password", status_code=204, responses=WRONG | {429: {"model": Problem, "description": "Too early."}})
def set_password(request: Request, response: Response, given: NewPassword, actor: Anyone) -> None:
    """Change one's own password. All sessions end; this browser gets a new one, with another CSRF token."""
    person, attempts = _person(actor), request.app.state.attempts
    if wait := attempts.begin(person.name, _address(request)):
        raise HTTPException(429, "There were too many tries. Wait a little.", {"Retry-After": str(ceil(wait))})
    try:
        changed = accounts.set_password(database_of(request), person.id, given.old, given.new)
    except UsageError:  # of the new one: the old one was right
        attempts.succeed(person.name, _address(request))
        raise
    if changed is None:
        raise coded(ConflictError("The old password is wrong."), "password_wrong")
    attempts.succeed(person.name, _address(request))
    with database_of(request).begin() as session:
        token = sessions.begin(session, changed, _agent(request))
    set_cookie(response, request.app.state.station.settings, token)


router.include_router(api)
router.include_router(admin.router)
