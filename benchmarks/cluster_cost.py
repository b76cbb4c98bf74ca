"""What a cluster costs beside one machine, and what it moves: processor seconds, rounds, messages and bytes.

    python benchmarks/cluster_cost.py [--counts 250,1000] [--workers 1,2] [--size 160] [-o cost.json]

The same images by `Detector` and by `patchcore.cluster` on a Ray of this machine. Processor seconds are those of the
driver and of all worker processes; on a busy machine they say more than the clock. What starting costs, and what an image
costs after that, is the line through the measured counts. Bytes are those of what is sent to workers and answered, as
pickled. The images are those of `--data`, shifted and brightened so that no two are equal.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import psutil
import torch
from PIL import Image
from ray import cloudpickle

from patchcore import Detector, Recipe, cluster
from patchcore.cluster.crew import Crew


class Processor:
    """Processor seconds of this process and of the workers that Ray starts meanwhile."""

    def __enter__(self):
        self._seen, self._end, self._begin = {}, threading.Event(), time.process_time()
        self._clock, self._thread = time.perf_counter(), threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._end.wait(0.5):
            for child in me.children(recursive=True):
                try:
                    if child.cmdline()[0].startswith("ray::"):
                        times = child.cpu_times()
                        self._seen[child.pid] = times.user + times.system
                except (psutil.Error, IndexError):
                    continue

    def __exit__(self, *_: object) -> None:
        self.clock = time.perf_counter() - self._clock
        self._end.set()
        self._thread.join()
        self.driver, self.workers = time.process_time() - self._begin, sum(self._seen.values())


class Counted:
    """Calls of a crew, by method: how many, and bytes to workers and back."""

    def __init__(self) -> None:
        self.calls: dict[str, list[int]] = {}
        send, answer = Crew._send, Crew.answer

        def sent(crew, call):
            own = self.calls.setdefault(call.method, [0, 0, 0])
            own[0] += 1
            own[1] += len(cloudpickle.dumps(call.arguments))
            send(crew, call)

        def answered(crew, call):
            found = answer(crew, call)
            self.calls[call.method][2] += len(cloudpickle.dumps(found))
            return found

        Crew._send, Crew.answer = sent, answered


def images(folder: Path, source: Path, count: int) -> Path:
    folder.mkdir()
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in {".jpg", ".png"})
    for number in range(count):
        with Image.open(files[number % len(files)]) as image:
            pixels = np.asarray(image.convert("RGB").resize((320, 320)), np.int16)
        rng = np.random.default_rng(number)
        pixels = np.roll(pixels, rng.integers(-12, 12, 2), (0, 1)) + rng.integers(-6, 6)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05d}.jpg", quality=90)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="250,1000")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--bytes", action="store_true", help="count them: takes processor time of its own")
    parser.add_argument("--data", type=Path, default=Path("tests/images/hazelnut/train/good"))
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    recipe, found = Recipe(size=asked.size), []

    def note(**row: object) -> None:
        found.append(row)
        print(json.dumps(row), flush=True)
        if asked.output:
            asked.output.write_text(json.dumps(found, indent=1))

    def measure(name: str, count: int, workers: int, work) -> object:
        counted = Counted() if asked.bytes and workers else None
        with Processor() as took:
            result = work()
        row = {"what": name, "images": count, "workers": workers, "driver": took.driver, "worker": took.workers}
        note(**row, processor=took.driver + took.workers, clock=took.clock, calls=counted.calls if counted else None)
        return result

    with tempfile.TemporaryDirectory(prefix="patchcore-cost-") as place:
        work = Path(place)
        Detector(recipe, threads=1).fit(asked.data)  # what is compiled once is compiled
        for count in map(int, asked.counts.split(",")):
            data = images(work / f"{count}", asked.data, count)
            plain = measure("fit", count, 0, lambda data=data: Detector(recipe, threads=1).fit(data))
            digest = plain.save(work / "plain")
            scores = [one.score for one in measure("predict", count, 0, lambda d=plain, data=data: d.predict(data))]
            for workers in map(int, asked.workers.split(",")):
                fitted = measure(
                    "fit", count, workers, lambda w=workers, data=data: cluster.fit(recipe, data, workers=w)
                )
                same = fitted.save(work / "cluster") == digest
                rows = measure(
                    "predict", count, workers, lambda w=workers, d=plain, data=data: cluster.predict(d, data, workers=w)
                )
                note(
                    what="same",
                    images=count,
                    workers=workers,
                    fit=same,
                    predict=[r["score"] for r in rows.rows] == scores,
                )


if __name__ == "__main__":
    main()
