"""A station that is killed under load: what it has acknowledged must be there.

    python benchmarks/station_kill.py MODEL IMAGES [--kills 50] [--seed 0] [--teach] [--json FILE]

A station of its own folder is started, four clients send it images, each with an idempotency key, and some of them also
review and teach; after a random time, from the start of the server on, it is killed (SIGKILL). Then database, model store
and images are opened and compared: every result, review and lesson that was acknowledged with 200 is there, its image
has its hash, no row lacks its image, the audit trail's chain is whole; and the next start answers. An image that was not
acknowledged is sent again with its key and must give one row in all.

With `--teach` one client teaches, beside one that sends images, and each kill aims at a lesson: in turn while it is being
learned, at a random time after it was asked for, and right after it was acknowledged.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import httpx
from common import machine, write_json
from PIL import Image
from serving import Served, prepare
from sqlalchemy import func, select

from patchcore import Detector
from patchcore.station.archive import check
from patchcore.station.people.trail import verify
from patchcore.station.settings import Settings
from patchcore.station.store.database import Database
from patchcore.station.store.files import Files
from patchcore.station.store.tables import Inspection, Line, Model, Review

_WINDOWS = {"asked": (0.0, 1.5), "learned": (0.0, 0.05)}  # seconds after that
_PATIENCE = 300  # seconds for a lesson: the first one of a process takes longest


class Load:
    """Clients that send until the server is gone, and remember what it has acknowledged."""

    def __init__(self, url: str, key: str, images: list[Path], run: int, known: dict[str, dict], teach: bool) -> None:
        self.url, self.key, self.images, self.run, self.teach = url, key, images, run, teach
        self.asked, self.learned = threading.Event(), threading.Event()  # a lesson was, for the first time
        self.known, self.reviews, self.taught, self.open = known, dict[int, str](), list[int](), list[str]()
        self.errors = list[str]()
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(n,)) for n in ((1, 2) if teach else range(4))]
        for thread in self.threads:
            thread.start()

    def _work(self, worker: int) -> None:
        drawn = random.Random(f"{self.run}-{worker}")
        with httpx.Client(base_url=f"{self.url}/api/v1", headers={"authorization": f"Bearer {self.key}"}) as http:
            for number in range(10_000):
                if self.ended.is_set():
                    return
                content, key = drawn.choice(self.images).read_bytes(), f"{self.run}-{worker}-{number}"
                if self.teach and worker == 1:
                    content = spoiled(content, drawn)
                try:
                    answer = self._send(http, content, key)
                    if answer is None:
                        continue
                    if worker == 0 and answer["verdict"] != "pass":
                        says = http.post(f"/results/{answer['id']}/review", json={"says": "confirmed"}, timeout=60)
                        if says.status_code == 200:
                            self.reviews[answer["id"]] = "confirmed"
                    if worker == 1 and answer["verdict"] != "pass":
                        self.asked.set()
                        says = http.post(f"/results/{answer['id']}/teach", json={}, timeout=60)
                        if says.status_code == 200:
                            self.taught.append(answer["id"])
                            self.learned.set()
                        elif says.status_code != 409:
                            self.errors.append(f"teach: {says.status_code} {says.text[:200]}")
                except httpx.HTTPError:
                    self.ended.wait(0.05)

    def _send(self, http: httpx.Client, content: bytes, key: str) -> dict | None:
        with self.lock:
            self.open.append(key)
        headers = {"idempotency-key": key}
        answer = http.post("/inspect", files={"image": ("image", content)}, headers=headers, timeout=60)
        if answer.status_code == 429:
            self.ended.wait(0.2)
            return None
        if answer.status_code != 200:
            self.errors.append(f"{answer.status_code} {answer.text[:200]}")
            return None
        with self.lock:
            self.known[key] = {**answer.json(), "content": content}
        return self.known[key]

    def end(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()


def spoiled(content: bytes, drawn: random.Random) -> bytes:
    """The image with a spot where and as none was before: what has been taught passes from then on."""
    with Image.open(io.BytesIO(content)) as given:
        image = given.convert("RGB")
    width, height = image.size
    side = min(width, height) // 5
    colour = tuple(drawn.randrange(256) for _ in range(3))
    image.paste(colour, (x := drawn.randrange(width - side), y := drawn.randrange(height - side), x + side, y + side))
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def compare(data: Path, known: dict[str, dict], reviews: dict[int, str], taught: list[int]) -> list[str]:
    """What is wrong in a folder whose server was killed."""
    wrong = list[str]()
    with sqlite3.connect(data / "station.sqlite") as plain:
        if (said := plain.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            wrong.append(f"SQLite: {said}")
    database, files = Database(Settings(data=data).database_url), Files(str(data))
    wrong += check(database, files)
    with database.read() as session:
        for key, told in known.items():
            row = session.scalar(select(Inspection).where(Inspection.key == key))
            if row is None or (row.score, row.verdict, row.sha256) != (
                told["score"],
                told["verdict"],
                told["image_sha256"],
            ):
                wrong.append(f"{key} was acknowledged and is {'lost' if row is None else 'another'}")
        for number, says in reviews.items():
            if session.get_one(Inspection, number).review.value != says:
                wrong.append(f"the review of {number} is lost")
        for number in taught:
            if session.get_one(Inspection, number).review != Review.taught:
                wrong.append(f"the lesson {number} is lost")
        lessons = session.scalar(select(func.count(Model.id)).where(Model.how == "teach"))
        told = session.scalar(select(func.count(Inspection.id)).where(Inspection.review == Review.taught))
        if lessons != told:
            wrong.append(f"{told} lessons, and {lessons} versions made of them")
        model = session.get_one(Line, 1).model
        if model is None or len(Detector.load(data / model.file).fitted.history) < lessons:
            wrong.append(f"the model of the line does not know its {lessons} lessons")
        if (broken := verify(session)).problem:
            wrong.append(f"audit trail: {broken}")
    database.close()
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--longest", type=float, default=6, help="seconds until a kill at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teach", action="store_true", help="kill while a lesson is learned, and right after it was")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(json.dumps(machine()))
    images = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in (".png", ".jpg"))
    drawn, rounds, known = random.Random(options.seed), [], dict[str, dict]()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "station"
        key = prepare(data, options.model)
        reviews, taught = dict[int, str](), list[int]()
        for run in range(options.kills):
            served = Served(data, wait=600)
            begin = time.monotonic()
            load = Load(served.url, key, images, run, known, options.teach)
            aim = "learned" if options.teach and run % 2 else "asked" if options.teach else ""
            if aim and not getattr(load, aim).wait(_PATIENCE):
                load.errors.append(f"no lesson within {_PATIENCE} s")
            time.sleep(drawn.uniform(*_WINDOWS[aim]) if aim else drawn.uniform(0.05, options.longest))
            after = time.monotonic() - begin
            served.kill()
            load.end()
            reviews |= load.reviews
            taught += load.taught
            wrong = compare(data, known, reviews, taught) + load.errors
            rounds.append({"kill": run, "aim": aim, "after": round(after, 2), "acknowledged": len(known), "reviews": len(reviews),
                           "taught": len(taught), "open": len(set(load.open) - set(known)), "wrong": wrong})  # fmt: skip
            print(json.dumps(rounds[-1]), flush=True)
        served = Served(data)
        again = 0
        with httpx.Client(base_url=f"{served.url}/api/v1", headers={"authorization": f"Bearer {key}"}) as http:
            for sent, told in list(known.items())[:: max(1, len(known) // 50)]:
                file = {"image": ("again", told["content"])}
                answer = http.post("/inspect", files=file, headers={"idempotency-key": sent}, timeout=60).json()
                again += answer["id"] == told["id"] and answer["replayed"]
        served.stop()
        database = Database(Settings(data=data).database_url)
        with database.read() as session:
            rows = session.scalar(select(func.count(Inspection.id)))
        database.close()
    wrong = sum(len(one["wrong"]) for one in rounds)
    print(f"{len(rounds)} kills, {len(known)} results acknowledged, {rows} rows, {len(reviews)} reviews, {len(taught)} "
          f"lessons: {wrong} lost or wrong; {again} keys sent again gave the same result.")  # fmt: skip
    if options.json:
        write_json(options.json, {"rounds": rounds, "rows": rows})


if __name__ == "__main__":
    main()
