"""A real station, served in a thread, that can be stopped and started again at the same address."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn

from patchcore.station.app import create_app
from patchcore.station.people import sessions
from patchcore.station.people.access import cookie_name
from patchcore.station.settings import Settings
from patchcore.station.station import Station
from patchcore.station.store.tables import Line, Person, Role


class Served:
    """A station and its server."""

    def __init__(self, data: Path, roots: tuple[Path, ...] = ()) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.settings = Settings(data=data, port=self.port, roots=roots)
        self.begin()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self) -> None:
        self.station = Station(self.settings)
        config = uvicorn.Config(
            create_app(self.station), port=self.port, log_level="error", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def person(self, name: str = "admin", role: Role = Role.admin, **fields: object) -> dict[str, str]:
        """The cookie of somebody who is logged in."""
        with self.station.database.begin() as session:
            someone = session.query(Person).filter(Person.name == name).one_or_none()
            if someone is None:
                session.add(someone := Person(name=name, password="none", role=role, **fields))
                session.flush()
            token = sessions.begin(session, someone)
        return {"name": cookie_name(self.settings), "value": token, "url": self.url}

    def use(self, model: Path, name: str = "nuts") -> int:
        """Let a model file judge the line; the number of its version."""
        with self.station.database.begin() as session:
            found = self.station.models.add(session, model.read_bytes(), name=name, how="import", who="admin")
            session.query(Line).update({"model_id": found.id})
            return found.id

    def inspect(self, image: Path, part: str | None = None) -> dict:
        return self.station.inspector.submit(image.read_bytes(), line=1, name=image.name, part=part).result(60)


def until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
