"""Workers and machines that are killed while a cluster fits and predicts, and what comes of it.

    python benchmarks/cluster_faults.py [--kills 20] [--images 48] [--data FOLDER] [--only fit-worker,...]

Starts a Ray of three nodes on this machine (`ray.cluster_utils.Cluster`, three raylets), one core each for the two that
are killed. In each run some worker processes, or whole nodes, are killed at random moments while the work goes on; a new node
takes the place of a killed one. Compares the file of the model, byte for byte, and the rows, with those of one
machine. Then the driver of a run is killed, and the next one goes on; an image that ends its worker, and one that takes
more memory than a worker may have, must be named. Prints a line for each run and a table; writes JSON with -o.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_health_check_initial_delay_ms", "2000")
os.environ.setdefault("RAY_health_check_period_ms", "2000")
os.environ.setdefault("RAY_health_check_timeout_ms", "5000")

import numpy as np
import psutil
import ray
from PIL import Image

from patchcore import Detector, Recipe, cluster

RECIPE = Recipe(
    backbone="efficientnet_lite0", taps=(8, 16), size=96, resize="stretch", crop=None, ratio=0.1, min_rows=1,
    calibration="folds",
)  # fmt: skip
STORE = 200_000_000


def images(folder: Path, source: Path, count: int) -> Path:
    """So many different images, from those of a folder, mirrored and brightened."""
    folder.mkdir(parents=True)
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in {".jpg", ".png"})
    for number in range(count):
        with Image.open(files[number % len(files)]) as image:
            pixels = np.asarray(image.convert("RGB").resize((160, 160)), np.int16)
        pixels = pixels[:, :: -1 if number // len(files) % 2 else 1] + number // len(files)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.png")
    return folder


class Nodes:
    """Three nodes: the head, where the driver is and no worker, and two of one core."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        about = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
        self.cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=about))
        self.others = [self._one() for _ in range(2)]
        self.cluster.wait_for_nodes()

    def _one(self):
        return _patiently(lambda: self.cluster.add_node(num_cpus=1, object_store_memory=STORE))

    def kill_worker(self, rng: random.Random) -> str:
        """Kill a process that works for us: one that a raylet has started, and that has a model."""
        found = [p for p in psutil.process_iter(["name", "cmdline"]) if _works(p)]
        if not found:
            return ""
        one = rng.choice(found)
        told = " ".join(one.info["cmdline"])[:60]
        one.kill()
        return f"worker {one.pid} ({told})"

    def kill_node(self, rng: random.Random) -> str:
        place = rng.randrange(2)
        self.cluster.remove_node(self.others[place], allow_graceful=False)
        self.others[place] = self._one()
        return f"node {place}"


def _patiently(start):
    """On a busy machine a raylet may take longer than the half minute that Ray waits for it."""
    for last in (False, False, False, False, True):
        try:
            return start()
        except Exception:
            if last:
                raise


def _works(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.info["cmdline"] or [])
        return line.startswith(("ray::Worker", "ray::MapWorker", "ray::_MapWorker")) and "ray::IDLE" not in line
    except psutil.Error:
        return False


def run(
    what: str,
    kill: str,
    nodes: Nodes,
    data: Path,
    plain: tuple[bytes, list],
    detector,
    rng,
    work: Path,
    usual: float,
    asked,
) -> dict:
    """One run with some kills, until one ends. `usual`: how long it takes without."""
    killed, ended, moments = [], threading.Event(), []

    def end() -> None:
        for _ in range(asked.each if kill != "none" else 0):
            moments.append(round(rng.uniform(0.1, 0.9) * usual, 1))  # since the start, or since the kill before
            if ended.wait(moments[-1]):
                return
            begin = time.time()
            while not ended.is_set() and time.time() - begin < 60:
                if who := (nodes.kill_worker(rng) if kill == "worker" else nodes.kill_node(rng)):
                    killed.append(who)
                    break
                time.sleep(0.2)

    thread = threading.Thread(target=end)
    begin = time.perf_counter()
    thread.start()
    try:
        if what == "fit":
            found = cluster.fit(RECIPE, data, workers=2, memory="600MB")
            found.save(work / "model")
            same = (work / "model").read_bytes() == plain[0]
        else:
            shutil.rmtree(work / "rows.jsonl", ignore_errors=True)
            for old in (work / "rows.jsonl", work / ".rows.jsonl.model"):
                old.unlink(missing_ok=True)
            cluster.predict(detector, data, out=work / "rows.jsonl", workers=2)
            same = rows_of(work / "rows.jsonl") == plain[1]
        error = ""
    except Exception as failed:
        same, error = False, f"{type(failed).__name__}: {str(failed).splitlines()[0][:200]}"
    seconds = time.perf_counter() - begin
    ended.set()
    thread.join()
    row = {
        "what": what,
        "kill": kill,
        "after": moments,
        "killed": killed,
        "same": same,
        "seconds": round(seconds, 1),
        "error": error,
    }
    print(json.dumps(row), flush=True)
    return row


