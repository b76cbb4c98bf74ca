"""App: the server, of the station's rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError

from patchcore import __version__
from patchcore.errors import DataError, ImageError, PatchcoreError, StoreError, UsageError
from patchcore.station.api import health, inspect, jobs, lines, machines, models, regions, results
from patchcore.station.errors import BusyError, ConflictError, MissingError, UnavailableError, told
from patchcore.station.pages import routes as pages
from patchcore.station.people import routes as people
from patchcore.station.people.protection import protect
from patchcore.station.station import Station

_STATUS: dict[type[Exception], int] = {  # the first that fits
    MissingError: 404,
    ConflictError: 409,
    BusyError: 429,
    UnavailableError: 503,
    ImageError: 422,
    DataError: 422,
    UsageError: 422,
    StoreError: 422,
    PatchcoreError: 500,
}
_LARGER = {  # beginnings of paths, and bytes of their uploads
    "/api/v1/models": 1_000_000_000,
    "/api/v1/inspect/batch": 500_000_000,
    "/api/v1/sets/": 500_000_000,
}


def create_app(station: Station) -> FastAPI:
    """The server of a station, which it closes when it ends."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        station.close()

    app = FastAPI(title="patchcore station", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.state.station = station
    for room in (inspect, results, models, regions, jobs, lines, machines, health):
        app.include_router(room.router, prefix="/api/v1")
    app.include_router(people.router)
    app.include_router(pages.router)  # last: its addresses are the most general
    protect(app, station.settings, _LARGER)

    @app.exception_handler(PatchcoreError)
    async def refuse(request: Request, error: PatchcoreError) -> JSONResponse:
        status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
        headers = {"retry-after": f"{error.retry:.0f}"} if isinstance(error, BusyError) else None
        said = told(error)
        return JSONResponse({"detail": said.pop("text"), **said}, status, headers)

    @app.exception_handler(DBAPIError)
    async def no_database(request: Request, error: DBAPIError) -> JSONResponse:
        said = told(error)
        return JSONResponse({"detail": f"The database does not answer: {said.pop('text')}", **said}, 503)

    return app
