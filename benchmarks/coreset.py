"""The exact coreset against a tight scan, the obvious loop, and anomalib's KCenterGreedy.

    python benchmarks/coreset.py [--peer PYTHON] [--runs 3] [--json FILE]

Data: 240 real solar cells, EfficientNet-Lite0, 224 px: 188,160 patches of 152 values; 10 % are picked.
The other methods are timed on their first picks and extrapolated, because every pick costs the same.

`--peer` is the interpreter of an environment that has anomalib:
    python -m venv peer && peer/bin/pip install torch==2.14.1 torchvision==0.29.1 anomalib==2.7.0
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import embeddings, machine, mono_cells, seconds, summary, write_json
from torch import Tensor

from patchcore import Recipe
from patchcore.backbones import build
from patchcore.maths.coreset import k_center_greedy
from patchcore.pipeline.embed import Embedder

PEER = """
import sys, time, torch, numpy as np
from anomalib.models.components import KCenterGreedy
x = torch.from_numpy(np.load(sys.argv[1]))
def run(picks):
    torch.manual_seed(0)
    begin = time.perf_counter()
    KCenterGreedy(embedding=x, sampling_ratio=picks / len(x) + 1e-9).select_coreset_idxs()
    return time.perf_counter() - begin
few, many = 20, int(sys.argv[2])
first = run(few)
print((run(many) - first) / (many - few))
"""


def patches(images: int) -> Tensor:
    """(images * 784, 152) half-precision patches of real cells."""
    backbone = build("efficientnet_lite0", "pretrained", (8, 16), (224, 224))
    return embeddings(
        Embedder(Recipe(size=224, exposure="even", pool="mean"), backbone, torch.device("cpu")), mono_cells()[:images]
    )


def tight_scan(x: Tensor, picks: int) -> list[int]:
    """One matrix-vector product with cached norms per pick."""
    norms = x.square().sum(1)
    best, chosen = torch.full((len(x),), torch.inf), [0]
    for _ in range(picks - 1):
        pick = x[chosen[-1]]
        torch.minimum(best, torch.addmv(norms, x, pick, alpha=-2) + norms[chosen[-1]], out=best)
        chosen.append(int(best.argmax()))
    return chosen


def obvious_loop(x: Tensor, picks: int) -> list[int]:
    """The straightforward version: the distance of every row to the last pick."""
    best, chosen = torch.full((len(x),), torch.inf), [0]
    for _ in range(picks - 1):
        best = torch.minimum(best, torch.linalg.norm(x - x[chosen[-1]], dim=1))
        chosen.append(int(best.argmax()))
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="interpreter of an environment that has anomalib")
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    half = patches(options.images)
    x = half.float()
    picks = len(x) // 10
    times: dict[str, list[float]] = {}
    for _ in range(options.runs):  # in turn, so that a busy machine slows all of them
        times.setdefault("patchcore", []).append(seconds(lambda: k_center_greedy(half, picks)))
        times.setdefault("tight scan", []).append(seconds(lambda: tight_scan(x, 500)) / 499 * picks)
        times.setdefault("obvious loop", []).append(seconds(lambda: obvious_loop(x, 60)) / 59 * picks)
        if options.peer:
            times.setdefault("anomalib", []).append(peer_seconds_per_pick(options.peer, x) * picks)
    agreed = k_center_greedy(half, 300).tolist()
    plain = tight_scan(x.double(), 300)
    print(json.dumps(machine()))
    print(f"{len(x)} x {x.shape[1]}, {picks} picks; first 300 picks equal a float64 scan's: {agreed == plain}")
    print(f"{'':14} {'seconds':>9} {'(min-max)':>17} {'ratio':>8}")
    ours = summary(times["patchcore"])["median"]
    for name, values in times.items():
        s = summary(values)
        print(f"{name:14} {s['median']:9.2f} {s['min']:8.2f}-{s['max']:8.2f} {s['median'] / ours:8.1f}")
    results = {name: summary(values) for name, values in times.items()}
    write_json(options.json, {"machine": machine(), "rows": len(x), "picks": picks, "seconds": results})


def peer_seconds_per_pick(python: str, x: Tensor, picks: int = 500) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        np.save(path, x.numpy())
        command = [python, "-c", PEER, str(path), str(picks)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
