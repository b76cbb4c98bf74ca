"""Demo: real solar cells, learned once and then inspected one by one, as from a folder that a camera writes into."""

from __future__ import annotations

import logging
import random
import shutil
import threading
from pathlib import Path

from patchcore.data.layouts import elpv
from patchcore.errors import MissingExtraError
from patchcore.station.sources.specs import FolderSpec
from patchcore.station.station import Station
from patchcore.station.store.tables import Job, JobState, Line

log = logging.getLogger(__name__)
_LEARNED = 150  # good cells
_EVERY = 3.0  # seconds between two cells
_DEFECTS = 0.2  # of the cells that come


def place(data: Path) -> Path:
    """Where the demo's images are; the station needs it among its roots."""
    return data / "demo"


class Demo:
    """Gives a station a model and a stream of images. Monocrystalline cells of the package elpv-dataset.

    Args:
        station: With `place(settings.data)` among its roots.
        every: Seconds between two images.

    Errors: MissingExtraError.
    """

    def __init__(self, station: Station, every: float = _EVERY) -> None:
        root = elpv.installed()
        if root is None:
            raise MissingExtraError("elpv-dataset", "demo", "The demonstration")
        cells = [(root / name, good) for name, good in elpv.cells(root, "mono")]
        random.Random(0).shuffle(cells)
        good, bad = ([path for path, fine in cells if fine is kind] for kind in (True, False))
        self._learned, self._good, self._bad = good[:_LEARNED], good[_LEARNED:], bad
        self._station, self._every, self._folder = station, every, place(station.settings.data)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="demo", daemon=True)

    def start(self) -> None:
        """Begin: at the first start with a training, which takes less than a minute."""
        incoming, learned = self._folder / "incoming", self._folder / "learned" / "good"
        incoming.mkdir(parents=True, exist_ok=True)
        station, line = self._station, self._station.line("main")
        if line.model is None and not self._training():
            learned.mkdir(parents=True, exist_ok=True)
            for path in self._learned:
                shutil.copyfile(path, learned / path.name)
            target = station.work / "demo.patchcore"
            command = ["fit", str(learned.parent), "-o", str(target), "--recipe", "fast", "--json", "--thumbnails",
                       "--false-reject", "0.05", "--force"]  # fmt: skip
            wanted = {"name": "Solar cells", "line": line.name, "target": str(target), "why": "demonstration",
                      "images": str(learned.parent), "false_reject_rate": 0.05, "confidence": None}  # fmt: skip
            station.jobs.add("train", command, "station", wanted)
        if not line.source:
            spec = FolderSpec(path=incoming, afterwards="delete", bad="move", part=r"(cell\d+)")
            with station.database.begin() as session:
                session.get_one(Line, line.id).source = spec.model_dump(mode="json")
            station.sources.set(line.id, spec)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _training(self) -> bool:
        from sqlalchemy import select

        with self._station.database.read() as session:
            open_ones = select(Job.id).where(Job.state.in_((JobState.waiting, JobState.running)))
            return session.scalar(open_ones.limit(1)) is not None

    def _work(self) -> None:
        drawn = random.Random()
        incoming = self._folder / "incoming"
        while not self._stop.wait(self._every):
            if self._station.line("main").model is None or any(incoming.glob("*.png")):
                continue  # one at a time, once there is somebody to judge it
            path = drawn.choice(self._bad if drawn.random() < _DEFECTS else self._good)
            try:
                shutil.copyfile(path, incoming / "next.tmp")
                (incoming / "next.tmp").replace(incoming / path.name)
            except OSError as error:
                log.warning("Demo: %s", error)
