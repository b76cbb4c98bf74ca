"""Machines: what brings images to a line, and what is told of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from patchcore.station.api.common import Admin, Engineer, Here, Operator
from patchcore.station.api.lines import line_dict
from patchcore.station.errors import ConflictError, UnavailableError, coded
from patchcore.station.outputs import specs as output_settings
from patchcore.station.outputs.specs import OutputSpec
from patchcore.station.people import hosts
from patchcore.station.people.shapes import ChangeHosts, Hosts
from patchcore.station.people.trail import lock, record
from patchcore.station.secrets import hidden
from patchcore.station.sources.specs import SourceSpec, source_spec
from patchcore.station.store.tables import Line

router = APIRouter(tags=["machines"])


class NewLine(BaseModel):
    """Another line."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=64, pattern=r"^[\w][\w .-]*$")


class Shot(BaseModel):
    """An image that is asked for."""

    model_config = ConfigDict(extra="forbid")
    part: str | None = Field(None, max_length=200)


@router.post("/lines", summary="Add a line")
def add_line(here: Here, who: Engineer, wanted: NewLine) -> dict[str, Any]:
    """It has no model and no source yet. 409: there is one of this name."""
    from sqlalchemy.exc import IntegrityError

    try:
        with here.database.begin() as session:
            lock(session)
            session.add(Line(name=wanted.name))
            session.flush()
            record(session, who.name, "line.add", wanted.name)
    except IntegrityError as error:
        text = f"There is a line {wanted.name!r} already."
        raise coded(ConflictError(text), "line_exists", name=wanted.name) from error
    here.hub.publish("line", {"line": wanted.name})
    return line_dict(here, here.line(wanted.name))


@router.get("/sources", summary="How the sources are")
def sources(here: Here, who: Operator) -> dict[str, dict[str, Any]]:
    """By line: `state` is running, waiting, lost, ended or off, and `why`."""
    return here.source_states()


@router.get("/lines/{name}/source", summary="What brings images to a line")
def source(here: Here, who: Engineer, name: str) -> dict[str, Any]:
    """Its settings, without secrets, and whether it is switched on."""
    line = here.line(name)
    return {"source": hidden(line.source), "running": line.running}


@router.put("/lines/{name}/source", summary="Connect a source to a line")
def set_source(here: Here, who: Engineer, name: str, wanted: SourceSpec) -> dict[str, Any]:
    """A folder, a camera, a video, or none; docs/station-machines.md has the fields. It begins at once."""
    line = here.line(name)
    spec = source_spec(wanted.model_dump(mode="json"), here.settings.roots, line.source, new=True)
    stored = {} if spec.kind == "none" else spec.model_dump(mode="json")
    with here.database.begin() as session:
        lock(session)
        row = session.get_one(Line, line.id)
        row.source, row.running = stored, True
        record(session, who.name, "line.source", line.name, detail=hidden(stored))
    here.sources.set(line.id, spec)
    return {"source": hidden(stored), "running": True}


class Switch(BaseModel):
    """Whether the source of a line is read."""

    model_config = ConfigDict(extra="forbid")
    running: bool


@router.post("/lines/{name}/switch", summary="Switch the source of a line on or off")
def switch(here: Here, who: Operator, name: str, wanted: Switch) -> dict[str, Any]:
    """A line that is off keeps its settings."""
    line = here.line(name)
    with here.database.begin() as session:
        lock(session)
        session.get_one(Line, line.id).running = wanted.running
        record(session, who.name, "line.switch", line.name, detail={"running": wanted.running})
    spec = source_spec(line.source if wanted.running else {}, here.settings.roots, line.source)
    here.sources.set(line.id, spec)
    return {"line": line.name, "running": wanted.running}


@router.post("/lines/{name}/shoot", summary="Take an image with the line's camera")
def shoot(here: Here, who: Operator, name: str, wanted: Shot) -> dict[str, Any]:
    """The verdict of an image that was taken after this was asked. 503: there is no camera that runs."""
    try:
        return here.sources.shoot(here.line(name).id, wanted.part).result(timeout=60)
    except TimeoutError as error:
        text = "The camera gave no image within a minute. Look at its state."
        raise coded(UnavailableError(text), "camera_silent") from error


@router.get("/outputs", summary="What machines are told")
def outputs(here: Here, who: Engineer) -> list[dict[str, Any]]:
    """Each output's settings, without secrets, and how it is; with an outbox, what waits in it."""
    states = {one["name"]: one for one in here.outputs.states()}
    with here.database.read() as session:
        found = output_settings.stored(session)
    return [{**hidden(spec.model_dump(mode="json")), "now": states.get(spec.name)} for spec in found]


@router.put("/outputs", summary="Set what machines are told")
def set_outputs(here: Here, who: Admin, wanted: list[OutputSpec]) -> list[dict[str, Any]]:
    """All of them: webhooks, MQTT, OPC UA, Modbus; docs/station-machines.md has the fields."""
    with here.database.begin() as session:
        lock(session)
        specs = output_settings.output_specs(
            [one.model_dump(mode="json") for one in wanted], output_settings.stored(session)
        )
        output_settings.store(session, specs)
        told = [hidden(one.model_dump(mode="json")) for one in specs]
        record(session, who.name, "outputs.set", detail={"outputs": told})
    here.outputs.set(specs)
    return outputs(here, who)


@router.get("/hosts", summary="Where webhooks may go in the own network")
def list_hosts(here: Here, who: Admin) -> Hosts:
    """The hosts in the own network that a webhook may send to. Those of the internet need not be listed."""
    return Hosts(hosts=list(hosts.allowed(here.database)))


@router.put("/hosts", summary="Let webhooks go to hosts in the own network")
def change_hosts(here: Here, who: Admin, given: ChangeHosts) -> Hosts:
    """List these, and no others. What waits for them is sent at once."""
    listed = hosts.allow(here.database, who.name, given.hosts, why=given.why)
    here.outputs.wake()
    return Hosts(hosts=list(listed))
