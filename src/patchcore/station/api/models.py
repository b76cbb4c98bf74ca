"""Models: versions, their way in and out, and what changes them."""

from __future__ import annotations

import io
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select, update

from patchcore.changes.difference import stated, verdicts
from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.errors import StoreError
from patchcore.station.api.common import Engineer, Here, Operator
from patchcore.station.api.results import found as result_of
from patchcore.station.errors import ConflictError, MissingError, coded
from patchcore.station.people.trail import record
from patchcore.station.record import to_dict as told_of
from patchcore.station.station import Station
from patchcore.station.store.tables import Inspection, Line, Model, Review, now

router = APIRouter(tags=["models"])
Limit = Annotated[int, Query(ge=1, le=100)]
_LARGEST = 1_000_000_000  # bytes of a model file that is imported


def to_dict(model: Model) -> dict[str, Any]:
    """What is said of a version, in JSON."""
    return {
        "id": model.id,
        "name": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "parent_id": model.parent_id,
        "how": model.how,
        "who": model.who,
        "why": model.why,
        "created": model.created.isoformat(timespec="seconds"),
        **model.summary,
    }


@router.get("/models", summary="All versions of all models")
def models(here: Here, who: Operator) -> list[dict[str, Any]]:
    """The newest first."""
    with here.database.read() as session:
        return [to_dict(one) for one in session.scalars(select(Model).order_by(Model.id.desc()))]


@router.post("/models", summary="Import a model file")
def import_model(
    here: Here, who: Engineer, file: UploadFile, name: Annotated[str, Form(min_length=1, max_length=80)],
    why: Annotated[str, Form(max_length=2000)] = "",
) -> dict[str, Any]:  # fmt: skip
    """One that `patchcore fit` or another station has written. It judges nothing before it is activated."""
    content = file.file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise coded(StoreError(f"The file has more than {_LARGEST} bytes."), "too_large", most=_LARGEST)
    with here.database.begin() as session:
        model = here.models.add(session, content, name=name, how="import", who=who.name, why=why)
        record(session, who.name, "model.import", f"{name} {model.version}", why=why, detail={"sha256": model.sha256})
    here.hub.publish("model", to_dict(model))
    return to_dict(model)


@router.get("/models/{number}", summary="One version")
def one_model(here: Here, who: Operator, number: int) -> dict[str, Any]:
    """With the history in its file, and the good images nearest to its threshold."""
    model = found(here, number)
    fitted = here.models.detector(model).fitted
    calibration = fitted.calibration
    return {
        **to_dict(model),
        "scores": list(calibration.scores),
        "deciding": [one._asdict() for one in calibration.deciding()],
        "history": [{k: v for k, v in entry.items() if k in ("version", "what", "who", "why", "when", "rows", "images")}
                    for entry in fitted.history],
    }  # fmt: skip


@router.get("/models/{number}/file", summary="The model file", response_class=Response)
def model_file(here: Here, who: Engineer, number: int) -> Response:
    """As `Detector.load` and `patchcore predict` take it."""
    model = found(here, number)
    named = {"content-disposition": f'attachment; filename="model-{model.id}-{model.version}.patchcore"'}
    return Response(here.models.content(model), media_type="application/octet-stream", headers=named)


class Rates(BaseModel):
    """What the threshold is to keep."""

    model_config = ConfigDict(extra="forbid")
    false_reject_rate: float = Field(ge=1e-9, le=1 - 1e-9)
    confidence: float | None = Field(None, ge=1e-9, le=1 - 1e-9)
    unsure: float | None = Field(
        None, ge=1e-9, le=1 - 1e-9, description="Confidence of the interval inside which it is unsure."
    )
    why: str = Field("", max_length=2000)


@router.post("/models/{number}/promise", summary="What a false-reject rate would mean")
def promise(here: Here, who: Operator, number: int, rates: Rates) -> dict[str, Any]:
    """Nothing is changed: the threshold, how many good parts are missing, and the guarantee in words."""
    from patchcore.maths.thresholds import lowest_rate, needed_scores

    calibration = here.models.detector(found(here, number)).fitted.calibration
    then = calibration.at_rate(rates.false_reject_rate, rates.confidence).with_unsure(rates.unsure)
    needed = needed_scores(rates.false_reject_rate, rates.confidence)
    return {
        "threshold": then.threshold,
        "lower_threshold": then.lower_threshold,
        "says": then.summary(),
        "enough": then.enough,
        "parts": then.units,
        "needed": needed,
        "missing": max(0, needed - then.units),
        "lowest_rate": lowest_rate(then.units, rates.confidence),
        "good_rejected": sum(score > then.threshold for score in then.scores),
    }


