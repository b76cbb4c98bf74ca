"""A folder of images, end to end, against its slowest stage alone.

    python benchmarks/folder.py [--images 1000] [--recipe default] [--engine torch] [--rounds 3] [--json FILE]

Stages, each over all images and at full speed: decoding alone; network, search and scores alone, on images that
are already decoded. Both use as many threads as the whole. Images: solar cells, 300 x 300.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from common import machine, mono_cells, seconds, summary, write_json

from patchcore import Detector, Recipe
from patchcore.data.resolve import resolve
from patchcore.pipeline.workers import in_order, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cells, threads = mono_cells(), torch.get_num_threads()
    detector = Detector(Recipe.named(options.recipe), engine=options.engine).fit(cells[:240])
    found = list(resolve(cells[: options.images]).samples)
    decoded = [one.pixels for one in in_order(lambda sample: load(sample, 10**8), found, threads)]
    work = {
        "decode": lambda: list(in_order(lambda sample: load(sample, 10**8).pixels.shape, found, threads)),
        "network, search, score": lambda: [result.score for result in detector.stream(decoded)],
        "whole": lambda: [result.score for result in detector.stream(cells[: options.images])],
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(options.rounds):
        for name, function in work.items():
            times[name].append(seconds(function))
    print(json.dumps(machine()))
    for name, values in times.items():
        s = summary(values)
        per = 1000 * s["median"] / len(found)
        print(f"{name:24} {s['median']:7.2f} s ({s['min']:.2f}-{s['max']:.2f}), {per:.2f} ms an image")
    slowest = max(summary(times[name])["median"] for name in list(work)[:2])
    ratio = summary(times["whole"])["median"] / slowest
    print(f"whole / slowest stage: {ratio:.3f}")
    results = {name: summary(values) for name, values in times.items()}
    write_json(options.json, {"machine": machine(), "images": len(found), "seconds": results, "ratio": ratio})


if __name__ == "__main__":
    main()
