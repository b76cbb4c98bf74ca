"""patchcore.lightning against anomalib 2.7.0: with the same weights, pixels and bank, are the scores the same?

    python benchmarks/lightning_against_anomalib.py DATA... [--peer PYTHON] [--ratio 0.1] [--limit 120] [--json FILE]

DATA: folders in the MVTec AD layout. Our `Patchcore` is fitted by a stock Trainer, with the offline weights of
EfficientNet-Lite0, on images of 256 x 256 pixels without a crop (anomalib 2.7.0 has none). The peer gets its weights,
its bank and the test images as the network's input, and scores each image by itself, as our side does.

`--peer` is the interpreter of a separate environment (without it, only our side runs); the script installs nothing:
    python -m venv peer && peer/bin/pip install torch==2.14.1 torchvision==0.29.1 && peer/bin/pip install anomalib==2.7.0

Differences are the largest relative ones: of scores over all images, of maps over all pixels. `against_anomalib.py`
compares speed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, write_json
from lightning import Trainer
from sklearn.metrics import roc_auc_score
from torchvision.transforms.v2 import Compose, Normalize, Resize

from patchcore.lightning import ImageDataModule, Patchcore

SIDE, LAYERS = 256, ("blocks.2", "blocks.4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--peer", help="interpreter of an environment that has anomalib")
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--limit", type=int, default=120, help="test images per dataset, evenly sampled")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(json.dumps(machine()))
    print(f"{'data':16} {'bank':>13} {'images':>8} {'score':>8} {'map':>8} {'AUROC':>7} {'peer':>7}")
    rows = []
    for root in options.data:
        with tempfile.TemporaryDirectory(prefix="patchcore-bench-") as work:
            rows.append(compared(root, Path(work), options))
        print(line(rows[-1]), flush=True)
    write_json(options.json, {"machine": machine(), "ratio": options.ratio, "side": SIDE, "rows": rows})


def compared(root: Path, work: Path, options: Any) -> dict[str, Any]:
    model = Patchcore("efficientnet_lite0", LAYERS, coreset_sampling_ratio=options.ratio)
    source = model.model.source
    transform = Compose([Resize((SIDE, SIDE), antialias=True), Normalize(list(source.mean), list(source.std))])
    data = ImageDataModule(root, transform=transform, calibration_share=0)
    step = -(-len(data.test) // options.limit)
    data.test = data.test[::step]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **model.trainer_arguments).fit(
            model, datamodule=data
        )
    batches = list(data.test_dataloader())
    images, labels = torch.cat([b["image"] for b in batches]), torch.cat([b["label"] for b in batches])
    made = model.model.eval()
    found = [made(image[None]) for image in images]
    scores = np.array([float(one["pred_score"]) for one in found])
    row: dict[str, Any] = {
        "data": root.name,
        "bank": list(made.memory_bank.shape),
        "images": len(images),
        "auroc": float(roc_auc_score(labels, scores)),
    }
    if options.peer:
        torch.save(made.feature_extractor.model.state_dict(), work / "weights.pt")
        np.save(work / "images.npy", images.numpy())
        np.save(work / "bank.npy", made.memory_bank.numpy())
        script = str(Path(__file__).with_name("peer_anomalib.py"))
        command = [options.peer, "-W", "ignore", script, str(work), "tf_efficientnet_lite0", ",".join(LAYERS), "scores"]
        theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        peer = np.array(theirs["scores"])
        maps, ours = np.load(work / "maps.npy", mmap_mode="r"), (one["anomaly_map"][0].numpy() for one in found)
        row |= {
            "peer_auroc": float(roc_auc_score(labels, peer)),
            "score_difference": float((np.abs(scores - peer) / peer).max()),
            "map_difference": max(float((np.abs(a - b) / b).max()) for a, b in zip(ours, maps, strict=True)),
        }
    return row


def line(row: dict[str, Any]) -> str:
    bank = " x ".join(map(str, row["bank"]))
    ours = f"{row['data'][:16]:16} {bank:>13} {row['images']:8}"
    if "peer_auroc" not in row:
        return f"{ours} {'-':>8} {'-':>8} {row['auroc']:7.4f} {'-':>7}"
    return (
        f"{ours} {row['score_difference']:8.1e} {row['map_difference']:8.1e} {row['auroc']:7.4f} "
        f"{row['peer_auroc']:7.4f}"
    )


if __name__ == "__main__":
    main()
