"""Time of the engines to read the taps of one image, and their difference from torch in fp32.

python benchmarks/engines.py [--threads 1] [--runs 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import machine, seconds, summary, write_json

from patchcore.backbones import build, engines

NETWORKS = (("efficientnet_lite0", "pretrained", 256), ("wide_resnet50_2", "random", 224))


def measure(name: str, weights: str, side: int, threads: int, runs: int) -> dict[str, dict[str, float]]:
    backbone = build(name, weights, (8, 16), (side, side))
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = backbone.extractor(images)
    functions: dict[str, Any] = {
        f"{kind} {precision}": engines.engine(backbone, kind, precision, torch.device("cpu"), threads)
        for kind in engines.ENGINES
        for precision in engines.PRECISIONS
    }
    functions["torch fp32, channels last"] = lambda x: backbone.extractor(
        x.contiguous(memory_format=torch.channels_last)
    )
    first = {kind: seconds(partial(run, images)) for kind, run in functions.items()}
    times: dict[str, list[float]] = {kind: [] for kind in functions}
    for _ in range(runs):
        for kind, run in functions.items():  # in turn, so that a busy machine slows all of them
            times[kind].append(seconds(partial(run, images)))
    return {
        kind: {
            **summary(times[kind]),
            "first": first[kind],
            "error": max(float((a - b).norm() / b.norm()) for a, b in zip(run(images), expected, strict=True)),
        }
        for kind, run in functions.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {"machine": machine()}
    print(json.dumps(found["machine"]))
    with torch.inference_mode():
        for name, weights, side in NETWORKS:
            rows = found[f"{name} {side}"] = measure(name, weights, side, options.threads, options.runs)
            base = rows["torch fp32"]["median"]
            for kind, row in sorted(rows.items(), key=lambda item: -item[1]["median"]):
                print(
                    f"{name} {side} {kind:26} {1000 * row['median']:6.1f} ms ({1000 * row['min']:.1f}-"
                    f"{1000 * row['max']:.1f})  x{base / row['median']:.2f}  first {row['first']:.2f} s  "
                    f"error {row['error']:.1e}"
                )
    write_json(options.json, found)


if __name__ == "__main__":
    main()