@router.post("/models/{number}/rate", summary="A version with another false-reject rate")
def rate(here: Here, who: Engineer, number: int, rates: Rates) -> dict[str, Any]:
    """The same bank, another threshold: a new version. Lines that use this one go on with the new one."""
    model = found(here, number)
    content, detector = here.models.at_rate(
        model, rates.false_reject_rate, rates.confidence, rates.unsure, who=who.name, why=rates.why
    )
    with here.database.begin() as session:
        after = here.models.add(
            session, content, name=model.name, how="set", who=who.name, why=rates.why, parent=model, detector=detector
        )
        session.execute(update(Line).where(Line.model_id == model.id).values(model_id=after.id))
        record(session, who.name, "model.rate", f"{model.name} {after.version}", why=rates.why,
               detail=rates.model_dump(exclude={"why"}))  # fmt: skip
    here.hub.publish("model", to_dict(after))
    return to_dict(after)


class Choice(BaseModel):
    """Which version judges a line."""

    model_config = ConfigDict(extra="forbid")
    line: str = Field("main", max_length=64)
    shadow: bool = Field(False, description="Judge beside the present one, without consequences.")
    why: str = Field("", max_length=2000)


@router.post("/models/{number}/activate", summary="Let a version judge a line")
def activate(here: Here, who: Engineer, number: int, choice: Choice) -> dict[str, Any]:
    """Or only beside the present one. An earlier version is a way back."""
    model, line = found(here, number), here.line(choice.line)
    here.models.detector(model)  # it must be able to
    with here.database.begin() as session:
        row = session.get_one(Line, line.id)
        before = row.shadow_id if choice.shadow else row.model_id
        if choice.shadow:
            row.shadow_id = model.id
        else:
            row.model_id = model.id
        record(session, who.name, "model.shadow" if choice.shadow else "model.activate", line.name, why=choice.why,
               detail={"from": before, "to": model.id})  # fmt: skip
    here.hub.publish("line", {"line": line.name, "model_id": model.id, "shadow": choice.shadow})
    return to_dict(model)


@router.get("/models/{number}/compare/{other}", summary="Compare two versions")
def compare(
    here: Here, who: Operator, number: int, other: int, limit: Limit = 30,
    line: Annotated[str | None, Query(max_length=64)] = None,
) -> dict[str, Any]:  # fmt: skip
    """What they have learned, and what both say of the images of the newest results, of a line or of all, that are
    kept, at most 100."""
    pair = [here.models.detector(found(here, one)) for one in (number, other)]
    query = select(Inspection).where(Inspection.image != "").order_by(Inspection.id.desc()).limit(limit)
    if line is not None:
        query = query.where(Inspection.line_id == here.line(line).id)
    with here.database.read() as session:
        rows = {row.id: row for row in session.scalars(query)}
    samples = [Sample(str(row.id), io.BytesIO(here.files.read(row.image))) for row in rows.values()]
    both = [
        {"id": int(one.name), "name": rows[int(one.name)].part or rows[int(one.name)].name or f"#{one.name}",
         "before": one.before.decision, "after": one.after.decision,
         "scores": [one.before.score, one.after.score], "changes": one.changes}
        for one in verdicts(pair[0], pair[1], samples, Reading(max_pixels=here.settings.pixels))
    ]  # fmt: skip
    changes = [one for one in both if one["changes"]]
    return {"learned": stated(pair[0].fitted, pair[1].fitted), "images": len(both), "changes": changes, "all": both}


@router.delete("/lines/{name}/shadow", summary="End the shadow")
def end_shadow(here: Here, who: Engineer, name: str) -> dict[str, Any]:
    """Its results stay."""
    line = here.line(name)
    with here.database.begin() as session:
        session.get_one(Line, line.id).shadow_id = None
        record(session, who.name, "model.shadow", line.name, detail={"from": line.shadow_id, "to": None})
    here.hub.publish("line", {"line": line.name, "model_id": None, "shadow": True})
    return {"line": line.name}


