"""A station in a process of its own, for the benchmarks of stations."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx

from patchcore.station.people import keys
from patchcore.station.settings import Settings
from patchcore.station.station import Station
from patchcore.station.store.database import Database
from patchcore.station.store.tables import Line, Role


def prepare(data: Path, model: Path) -> str:
    """A station in a new folder whose line `main` is judged by this model; returns the key of an admin."""
    station = Station(Settings(data=data))
    with station.database.begin() as session:
        made = station.models.add(session, model.read_bytes(), name="benchmark", how="import", who="benchmark")
        session.get_one(Line, 1).model_id = made.id
    station.close()
    database = Database(Settings(data=data).database_url)
    _, token = keys.make(database, "benchmark", "benchmark", Role.admin)
    database.close()
    return token


class Served:
    """`patchcore serve` on a folder; `url` once it answers."""

    def __init__(self, data: Path, *options: str, port: int = 0, wait: float = 120) -> None:
        command = [sys.executable, "-m", "patchcore", "serve", "--data", str(data), "--port", str(port), *options]
        self.log = (data / "serve.log").open("ab")
        begin = self.log.tell()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        end = time.monotonic() + wait
        while True:
            said = (data / "serve.log").read_bytes()[begin:].decode(errors="replace")
            if "http://" in said:
                self.url = "http://" + said.split("http://", 1)[1].split("/", 1)[0]
                try:
                    httpx.get(f"{self.url}/api/v1/health", timeout=5)
                    return
                except httpx.HTTPError:
                    pass
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"the station does not start: {said[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.close()
