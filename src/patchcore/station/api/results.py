"""Results: what was judged, looked for and opened again, and what people say of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, or_, select, update

from patchcore import __version__
from patchcore.files.text import cell
from patchcore.measure import coco
from patchcore.oversight.sources import Sources
from patchcore.report.images import card
from patchcore.report.results import render
from patchcore.result import Result
from patchcore.station.api.common import Here, Operator
from patchcore.station.drawing import heat_png, image_png, overlay_png
from patchcore.station.errors import ConflictError, MissingError, coded
from patchcore.station.people.trail import record
from patchcore.station.record import restored, to_dict
from patchcore.station.station import Station
from patchcore.station.store.tables import Inspection, Line, Review, now

router = APIRouter(prefix="/results", tags=["results"])
_PAGE = 500
_CARDS = 40


class Wanted(BaseModel):
    """What to look for; all that is given must hold."""

    model_config = ConfigDict(extra="forbid")
    verdict: Literal["pass", "unsure", "fail"] | None = None
    review: Review | None = None
    line: str | None = Field(None, max_length=64)
    model_id: int | None = Field(None, ge=1, le=2**62)
    part: str | None = Field(None, max_length=200)
    text: str | None = Field(None, max_length=200, description="Anywhere in the name, part, reason or note.")
    since: datetime | None = Field(None, description="With its zone.")
    until: datetime | None = Field(None, description="With its zone.")
    before: int | None = Field(None, ge=1, le=2**62, description="Only results with smaller numbers: the next page.")
    limit: int = Field(50, ge=1, le=_PAGE)


def chosen(wanted: Wanted) -> Select[Inspection]:
    """The results that are wanted, the newest first."""
    query = select(Inspection).order_by(Inspection.id.desc())
    for column, value in (
        (Inspection.verdict, wanted.verdict), (Inspection.review, wanted.review),
        (Inspection.model_id, wanted.model_id), (Inspection.part, wanted.part),
    ):  # fmt: skip
        query = query if value is None else query.where(column == value)
    if wanted.line is not None:
        query = query.join(Line, Inspection.line_id == Line.id).where(Line.name == wanted.line)
    if wanted.text is not None:
        columns = (Inspection.name, Inspection.part, Inspection.reason, Inspection.note)
        query = query.where(or_(*(column.icontains(wanted.text, autoescape=True) for column in columns)))
    if wanted.since is not None:
        query = query.where(Inspection.time >= _zoned(wanted.since))
    if wanted.until is not None:
        query = query.where(Inspection.time <= _zoned(wanted.until))
    return query if wanted.before is None else query.where(Inspection.id < wanted.before)


def _zoned(time: datetime) -> datetime:
    return time.astimezone() if time.tzinfo is None else time


@router.get("", summary="Look for results")
def results(here: Here, who: Operator, wanted: Annotated[Wanted, Query()]) -> list[dict[str, Any]]:
    """The newest first, at most `limit`; `before` the last one's id gives the next page."""
    with here.database.read() as session:
        return [to_dict(one) for one in session.scalars(chosen(wanted).limit(wanted.limit))]


@router.get("/export.csv", summary="Results as a table", response_class=StreamingResponse)
def export_csv(here: Here, who: Operator, wanted: Annotated[Wanted, Query()]) -> StreamingResponse:
    """All that are wanted, whatever `limit` says."""

    def lines() -> Iterator[str]:
        head: list[str] | None = None
        for row in _all(here, wanted):
            told = {name: value for name, value in to_dict(row).items() if name not in ("warnings", "shadow")}
            told["warnings"] = " ".join(row.warnings)
            text = io.StringIO()
            writer = csv.writer(text)
            if head is None:
                writer.writerow(head := list(told))
            writer.writerow([cell(value) for value in told.values()])
            yield text.getvalue()

    given = {"content-disposition": 'attachment; filename="results.csv"'}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=given)


def _all(here: Station, wanted: Wanted) -> Iterator[Inspection]:
    """All results that are wanted, a page at a time, so that nothing is held open while somebody reads slowly."""
    page = wanted.model_copy(update={"limit": _PAGE})
    while True:
        with here.database.read() as session:
            rows = session.scalars(chosen(page).limit(_PAGE)).all()
        yield from rows
        if len(rows) < _PAGE:
            return
        page = page.model_copy(update={"before": rows[-1].id})


@router.get("/export.html", summary="Results as one page", response_class=HTMLResponse)
def export_html(here: Here, who: Operator, wanted: Annotated[Wanted, Query()]) -> HTMLResponse:
    """The first `limit` results that are wanted; up to 40 that failed or are unsure with image, map and evidence."""
    with here.database.read() as session:
        rows = session.scalars(chosen(wanted).limit(wanted.limit)).all()
    other = [row for row in rows if row.verdict != "pass" and row.image]
    cards = []
    for row in other[:_CARDS]:
        seen, detector = again(here, row), here.models.detector(row.model)
        cards.append((to_dict(row), card(detector, seen.sample, seen, Sources(), False, here.settings.pixels)))
    about = f"{rows[-1].time:%Y-%m-%d %H:%M} to {rows[0].time:%Y-%m-%d %H:%M} UTC" if rows else "Nothing was found."
    page = render("Inspections", about, [to_dict(row) for row in rows], cards, len(other) - len(cards))
    return HTMLResponse(page, headers={"content-disposition": 'attachment; filename="results.html"'})


