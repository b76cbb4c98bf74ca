"""Lines: where parts are inspected, how it goes there, and the events of it all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from patchcore.station.api.common import Admin, Engineer, Here, Operator
from patchcore.station.people.access import identify
from patchcore.station.people.trail import lock, record
from patchcore.station.retention import Retention, set_rules
from patchcore.station.store.tables import Inspection, Line, now

router = APIRouter(tags=["lines"])
_AGAIN = 10.0  # seconds after which a stream asks whose it is


@router.get("/lines", summary="All lines")
def lines(here: Here, who: Operator) -> list[dict[str, Any]]:
    """Each with its model, its source, and what it has judged in the last eight hours."""
    return [line_dict(here, one) for one in _lines(here)]


def _lines(here: Here) -> list[Line]:
    with here.database.read() as session:
        return list(session.scalars(select(Line).order_by(Line.id)))


def line_dict(here: Here, line: Line, hours: float = 8) -> dict[str, Any]:
    """What is said of a line, in JSON."""
    since = now() - timedelta(hours=hours)
    with here.database.read() as session:
        judged = session.execute(
            select(Inspection.verdict, func.count())
            .where(Inspection.line_id == line.id, Inspection.time >= since)
            .group_by(Inspection.verdict)
        )
        counts = {verdict: count for verdict, count in judged}
        last = session.scalar(
            select(Inspection.id).where(Inspection.line_id == line.id).order_by(Inspection.id.desc()).limit(1)
        )
    return {
        "id": line.id,
        "name": line.name,
        "model": line.model and {"id": line.model.id, "name": line.model.name, "version": line.model.version},
        "shadow": line.shadow and {"id": line.shadow.id, "name": line.shadow.name, "version": line.shadow.version},
        "source": here.sources.states.get(line.id, {"kind": line.source.get("kind", "none"), "state": "off"}),
        "running": line.running,
        "last": last,
        "counts": {verdict: counts.get(verdict, 0) for verdict in ("pass", "unsure", "fail")},
        "hours": hours,
    }


@router.get("/alarms", summary="What has changed on the lines")
def alarms(here: Here, who: Operator) -> list[dict[str, Any]]:
    """The newest first, each with its advice; `by`: who has seen to it. What they promise: `patchcore watch --help`."""
    return here.watching.alarms()


@router.post("/lines/{name}/watch/restart", summary="The line is in order again")
def restart_watch(here: Here, who: Engineer, name: str) -> dict[str, str]:
    """As after a repair: it is compared anew, and its alarms so far are marked as seen to."""
    line = here.line(name)
    here.watching.restart(line, who.name)
    return {"line": line.name}


@router.get("/retention", summary="What is kept for how long")
def retention(here: Here, who: Operator) -> Retention:
    """In days; null: for ever."""
    return here.sweeper.rules()


@router.put("/retention", summary="Keep it for another time")
def set_retention(here: Here, who: Admin, rules: Retention) -> Retention:
    """What waits for a person is never deleted, whatever the rules say."""
    with here.database.begin() as session:
        lock(session)
        set_rules(session, rules)
        record(session, who.name, "retention.set", detail=rules.model_dump())
    return rules


@router.get("/events", summary="What happens, as it happens", response_class=StreamingResponse)
async def events(request: Request, here: Here, who: Operator) -> StreamingResponse:
    """Server-sent events: `result`, `review`, `model`, `line`, `job`, `source`, `output`,
    `alarm`, `trouble`; and each second
    without one `beat`. The first is `hello`, whose `start` changes with each start of the server. Ids count: where one
    is missing, ask for the present state."""

    async def told() -> AsyncIterator[str]:
        yield _event("hello", {"start": here.hub.start})
        asked = monotonic()
        async for event in here.hub.listen():
            if monotonic() - asked > _AGAIN:  # a session ends, and a key is revoked; a database comes back
                asked = monotonic()
                with suppress(DBAPIError):
                    if await run_in_threadpool(identify, request, touch=False) is None:
                        return
            if event is None:
                yield _event("beat", {"time": now().isoformat(timespec="milliseconds")})
            else:
                yield f"id: {event.number}\n" + _event(event.kind, event.data)

    return StreamingResponse(
        told(), media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"}
    )


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"
