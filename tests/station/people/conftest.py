"""What tests of people share: a station with accounts, and browsers that are logged in."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from patchcore.errors import UsageError
from patchcore.station.errors import ConflictError, MissingError
from patchcore.station.people import routes, sessions
from patchcore.station.people.access import cookie_name
from patchcore.station.people.protection import protect
from patchcore.station.settings import Settings
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Login, Person, Role

HERE = "http://127.0.0.1"  # where tests find the station


def make_app(settings: Settings, database: Database) -> FastAPI:
    app = FastAPI()
    app.state.station = SimpleNamespace(settings=settings, database=database)
    app.include_router(routes.router)
    for kind, status in ((MissingError, 404), (ConflictError, 409), (UsageError, 422)):

        def refuse(request: Request, error: Exception, status: int = status) -> Response:
            return JSONResponse({"detail": str(error)}, status)

        app.add_exception_handler(kind, refuse)
    protect(app, settings)
    return app


@pytest.fixture
def app(database: Database, tmp_path: Path) -> FastAPI:
    return make_app(Settings(data=tmp_path), database)


@pytest.fixture
def person(database: Database) -> Callable[..., Person]:
    """Makes somebody whose password is nobody's: hashing one takes time."""

    def make(name: str, role: Role = Role.operator, **fields: object) -> Person:
        with database.begin() as session:
            session.add(someone := Person(name=name, password="none", role=role, **fields))
        return someone

    return make


@pytest.fixture
def browser(app: FastAPI, database: Database) -> Callable[[Person | None], TestClient]:
    """A browser in which somebody is logged in, or nobody; it sends the CSRF token, as the pages do."""

    def make(who: Person | None) -> TestClient:
        client = TestClient(app, base_url=HERE, follow_redirects=False)
        if who is not None:
            with database.begin() as session:
                token = sessions.begin(session, who)
            with database.read() as session:
                client.headers["x-csrf-token"] = session.get_one(Login, sessions.token_hash(token)).csrf
            client.cookies.set(cookie_name(app.state.station.settings), token, domain="127.0.0.1")
        return client

    return make
