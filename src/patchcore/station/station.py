"""Station: all of it, put together, started and stopped."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import select

from patchcore.errors import UsageError
from patchcore.station.errors import MissingError, NoModelError, UnavailableError, coded, told
from patchcore.station.hub import Hub
from patchcore.station.inspection import Inspector
from patchcore.station.jobs import Jobs
from patchcore.station.metrics import Metrics
from patchcore.station.models import Models
from patchcore.station.outputs.keeper import Outputs
from patchcore.station.outputs.specs import stored
from patchcore.station.people import hosts
from patchcore.station.people.protection import checked_url
from patchcore.station.people.trail import record
from patchcore.station.retention import Sweeper
from patchcore.station.running import troubled
from patchcore.station.settings import Settings
from patchcore.station.sources.keeper import Keeper
from patchcore.station.sources.specs import source_spec
from patchcore.station.store.database import Database
from patchcore.station.store.files import Files
from patchcore.station.store.tables import Job, Line, Model
from patchcore.station.watching import Watching

log = logging.getLogger(__name__)


class Station:
    """A running station.

    Args:
        settings: What it is started with.

    Attributes:
        settings, database, files, hub, models, inspector, jobs, watching, sweeper, metrics, sources, outputs: Its
            rooms.

    Raises:
        StoreError: The database or the folder cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        try:
            settings.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{settings.data}: {error.strerror}. Give a folder that can be written.") from error
        with ExitStack() as ends:  # what has begun ends, and the lock goes, where the rest cannot begin
            lock = FileLock(settings.data / "station.lock", blocking=False)
            try:
                ends.enter_context(lock)
            except Timeout:
                raise UsageError(
                    f"{settings.data}: a station runs here already. Stop it, or give another folder."
                ) from None
            self._names = dict[int, str]()
            self._told = dict[str, dict[str, Any]]()  # the last state of each line's source
            self.hub = Hub()
            self.database = Database(settings.database_url)
            ends.callback(self.database.close)
            self.files = Files(settings.files_url)
            self.models = Models(settings, self.database, self.files)
            self.jobs = Jobs(self.database, self.hub)
            self.watching = Watching(settings.data / "watch", self.database, self.models, self.hub)
            ends.callback(self.watching.close)
            self.sweeper = Sweeper(self.database, self.files)
            ends.callback(self.sweeper.close)
            self.metrics = Metrics(lambda: self.inspector.waiting, lambda: shutil.disk_usage(settings.data).free)
            self.outputs = Outputs(
                self.database,
                lambda url: checked_url(url, hosts.allowed(self.database)),
                alive=lambda: self.inspector.alive and not self.database.alive() and not self._models(),
                tell=lambda name, state: self.hub.publish("output", {"name": name, **state}),
            )
            ends.callback(self.outputs.close)
            self.inspector = Inspector(
                settings, self.database, self.files, self.models, self.hub, enqueue=self.outputs.enqueue,
                announce=self._announce, watch=self.watching.see,
            )  # fmt: skip
            ends.callback(self.inspector.close)
            self.sources = Keeper(self.inspector.submit, self.database, self._source_is, settings.upload)
            ends.callback(self.sources.close)
            ends.callback(self.jobs.close)
            with self.database.begin() as session:
                if session.scalar(select(Line).limit(1)) is None:
                    session.add(Line(name="main"))
            self.jobs.when_done("train", self._trained)
            self.jobs.when_done("recalibrate", self._trained)
            self.jobs.when_done("audit", lambda job, found: {"images": found})
            self.jobs.start()
            self.sweeper.start()
            self._connect()
            self._ends = ends.pop_all()

    @property
    def sets(self) -> Path:
        """Where uploaded training images are."""
        return _folder(self.settings.data / "sets")

    @property
    def work(self) -> Path:
        """Where jobs write what is not yet a model."""
        return _folder(self.settings.data / "work")

    def _trained(self, job: Job, found: list[dict[str, Any]]) -> dict[str, Any]:
        """What a training wrote becomes a version, and judges its line."""
        wanted, target = job.wanted, Path(job.wanted["target"])
        try:
            content = target.read_bytes()
        finally:
            target.unlink(missing_ok=True)
        with self.database.begin() as session:
            model = self.models.add(
                session, content, name=wanted["name"], how="fit" if job.kind == "train" else job.kind, who=job.who,
                why=wanted.get("why", ""), parent=session.get(Model, wanted.get("model_id", 0)),
            )  # fmt: skip
            if wanted.get("line") is not None:
                line = session.scalars(select(Line).where(Line.name == wanted["line"])).one()
                before, line.model_id = line.model_id, model.id
                detail = {"from": before, "to": model.id}
                record(session, job.who, "model.activate", line.name, why=wanted.get("why", ""), detail=detail)
        self.hub.publish(
            "model", {"id": model.id, "name": model.name, "version": model.version, "line": wanted["line"]}
        )
        return {"model_id": model.id, "version": model.version, **(found[-1] if found else {})}

    def _connect(self) -> None:
        """Begin the sources and outputs that people have set. What cannot begin says so, and holds nothing up."""
        with self.database.read() as session:
            lines = session.scalars(select(Line)).all()
            try:
                self.outputs.set(stored(session))
            except UsageError as error:
                log.error("Outputs: %s", error)
        for line in lines:
            try:
                spec = source_spec(line.source if line.running else {}, self.settings.roots, line.source)
                self.sources.set(line.id, spec)
            except UsageError as error:  # a root that the station is no longer started with
                said = told(error)
                state = {"kind": str(line.source.get("kind")), "state": "lost", "why": said.pop("text"), **said}
                self._source_is(line.id, state)

    def _announce(self, told: dict[str, Any]) -> None:
        self.metrics.see(told)
        self.outputs.announce(told)

    def _source_is(self, number: int, state: dict[str, Any]) -> None:
        """The source of a line is in another state."""
        name = self._names.get(number) or self.line(number).name  # of the database only once: it may be away
        self._names[number] = name
        self._told[name] = state
        self.outputs.source(name, state)
        self.hub.publish("source", {"line": name, **state})

    def source_states(self) -> dict[str, dict[str, Any]]:
        """How the source of each line is, by the line's name."""
        with self.database.read() as session:
            names = {line.id: line.name for line in session.scalars(select(Line))}
        now = self.sources.states
        return {name: now.get(number) or self._told.get(name, {"state": "off"}) for number, name in names.items()}

    def ends(self, close: Callable[[], None]) -> None:
        """Call this first when the station ends."""
        self._ends.callback(close)

    def close(self) -> None:
        """Finish the images that wait, stop jobs and sources, and close the database."""
        self._ends.close()

    def line(self, name: str | int) -> Line:
        """A line by name or number. Errors: MissingError."""
        with self.database.read() as session:
            where = Line.id == name if isinstance(name, int) else Line.name == name
            found = session.scalar(select(Line).where(where))
        if found is None:
            raise coded(MissingError(f"There is no line {name!r}."), "no_line", line=str(name))
        return found

    def health(self) -> dict[str, Any]:
        """What works, and what does not and why: `ok` if all does.

        `trouble` has a text for each room that has any, in English; `told` the same, one by one, with codes, as
        `errors.told` gives them, and the line or output that it is `of`.
        """
        found = [*self._broken(), *self._lost(), *self.outputs.lost(), *self._models()]
        trouble = dict[str, str]()
        for one in found:
            text = f"{one['of']}: {one['text']}" if one["of"] else one["text"]
            trouble[one["about"]] = f"{trouble[one['about']]} {text}" if one["about"] in trouble else text
        return {
            "ok": not found,
            "trouble": trouble,
            "told": found,
            "waiting": self.inspector.waiting,
            "queue": self.settings.queue,
            "disk_free": shutil.disk_usage(self.settings.data).free,
            "listeners": len(self.hub),
            "start": self.hub.start,
        }

    def _broken(self) -> list[dict[str, Any]]:
        """What the station itself lacks."""
        found = list[dict[str, Any]]()
        if (why := self.database.alive()) is not None:
            found.append({"about": "database", **told(coded(UnavailableError(why), "database", why=why))})
        if (free := shutil.disk_usage(self.settings.data).free) <= 2 * self.settings.upload:
            error = UnavailableError(f"Only {free / 1e6:.0f} MB are free.")
            found.append({"about": "disk", **told(coded(error, "disk", free=round(free / 1e6)))})
        if self.inspector.trouble is not None:
            found.append({"about": "inspection", **self.inspector.trouble})
        return [{"of": "", **one} for one in found]

    def _lost(self) -> list[dict[str, Any]]:
        """Which sources have lost what they need."""
        states = self._told.copy().items()
        return [troubled("sources", name, state) for name, state in states if state["state"] == "lost"]

    def _models(self) -> list[dict[str, Any]]:
        """Why a line cannot judge, if one cannot."""
        found = list[Exception]()
        try:
            with self.database.read() as session:
                lines = session.scalars(select(Line)).all()
            for line in lines:
                if line.model is None:  # trouble where images come, or if there is none at all
                    if (line.source and line.running) or not any(one.model for one in lines):
                        text = f"Line {line.name} has no model yet."
                        found.append(coded(NoModelError(text), "no_model", line=line.name))
                elif not self.files.exists(line.model.file):
                    text = f"The model file of line {line.name} is gone: {line.model.file}. Put it back."
                    found.append(coded(MissingError(text), "model_gone", line=line.name, file=line.model.file))
        except Exception as error:
            found.append(error)
        return [{"about": "models", "of": "", **told(error)} for error in found]


def _folder(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    return place
