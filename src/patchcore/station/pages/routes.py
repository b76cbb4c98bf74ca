"""Routes: the pages, each with what it shows first; scripts keep that up to date."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError
from sqlalchemy import select

from patchcore.errors import StoreError
from patchcore.recipe import Recipe
from patchcore.station.api import results
from patchcore.station.api.common import Here, Operator
from patchcore.station.errors import MissingError
from patchcore.station.pages import fragments, static_files
from patchcore.station.pages.rendering import NEEDS, page
from patchcore.station.people.access import Actor, need
from patchcore.station.record import to_dict
from patchcore.station.store.tables import Line, Model, Role

router = APIRouter(include_in_schema=False)
router.include_router(static_files.router)
router.include_router(fragments.router)

Anyone = Annotated[Actor, Depends(need(Role.operator, unchanged=True))]


@router.get("/")
def first(who: Operator) -> RedirectResponse:
    """The page that is looked at most."""
    return RedirectResponse("/inspect", 303)


@router.get("/login")
def login(request: Request, error: str = "", seconds: int = 0, next: str = "/") -> HTMLResponse:
    """Who is there? For everybody."""
    return page(request, None, "login", error=error if error in ("wrong", "wait") else "", seconds=seconds, next=next)


@router.get("/password")
def password(request: Request, who: Anyone, next: str = "/") -> HTMLResponse:
    """A new password, which a first login must set."""
    return page(request, who, "password", next=next)


@router.get("/results/{number}")
def result(request: Request, here: Here, who: Operator, number: int) -> HTMLResponse:
    """A result, as it was judged."""
    try:
        row = results.found(here, number)
    except MissingError:
        return page(request, who, "error", 404, what="missing", name=str(number))
    regions, lost = list[Any](), ""
    try:
        seen = results.again(here, row)
        regions = list(seen.regions)
    except (MissingError, StoreError) as error:
        lost = str(error)
    return page(request, who, "result", result=to_dict(row), regions=regions, lost=lost)


@router.get("/history")
def history(request: Request, here: Here, who: Operator) -> HTMLResponse:
    """What was judged, looked for by time, verdict, model, part and text."""
    given = {name: value for name, value in request.query_params.items() if value}
    problem = ""
    try:
        wanted = results.Wanted.model_validate({"limit": 48, **given})
    except ValidationError as error:
        problem, wanted = error.errors()[0]["msg"], results.Wanted.model_validate({"limit": 48})
    with here.database.read() as session:
        rows = [to_dict(one) for one in session.scalars(results.chosen(wanted).limit(wanted.limit))]
    query = {name: value for name, value in given.items() if name not in ("before", "limit")}
    return page(
        request, who, "history", rows=rows, query=query, problem=problem, **_choices(here),
        wanted=dict.fromkeys(results.Wanted.model_fields, "") | query,
        more=rows[-1]["id"] if len(rows) == wanted.limit else None,
    )  # fmt: skip


@router.get("/teach")
def teach(request: Request, here: Here, who: Operator) -> Response:
    """From good parts to a model."""
    return _page(
        request, here, who, "teach", recipes=list(Recipe.names()), roots=[str(root) for root in here.settings.roots]
    )


@router.get("/lines")
def lines(request: Request, here: Here, who: Operator) -> Response:
    """What brings images, and what machines are told."""
    return _page(request, here, who, "lines", roots=[str(root) for root in here.settings.roots])


@router.get("/{name}")
def other(request: Request, here: Here, who: Operator, name: str) -> Response:
    """Inspect, review, watch, verdict, models, people; everything else is not there."""
    return _page(request, here, who, name)


def _page(request: Request, here: Any, who: Actor, name: str, **values: object) -> HTMLResponse:
    if name not in NEEDS:
        return page(request, who, "error", 404, what="missing", name=name)
    if not who.may(NEEDS[name]):
        return page(request, who, "error", 403, what="role", name=NEEDS[name].value)
    return page(request, who, name, **_choices(here), **values)


def _choices(here: Any) -> dict[str, object]:
    """What can be chosen in forms: lines, and versions of models."""
    with here.database.read() as session:
        lines = [one.name for one in session.scalars(select(Line).order_by(Line.id))]
        models = [
            {"id": one.id, "text": f"{one.name} {one.version}"}
            for one in session.scalars(select(Model).order_by(Model.id.desc()).limit(200))
        ]
    return {"lines": lines, "models": models}
