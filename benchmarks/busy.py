"""The cost of another busy process, depending on how long OpenMP's waiting threads spin (GOMP_SPINCOUNT).

    python benchmarks/busy.py MODEL IMAGES [--counts default,10000,1000,100] [--rounds 3] [--json FILE]

Times predictions of one image at a time, and a selection of 2 % of 100,000 rows, each in its own process: alone, and
beside a process that multiplies matrices on all cores. The settings take turns. Prints medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import machine, write_json

HOG = "import torch\na = torch.rand(4000, 300)\nwhile True: (a @ a[:2000].T).topk(3)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("images", nargs="?", type=Path)
    parser.add_argument("--counts", default="default,10000,1000,100")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", choices=["predict", "select"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(predict(options.model, options.images) if options.work == "predict" else select())
        return
    print(json.dumps(machine()))
    rows = []
    print(f"{'spin count':>12} {'beside':>8} {'one image, ms':>16} {'selection, s':>13}")
    for busy in (False, True):
        found: dict[str, list[tuple[float, float]]] = {}
        with hog() if busy else nothing():
            for _ in range(options.rounds):
                for count in options.counts.split(","):
                    both = [run(work, count, options) for work in ("predict", "select")]
                    found.setdefault(count, []).append((both[0], both[1]))
        for count, values in found.items():
            one, selection = (statistics.median(column) for column in zip(*values, strict=True))
            print(f"{count:>12} {'busy' if busy else 'nothing':>8} {one:16.1f} {selection:13.2f}")
            rows.append({"spin_count": count, "busy": busy, "one_image_ms": one, "selection_seconds": selection})
    write_json(options.json, {"machine": machine(), "rows": rows})


def run(work: str, count: str, options: Any) -> float:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    if count != "default":
        environment["GOMP_SPINCOUNT"] = count
    command = [sys.executable, __file__, options.model, options.images, "--work", work]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@contextmanager
def hog() -> Any:
    process = subprocess.Popen([sys.executable, "-c", HOG])
    time.sleep(3)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def nothing() -> Any:
    yield


def predict(model: Path, images: Path) -> float:
    """Milliseconds for one image, from path to verdict and map: the median of 20."""
    from patchcore import Detector
    from patchcore.data.sample import images_in

    detector, taken = Detector.load(model, device="cpu"), []
    paths = images_in(images, recursive=True)[:23]
    for path in paths:
        begin = time.perf_counter()
        _ = detector.predict(path).map
        taken.append(time.perf_counter() - begin)
    return 1000 * statistics.median(taken[3:])


def select() -> float:
    import torch

    from patchcore.maths.coreset import k_center_greedy

    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(100_000, 16, generator=generator) @ torch.randn(16, 152, generator=generator)
    begin = time.perf_counter()
    k_center_greedy(rows.half(), 2_000)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