def rows_of(path: Path) -> list[tuple[str, float]]:
    return [(row["path"], row.get("score")) for row in map(json.loads, path.read_text("utf-8").splitlines())]


_DRIVER = """
import sys, json
from patchcore import Detector, Recipe, cluster
recipe = Recipe(**json.loads(sys.argv[1]))
what, data, work, address = sys.argv[2:]
if what == "fit":
    cluster.fit(recipe, data, workers=2, memory="600MB", address=address, checkpoints=f"{work}/kept").save(f"{work}/driver")
else:
    cluster.predict(f"{work}/plain", data, out=f"{work}/driver.jsonl", workers=2, address=address)
"""


def driver(what: str, nodes: Nodes, data: Path, plain: tuple[bytes, list], work: Path, rng, usual: float) -> dict:
    """The driver is killed, at a random moment after the first result is on the disk; the same command again."""
    for old in ("driver", "driver.jsonl", ".driver.jsonl.model"):
        (work / old).unlink(missing_ok=True)
    shutil.rmtree(work / "kept", ignore_errors=True)
    command = [
        sys.executable,
        "-c",
        _DRIVER,
        RECIPE.model_dump_json(),
        what,
        str(data),
        str(work),
        nodes.cluster.address,
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def kept() -> int:
        if what == "fit":
            return len(list((work / "kept").glob("*.pt"))) if (work / "kept").exists() else 0
        return len((work / "driver.jsonl").read_bytes().splitlines()) if (work / "driver.jsonl").exists() else 0

    begin = time.time()
    while not kept() and process.poll() is None and time.time() - begin < 300:
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 1))
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = kept()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    same = (work / "driver").read_bytes() == plain[0] if what == "fit" else rows_of(work / "driver.jsonl") == plain[1]
    row = {"what": what, "kill": "driver", "kept": before, "same": same}
    print(json.dumps(row), flush=True)
    return row


def poison(detector, data: Path, work: Path) -> list[dict]:
    """An image that ends its worker, and one that takes more memory than a worker may have."""
    folder = work / "poisoned"
    shutil.copytree(data, folder)
    Image.fromarray(np.zeros((9000, 9000, 3), np.uint8)).save(folder / "0003_large.png")
    found = cluster.predict(detector, folder, workers=2, memory="500MB")
    rows = [
        {"what": "predict", "kill": "memory", "named": [str(error)[:160] for error in found.bad], "rows": found.done}
    ]
    print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--data", type=Path, default=Path("tests/images/hazelnut/train/good"))
    parser.add_argument("--only", default="fit-worker,predict-worker,fit-node,predict-node,driver,memory")
    parser.add_argument("--each", type=int, default=3, help="kills in a run, at most")
    parser.add_argument("--drivers", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    rng, found = random.Random(0), []
    with tempfile.TemporaryDirectory(prefix="patchcore-faults-") as place:
        work = Path(place)
        data = images(work / "images", asked.data, asked.images)
        detector = Detector(RECIPE).fit(data)
        detector.save(work / "plain")
        plain = (work / "plain").read_bytes(), [(one.sample.image.name, one.score) for one in detector.predict(data)]
        nodes = Nodes()
        ray.init(nodes.cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        usual = {}
        for what in ("fit", "predict"):
            for _ in range(1):
                usual[what] = run(what, "none", nodes, data, plain, detector, rng, work, 1.0, asked)["seconds"]
        for kind in asked.only.split(","):
            if kind in ("driver", "memory"):
                continue
            what, kill = kind.split("-")
            kills = 0
            while kills < asked.kills:
                found.append(run(what, kill, nodes, data, plain, detector, rng, work, usual[what], asked))
                kills += max(1, len(found[-1]["killed"]))
                if asked.output:
                    asked.output.write_text(json.dumps(found, indent=1))
        if "memory" in asked.only:
            found += poison(detector, data, work)
        if "driver" in asked.only:
            for what in ("fit", "predict"):
                found += [driver(what, nodes, data, plain, work, rng, usual[what]) for _ in range(asked.drivers)]
        if asked.output:
            asked.output.write_text(json.dumps(found, indent=1))
        print("\n| what | killed | runs | kills | same result | longest, s |\n| --- | --- | --- | --- | --- | --- |")
        for kind in dict.fromkeys((row["what"], row["kill"]) for row in found):
            own = [row for row in found if (row["what"], row["kill"]) == kind]
            hit, same = sum(len(row.get("killed", "1")) for row in own), sum(row.get("same", True) for row in own)
            print(
                f"| {kind[0]} | {kind[1]} | {len(own)} | {hit} | {same} | {max(row.get('seconds', 0) for row in own)} |"
            )
        ray.shutdown()
        nodes.cluster.shutdown()


if __name__ == "__main__":
    main()
