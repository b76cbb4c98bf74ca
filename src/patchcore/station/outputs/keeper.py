"""Keeper: runs the outputs that people have set, and tells them what happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy.orm import Session

from patchcore.errors import PatchcoreError
from patchcore.station.outputs import outbox
from patchcore.station.outputs.modbus import Modbus
from patchcore.station.outputs.mqtt import Mqtt
from patchcore.station.outputs.opcua import OpcUa
from patchcore.station.outputs.outbox import Outbox
from patchcore.station.outputs.specs import ModbusSpec, MqttSpec, OpcUaSpec, Spec, WebhookSpec
from patchcore.station.outputs.webhook import Check, Webhook
from patchcore.station.running import State, troubled
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Inspection


class _Runs(Protocol):
    def start(self) -> None: ...

    def stop(self, timeout: float) -> bool: ...


class Outputs:
    """All outputs of a station.

    Args:
        database: Of the station.
        check: Gives the addresses that a webhook may be sent to: `people.protection.checked_url`.
        alive: Whether the station inspects; heartbeats stand still while it does not.
        tell: Called with an output's name and its state, whenever that changes.

    Attributes:
        specs: The settings that are in force.
    """

    def __init__(
        self,
        database: Database,
        check: Check,
        *,
        alive: Callable[[], bool] = lambda: True,
        tell: Callable[[str, dict[str, Any]], None] = lambda name, state: None,
    ) -> None:
        self._database, self._check, self._alive, self._tell = database, check, alive, tell
        self._lock, self._running = threading.Lock(), dict[str, _Running]()
        self._sources = dict[str, dict[str, Any]]()

    @property
    def specs(self) -> tuple[Spec, ...]:
        return tuple(one.spec for one in self._running.copy().values())

    def set(self, specs: Sequence[Spec], timeout: float = 5.0) -> None:
        """From now on there are these outputs: those that are as before go on, others end or begin.

        What waits for one that is gone is given up. An output that cannot run says so in its state.
        """
        with self._lock:
            wanted = {spec.name: spec for spec in specs}
            for name, running in self._running.copy().items():
                if wanted.get(name) != running.spec:
                    running.stop(timeout)
                    del self._running[name]
            with self._database.begin() as session:
                outbox.abandon(session, [s.name for s in specs if isinstance(s, WebhookSpec | MqttSpec)])
            for name, spec in wanted.items():
                if name not in self._running:
                    self._running[name] = self._begun(spec)
                    for line, state in self._sources.items():
                        self._running[name].source(line, state)

    def _begun(self, spec: Spec) -> _Running:
        running = _Running(spec, State(spec.kind, lambda state: self._tell(spec.name, state)))
        try:
            running.begin(self._database, self._check, self._alive)
        except PatchcoreError as error:
            running.state.set("lost", error)
        return running

    def enqueue(self, session: Session, inspection: Inspection) -> None:
        """Write what is to be said of a result, in its transaction."""
        outbox.enqueue(session, inspection, self.specs)

    def announce(self, result: dict[str, Any]) -> None:
        """Tell of a result that has been stored, as `record.to_dict` gives it. Never waits."""
        for running in self._running.copy().values():
            if running.spec.tells(result):
                running.announce(result)

    def wake(self) -> None:
        """Send what waits now, whenever its next try is due: the way to a receiver may be open again. Never waits."""
        for running in self._running.copy().values():
            if running.outbox is not None:
                running.outbox.wake(now=True)

    def source(self, line: str, state: dict[str, Any]) -> None:
        """Tell how the source of a line is. Never waits."""
        self._sources[line] = state
        for running in self._running.copy().values():
            if not running.spec.lines or line in running.spec.lines:
                running.source(line, state)

    def states(self) -> list[dict[str, Any]]:
        """How each output is, in order; for those with an outbox also what waits in it. Errors: of the database."""
        found = []
        with self._database.read() as session:
            for name, running in self._running.copy().items():
                waits = outbox.backlog(session, name) if running.outbox is not None else {}
                found.append({"name": name, **running.state.to_dict(), **waits})
        return found

    def lost(self) -> list[dict[str, Any]]:
        """Which outputs cannot say what they have to, and why."""
        states = {name: running.state.to_dict() for name, running in self._running.copy().items()}
        return [troubled("outputs", name, state) for name, state in states.items() if state["state"] == "lost"]

    def close(self, timeout: float = 5.0) -> list[str]:
        """Stop all. Returns the names of those that did not end within so many seconds; they hold nothing up."""
        end = time.monotonic() + timeout
        with self._lock:
            kept = self._running.copy().items()
            return [name for name, running in kept if not running.stop(max(0.1, end - time.monotonic()))]


class _Running:
    """An output, and what it consists of."""

    def __init__(self, spec: Spec, state: State) -> None:
        self.spec, self.state = spec, state
        self.outbox: Outbox | None = None
        self._present: Modbus | OpcUa | None = None
        self._mqtt: Mqtt | None = None

    def begin(self, database: Database, check: Check, alive: Callable[[], bool]) -> None:
        """Errors: MissingExtraError."""
        spec = self.spec
        if isinstance(spec, WebhookSpec):
            send = Webhook(spec, check).send
            self.outbox = Outbox(database, spec.name, send, self.state, timedelta(hours=spec.hours))
        elif isinstance(spec, MqttSpec):
            mqtt = self._mqtt = Mqtt(spec, lambda there: self.outbox.wake(there) if self.outbox else None)
            keep = timedelta(hours=spec.hours)
            self.outbox = Outbox(database, spec.name, mqtt.send, self.state, keep, lambda: mqtt.trouble)
        elif isinstance(spec, ModbusSpec):
            self._present = Modbus(spec, self.state, alive)
        elif isinstance(spec, OpcUaSpec):
            self._present = OpcUa(spec, self.state, alive)
        for part in self._parts:
            part.start()

    @property
    def _parts(self) -> list[_Runs]:
        return [part for part in (self._mqtt, self.outbox, self._present) if part is not None]

    def announce(self, result: dict[str, Any]) -> None:
        if self.outbox is not None:
            self.outbox.wake()
        if self._present is not None:
            self._present.announce(result)

    def source(self, line: str, state: dict[str, Any]) -> None:
        for part in (self._mqtt, self._present):
            if part is not None:
                part.source(line, state)

    def stop(self, timeout: float) -> bool:
        return all([part.stop(timeout) for part in self._parts])
