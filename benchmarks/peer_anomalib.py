"""The peer's side of against_anomalib.py and lightning_against_anomalib.py, for its own interpreter.

    peer/bin/python benchmarks/peer_anomalib.py WORK BACKBONE LAYERS TASK

WORK holds the files written by the other side: weights.pt, images.npy, embeddings.npy, bank.npy. Times the work
named by TASK and prints one line of JSON. `scores` also writes maps.npy.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel


def seconds(function, runs=7):
    function()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def model(work: Path, backbone: str, layers: list[str]) -> PatchcoreModel:
    made = PatchcoreModel(backbone=backbone, layers=layers, pre_trained=False, num_neighbors=9)
    made.feature_extractor.feature_extractor.load_state_dict(torch.load(work / "weights.pt"), strict=False)
    return made


def coreset(work: Path, picks: int) -> dict[str, float]:
    """Seconds per pick, from the difference of two runs."""
    x = torch.from_numpy(np.load(work / "embeddings.npy")).float()

    def run(count: int) -> float:
        torch.manual_seed(0)
        begin = time.perf_counter()
        KCenterGreedy(embedding=x, sampling_ratio=count / len(x) + 1e-9).select_coreset_idxs()
        return time.perf_counter() - begin

    few = 20
    first = run(few)
    return {"seconds": (run(picks + few) - first) / picks}


def every_score(made: PatchcoreModel, images: torch.Tensor, work: Path) -> dict[str, list[float]]:
    """Score each image by itself; write the maps to a file."""
    scores, maps = [], []
    for image in images:
        found = made(image[None])
        scores.append(float(found.pred_score))
        maps.append(found.anomaly_map[0].numpy())
    np.save(work / "maps.npy", np.stack(maps))
    return {"scores": scores}


def main() -> None:
    work, backbone, layers, task = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), sys.argv[4]
    if task.startswith("coreset"):
        print(json.dumps(coreset(work, int(task.partition(":")[2]))))
        return
    made = model(work, backbone, layers)
    images = torch.from_numpy(np.load(work / "images.npy"))
    if task == "embed":  # the training images, in the batches of the peer's data loader
        made.train()
        made.feature_extractor.eval()
        begin = time.perf_counter()
        with torch.no_grad():
            for batch in images.split(32):
                made(batch)
        print(json.dumps({"seconds": time.perf_counter() - begin}))
        return
    made.eval()
    made.memory_bank = torch.from_numpy(np.load(work / "bank.npy"))
    with torch.no_grad():
        if task == "scores":
            result = every_score(made, images, work)
        elif task == "image":
            scores = [float(made(image[None]).pred_score) for image in images[-8:]]
            result = {"seconds": seconds(lambda: made(images[-1:])), "scores": scores}
        else:
            queries = torch.from_numpy(np.load(work / "queries.npy"))
            distances, _ = made.nearest_neighbors(queries, 1)
            result = {
                "seconds": seconds(lambda: made.nearest_neighbors(queries, 1)),
                "distances": distances.flatten().tolist(),
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
