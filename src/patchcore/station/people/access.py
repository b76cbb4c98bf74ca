"""Access: who asks, and whether they may."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from patchcore.station.people import keys, sessions
from patchcore.station.settings import Settings
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Login, Role

LOGIN, PASSWORD = "/login", "/password"  # pages: log in; change one's password, which a first login must
_RANK = {role: rank for rank, role in enumerate(Role)}
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True)
class Actor:
    """Who asks: a person in a browser, or a machine with a key.

    Attributes:
        name: Of the person, or `key:` and the name of the key.
        login: The session of the person, with its `csrf` token; None for a machine.
    """

    name: str
    role: Role
    machine: bool = False
    login: Login | None = None

    def may(self, role: Role) -> bool:
        return _RANK[self.role] >= _RANK[role]


@dataclass(frozen=True)
class Need:
    """A dependency of routes: who asks, if they have at least that role.

    Attributes:
        role: The lowest that may.
        unchanged: Also for those who must change their password first.

    Errors: 401 if nobody is logged in, or 303 to the page where one does, for a browser that asks for a page; 403 for
    a role that is too low, for a request without the session's CSRF token, and for those who must change their
    password first (303 for a page).
    """

    role: Role
    unchanged: bool = False

    async def __call__(self, request: Request) -> Actor:
        actor = await run_in_threadpool(identify, request)
        if actor is None:
            if wants_page(request):
                raise _see(f"{LOGIN}?next={quote(_here(request))}")
            raise HTTPException(401, "Log in, or send an API key: Authorization: Bearer pc_...", _BEARER)
        if actor.login is not None:
            if request.method not in _SAFE and not await _has_csrf(request, actor.login.csrf):
                raise HTTPException(403, "The CSRF token is missing or wrong. Reload the page, and try again.")
            if actor.login.person.must_change and not self.unchanged:
                if wants_page(request):
                    raise _see(f"{PASSWORD}?next={quote(_here(request))}")
                raise HTTPException(403, "Change your password first: it was made for you.")
        if not actor.may(self.role):
            raise HTTPException(403, f"This needs the role {self.role.value}; {actor.name} is {actor.role.value}.")
        return actor


need = Need  # as routes write it
_BEARER = {"WWW-Authenticate": "Bearer"}


def database_of(request: Request) -> Database:
    database: Database = request.app.state.station.database
    return database


def identify(request: Request, *, touch: bool = True) -> Actor | None:
    """Who asks, now; None for nobody. An API key goes first; a wrong one is nobody, whatever the cookie says.

    A stream that stays open asks again now and then, with `touch=False`, and ends when there is nobody any more.
    """
    database, settings = database_of(request), request.app.state.station.settings
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme:
        key = keys.find(database, token.strip()) if scheme.casefold() == "bearer" else None
        return Actor(f"key:{key.name}", key.role, machine=True) if key else None
    token = request.cookies.get(cookie_name(settings), "")
    login = sessions.find(database, token, touch=touch) if token else None
    return Actor(login.person.name, login.person.role, login=login) if login else None


async def _has_csrf(request: Request, wanted: str) -> bool:
    given: object = request.headers.get("x-csrf-token")
    if given is None and request.headers.get("content-type", "").partition(";")[0].strip().lower() in _FORMS:
        given = (await request.form()).get("csrf")  # kept in the request: the route reads it again
    return isinstance(given, str) and secrets.compare_digest(given.encode(errors="replace"), wanted.encode())


def wants_page(request: Request) -> bool:
    """Whether it is a browser that opens a page, and not a script or a machine."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def safe_next(text: str | None) -> str:
    """Where to go after the login: a place on this station, or `/`. Anything else is somebody's trap."""
    text = text or "/"
    if not text.startswith("/") or text.startswith("//") or "\\" in text or not text.isprintable():
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc or parts.path in (LOGIN, "/logout") else text


def cookie_name(settings: Settings) -> str:
    """Stations on several ports of a machine share their cookies: each has its own name.

    Browsers take a name that begins with `__Host-` only over TLS, from this host, and for all of it.
    """
    return f"{'__Host-' if settings.tls else ''}station-{settings.port}"


def set_cookie(response: Response, settings: Settings, token: str | None) -> None:
    """Give the browser the token of its session; None takes it away."""
    response.set_cookie(
        cookie_name(settings),
        token or "",
        max_age=int(sessions.LONGEST[Role.operator].total_seconds()) if token else 0,
        httponly=True,
        samesite="strict",
        secure=settings.tls,
    )


def _here(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    return safe_next(f"{request.url.path}{query}") if request.method == "GET" else "/"


def _see(place: str) -> HTTPException:
    return HTTPException(303, "Log in first.", {"Location": place})