class Lesson(BaseModel):
    """Why a part that was rejected is good."""

    model_config = ConfigDict(extra="forbid")
    why: str = Field("", max_length=2000)
    was: Review = Review.open


@router.post("/results/{number}/teach", summary="This is good: teach it")
def teach(here: Here, who: Operator, number: int, lesson: Lesson) -> dict[str, Any]:
    """The line's model learns the image, as a new version, and judges from then on. 409 if somebody was first."""
    row = result_of(here, number)
    if row.review != lesson.was:
        text = f"Result {number} is decided already: {row.review.value}, by {row.reviewed_by}."
        raise coded(ConflictError(text), "decided", who=row.reviewed_by or "")
    line = here.line(row.line_id)
    model = line.model
    if model is None:
        raise coded(ConflictError(f"Line {line.name} has no model now."), "no_model", line=line.name)
    content, detector = here.models.taught(model, [here.files.read(row.image)], who=who.name, why=lesson.why)
    with here.database.begin() as session:
        changed = session.execute(
            update(Inspection).where(Inspection.id == number, Inspection.review == lesson.was)
            .values(review=Review.taught, reviewed_by=who.name, reviewed=now(), note=lesson.why)
        )  # fmt: skip
        switched = update(Line).where(Line.id == line.id, Line.model_id == model.id)
        after = here.models.add(
            session,
            content,
            name=model.name,
            how="teach",
            who=who.name,
            why=lesson.why,
            parent=model,
            detector=detector,
        )
        moved = session.execute(switched.values(model_id=after.id))
        if changed.rowcount != 1 or moved.rowcount != 1:  # type: ignore[attr-defined]
            text = f"Result {number} was decided, or the model of line {line.name} changed, meanwhile."
            raise coded(ConflictError(text), "changed_meanwhile")
        record(session, who.name, "result.teach", str(number), why=lesson.why,
               detail={"from": model.id, "to": after.id})  # fmt: skip
        told = told_of(session.get_one(Inspection, number, populate_existing=True))
    here.hub.publish("review", told)
    here.hub.publish("model", to_dict(after))
    return {"result": told, "model": to_dict(after)}


@router.post("/results/{number}/unteach", summary="Take a lesson back")
def unteach(here: Here, who: Operator, number: int, lesson: Lesson) -> dict[str, Any]:
    """The version from before judges again, if nothing was changed since; the question is open again."""
    with here.database.begin() as session:
        row = session.get(Inspection, number)
        if row is None:
            raise coded(MissingError(f"There is no result {number}."), "missing", name=str(number))
        line = session.get_one(Line, row.line_id)
        model = line.model
        if row.review != Review.taught or model is None or model.how != "teach" or model.parent_id is None:
            raise coded(ConflictError(f"Result {number} is not what was taught last on line {line.name}."), "not_last")
        taught = {"from": model.parent_id, "to": model.id}
        if not _taught_last(session, number, taught):
            raise coded(ConflictError(f"Result {number} is not what was taught last on line {line.name}."), "not_last")
        line.model_id = model.parent_id
        row.review, row.reviewed_by, row.reviewed, row.note = Review.open, who.name, now(), lesson.why
        record(session, who.name, "result.unteach", str(number), why=lesson.why,
               detail={"from": model.id, "to": model.parent_id})  # fmt: skip
        session.flush()
        told = told_of(row)
    here.hub.publish("review", told)
    here.hub.publish("line", {"line": line.name, "model_id": taught["from"], "shadow": False})
    return {"result": told}


def _taught_last(session: Any, number: int, taught: dict[str, int]) -> bool:
    """Whether the version that judges now was made by teaching this result."""
    from patchcore.station.store.tables import Entry

    entries = select(Entry).where(Entry.action == "result.teach", Entry.subject == str(number))
    last = session.scalars(entries.order_by(Entry.number.desc()).limit(1)).first()
    return last is not None and last.detail == taught


def found(here: Station, number: int) -> Model:
    """A version. Errors: MissingError."""
    with here.database.read() as session:
        model = session.get(Model, number) if 0 < number < 2**62 else None
    if model is None:
        raise coded(MissingError(f"There is no model {number}."), "missing", name=str(number))
    return model
