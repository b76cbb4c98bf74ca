"""Watching: whether the images of each line are still like those that its model was calibrated with."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from patchcore.errors import PatchcoreError
from patchcore.result import Result
from patchcore.station.hub import Hub
from patchcore.station.models import Models
from patchcore.station.people.trail import lock, record
from patchcore.station.store.database import Database
from patchcore.station.store.kept import kept
from patchcore.station.store.tables import Line, Setting, now
from patchcore.watch.monitor import Alarm, Monitor

log = logging.getLogger(__name__)
_ALARMS = "alarms"  # the setting that holds them
_KEPT = 200  # alarms, of all lines together
_EVERY = 20.0  # seconds between two writings of a monitor's state


@dataclass
class _Watched:
    sha256: str
    monitor: Monitor
    written: float = field(default_factory=time.monotonic)


class Watching:
    """A `Monitor` for each line, whose state survives a restart; another model on a line begins another.

    Args:
        folder: Where states are written.
        database, models, hub: Of the station.
    """

    def __init__(self, folder: Path, database: Database, models: Models, hub: Hub) -> None:
        self._folder, self._database, self._models, self._hub = folder, database, models, hub
        self._lines, self._lock = dict[int, _Watched](), Lock()

    def see(self, line: Line, result: Result) -> None:
        """Look at a result; an alarm is kept and told."""
        if line.model is None:
            return
        with self._lock:
            watched = self._lines.get(line.id)
            if watched is None or watched.sha256 != line.model.sha256:
                watched = self._lines[line.id] = self._begun(line)
            alarms = watched.monitor.see(result)
            if alarms or time.monotonic() - watched.written > _EVERY:
                self._write(line.id, watched)
        for alarm in alarms:
            cause = _cause(alarm, result.threshold)
            about = {"line": line.name, "time": now().isoformat(timespec="seconds"), "cause": cause}
            self._keep({**about, **alarm.to_dict()})

    def _begun(self, line: Line) -> _Watched:
        assert line.model is not None
        detector = self._models.detector(line.model)
        place = self._place(line.id, line.model.sha256)
        try:
            monitor = Monitor.load(place, detector) if place.exists() else Monitor(detector)
        except PatchcoreError as error:
            log.warning("%s; watching begins anew.", error)
            monitor = Monitor(detector)
        return _Watched(line.model.sha256, monitor)

    def restart(self, line: Line, who: str) -> None:
        """Begin anew, as after a repair; alarms so far are marked as seen by this person."""
        if line.model is None:
            return
        with self._lock:
            watched = _Watched(line.model.sha256, Monitor(self._models.detector(line.model)))
            self._lines[line.id] = watched
            self._write(line.id, watched)
        with self._database.begin() as session:
            lock(session)
            row = kept(session, _ALARMS, {"alarms": []})
            alarms = [
                {"by": who, **one} if one["line"] == line.name and "by" not in one else one
                for one in row.value["alarms"]
            ]
            row.value = {"alarms": alarms}
            record(session, who, "line.watch", line.name)
        self._hub.publish("alarm", {"line": line.name, "what": None, "by": who})

    def alarms(self) -> list[dict[str, Any]]:
        """Those that are kept, the newest first."""
        with self._database.read() as session:
            row = session.get(Setting, _ALARMS)
        return list(reversed(row.value["alarms"])) if row is not None else []

    def close(self) -> None:
        """Write all states."""
        with self._lock:
            for number, watched in self._lines.items():
                self._write(number, watched)

    def _keep(self, alarm: dict[str, Any]) -> None:
        with self._database.begin() as session:
            row = kept(session, _ALARMS, {"alarms": []})
            row.value = {"alarms": [*row.value["alarms"], alarm][-_KEPT:]}
        self._hub.publish("alarm", alarm)

    def _place(self, number: int, sha256: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"line-{number}-{sha256[:16]}.json"

    def _write(self, number: int, watched: _Watched) -> None:
        watched.written = time.monotonic()
        try:
            watched.monitor.save(self._place(number, watched.sha256))
        except PatchcoreError as error:  # a full disk must not stop an inspection
            log.warning("%s", error)


def _cause(alarm: Alarm, threshold: float) -> str:
    """A code for the advice of an alarm: `alarm.advice.CODE` in pages/texts."""
    if alarm.what == "score":
        return "fails" if alarm.now > threshold else "score"
    if alarm.what == "sharpness":
        return "sharpness_up" if alarm.now > alarm.before else "sharpness_down"
    return alarm.what