class Decision(BaseModel):
    """What a person says of a result."""

    model_config = ConfigDict(extra="forbid")
    says: Literal["confirmed", "good", "open"]
    why: str = Field("", max_length=2000)
    was: Review = Field(Review.open, description="What the person saw: it must still be so.")


@router.get("/export.coco.json", summary="Defect regions in COCO's format")
def export_coco(here: Here, who: Operator, wanted: Annotated[Wanted, Query()]) -> dict[str, Any]:
    """Of the first `limit` results that are wanted: their maps are computed again."""
    images, boxes = list[dict[str, Any]](), list[dict[str, Any]]()
    with here.database.read() as session:
        rows = session.scalars(chosen(wanted).limit(wanted.limit)).all()
    for row in (row for row in rows if row.image):
        seen = again(here, row)
        images.append({**coco.image(row.id, seen), "file_name": row.image})
        boxes += coco.boxes(row.id, seen)
    return coco.dataset(images, boxes, __version__)


@router.get("/{number}", summary="One result")
def result(here: Here, who: Operator, number: int) -> dict[str, Any]:
    """As it was judged, with its defect regions."""
    told = to_dict(row := found(here, number))
    if not row.image:
        return told
    seen = again(here, row)
    told["regions"] = [asdict(one) for one in seen.regions]
    told["nearest_image"] = seen.nearest_image and seen.nearest_image.name
    told["areas"] = [asdict(one) for one in seen.areas]
    return told


@router.post("/{number}/review", summary="Decide a result")
def review(here: Here, who: Operator, number: int, decision: Decision) -> dict[str, Any]:
    """Confirm a defect, call the part good, or open the question again. 409 if somebody else was first."""
    return decide(here, who.name, number, decision)


def decide(here: Station, who: str, number: int, decision: Decision) -> dict[str, Any]:
    row = found(here, number)
    after = Review(decision.says)
    with here.database.begin() as session:
        changed = session.execute(
            update(Inspection)
            .where(Inspection.id == number, Inspection.review == decision.was)
            .values(review=after, reviewed_by=who, reviewed=now(), note=decision.why)
        )
        if changed.rowcount != 1:  # type: ignore[attr-defined]
            last = session.get(Inspection, number, populate_existing=True)
            by = f" by {last.reviewed_by}" if last and last.reviewed_by else ""
            text = f"Result {number} is {last.review.value if last else row.review.value} already{by}."
            raise coded(ConflictError(text), "decided", who=last.reviewed_by or "" if last else "")
        record(session, who, "result.review", str(number), why=decision.why,
               detail={"from": decision.was.value, "to": after.value})  # fmt: skip
        told = to_dict(session.get_one(Inspection, number, populate_existing=True))
    here.hub.publish("review", told)
    return told


@router.get("/{number}/image.png", summary="The image", response_class=Response)
def image(here: Here, who: Operator, number: int, side: Annotated[int, Query(ge=0, le=4096)] = 0) -> Response:
    """As it was inspected, as PNG; `side` bounds its larger side."""
    return _png(image_png(again(here, found(here, number)), side))


@router.get("/{number}/overlay.png", summary="The image with its defects outlined", response_class=Response)
def overlay(here: Here, who: Operator, number: int, side: Annotated[int, Query(ge=0, le=4096)] = 0) -> Response:
    """What failed it is outlined; a part that passes has no outline."""
    return _png(overlay_png(again(here, found(here, number)), side))


@router.get("/{number}/heat.png", summary="The heat map", response_class=Response)
def heat(here: Here, who: Operator, number: int, side: Annotated[int, Query(ge=0, le=4096)] = 0) -> Response:
    """Transparent where nothing is unusual, to be laid over the image."""
    return _png(heat_png(again(here, found(here, number)), side))


@router.get("/{number}/evidence.png", summary="Why: the worst patches beside the nearest good ones")
def evidence(here: Here, who: Operator, number: int, n: Annotated[int, Query(ge=1, le=9)] = 3) -> Response:
    """One picture."""
    from patchcore.oversight.evidence import evidence as evidence_of

    row = found(here, number)
    seen = evidence_of(here.models.detector(row.model), again(here, row), n=n)
    seen.image().save(file := io.BytesIO(), "PNG")
    return _png(file.getvalue())


def found(here: Station, number: int) -> Inspection:
    """A result. Errors: MissingError."""
    with here.database.read() as session:
        row = session.get(Inspection, number) if 0 < number < 2**62 else None
    if row is None:
        raise coded(MissingError(f"There is no result {number}."), "missing", name=str(number))
    return row


def again(here: Station, row: Inspection) -> Result:
    """A result, as it was made. Errors: MissingError; StoreError if its image or model is gone."""
    if not row.image:
        text = f"The image of result {row.id} was deleted, as the rules of retention say."
        raise coded(MissingError(text), "image_deleted")
    return restored(row, here.files.read(row.image), here.models.detector(row.model).fitted)


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png", headers={"cache-control": "private, max-age=3600, immutable"})
