"""Screenshots of the station's pages, of a station that has had a day: `python docs/station_screens.py [FOLDER]`.

Without FOLDER those that docs/station.md shows are made anew; with one, every page goes there, for a desk and a phone,
light and dark, to be looked at.
"""

from __future__ import annotations

import io
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from patchcore import Detector, Recipe
from patchcore.station.app import create_app
from patchcore.station.people import sessions
from patchcore.station.people.access import cookie_name
from patchcore.station.settings import Settings
from patchcore.station.station import Station
from patchcore.station.store.tables import Inspection, Line, Person, Review, Role, now

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "tests" / "images" / "hazelnut"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
PAGES = ("inspect", "review", "history", "watch", "teach", "verdict", "models", "lines", "people", "results/1", "login")
SHOWN = (("inspect", 1440, False), ("inspect", 390, True), ("teach", 1440, False), ("verdict", 1440, False),
         ("review", 1440, False), ("history", 1440, False), ("watch", 1440, True), ("models", 1440, False),
         ("people", 1440, False))  # fmt: skip
_DAY = 220  # parts


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images" / "station"
    wanted = [(page, width, dark) for page in PAGES for width in (1440, 390) for dark in (False, True)]
    with (
        tempfile.TemporaryDirectory() as data,
        serving(Path(data)) as (address, cookie),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=OPTIONS)
        folder.mkdir(parents=True, exist_ok=True)
        for page, width, dark in wanted if len(sys.argv) > 1 else SHOWN:
            name = f"{page.replace('/', '-')}-{'desk' if width > 600 else 'phone'}{'-dark' if dark else ''}"
            shoot(browser, f"{address}/{page}", cookie, folder / f"{name}.webp", width, dark=dark)
        browser.close()


def shoot(browser: Browser, address: str, cookie: dict[str, Any], path: Path, width: int, *, dark: bool) -> None:
    """One page, as it is once its images have come."""
    context = browser.new_context(
        viewport={"width": width, "height": 900 if width > 600 else 844}, color_scheme="dark" if dark else "light"
    )
    context.add_cookies([cookie])  # type: ignore[list-item]
    page = context.new_page()
    page.goto(address)
    page.wait_for_timeout(4000)
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, quality=86, method=6)
    context.close()
    print(path)


@contextmanager
def serving(data: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of a station with a model and a day of parts, and the cookie of somebody who may see all of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    station = Station(Settings(data=data, port=port, roots=(Path("/srv/images"),), threads=1))
    server = uvicorn.Server(uvicorn.Config(create_app(station), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    try:
        model(station, data / "nuts.patchcore")
        day(station)
        with station.database.begin() as session:
            roles = {"anna": Role.admin, "otto": Role.operator, "petra": Role.engineer}
            people = [Person(name=name, password="none", role=role) for name, role in roles.items()]
            session.add_all(people)
            session.flush()
            token = sessions.begin(session, people[0])
        thread.start()
        while not server.started:
            time.sleep(0.05)
        address = f"http://127.0.0.1:{port}"
        yield address, {"name": cookie_name(station.settings), "value": token, "url": address}
    finally:
        server.should_exit = True
        thread.join() if thread.ident else station.close()


def model(station: Station, path: Path) -> None:
    """Two versions: as it was fitted, and with an unsure band."""
    recipe = Recipe(backbone="efficientnet_lite0", size=128, resize="stretch", crop=None, ratio=0.05, taps=(8, 16))
    Detector(recipe).fit(IMAGES / "train" / "good", thumbnails=True).save(path)
    with station.database.begin() as session:
        first = station.models.add(
            session, path.read_bytes(), name="hazelnut", how="fit", who="petra", why="first ten good ones"
        )
        content, detector = station.models.at_rate(first, 0.1, None, 0.9, who="petra", why="unsure ones to review")
        after = station.models.add(
            session, content, name="hazelnut", how="set", who="petra", why="unsure ones to review", parent=first,
            detector=detector,
        )  # fmt: skip
        session.get_one(Line, 1).model_id = after.id


def day(station: Station) -> None:
    """Parts of the last eight hours, mostly good ones, some of them decided."""
    chance = random.Random(1)
    good, bad = (sorted((IMAGES / "test" / kind).iterdir()) for kind in ("good", "colour"))
    kinds = [
        *chance.choices([good[0], good[1], good[2], *bad], [46, 46, 3, *(5 / len(bad) for _ in bad)], k=_DAY - 2),
        good[0],
        bad[0],
    ]
    for number, image in enumerate(kinds):
        told = station.inspector.submit(image.read_bytes(), line=1, name=image.name, part=f"H-{1911 + number}").result()
        ago = timedelta(minutes=2.15 * (_DAY - 1 - number)) * chance.uniform(0.97, 1)
        with station.database.begin() as session:
            row = session.get_one(Inspection, told["id"])
            row.time = now() - ago + timedelta(seconds=20)
            if row.verdict == "fail" and number < 0.7 * _DAY:
                row.review, row.reviewed_by, row.reviewed = Review.confirmed, "otto", row.time + timedelta(minutes=3)
                row.note = "paint"


if __name__ == "__main__":
    main()
