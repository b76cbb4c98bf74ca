"""patchcore against anomalib 2.7.0: the same weights, pictures and bank, both sides in turn.

    python benchmarks/against_anomalib.py --peer PYTHON [--backbones a,b] [--parts ...] [--rounds 3] [--json FILE]

`--peer` is the interpreter of an environment of its own:
    python -m venv peer && peer/bin/pip install torch==2.14.1 torchvision==0.29.1 && peer/bin/pip install anomalib==2.7.0

Data: real solar cells (PyPI package elpv-dataset), 224 px, 784 patches a picture. EfficientNet-Lite0, 1 and 2
have their ImageNet weights. Those of WideResNet50-2 cannot be had offline: its weights are random, with batch
statistics of 32 of the pictures, which gives the true cost of all dense work; what bounds leave depends on
the data, so the rows and axes that they leave are printed beside each time. `gaussian` is the worst case:
isotropic noise of WideResNet50-2's dimensions, where nothing can be ruled out.

The peer's coreset is timed on 500 picks, each of which costs it the same, and extrapolated; its fit is the
embedding of all pictures, measured, and the coreset. Ours is a whole process: `patchcore fit`, from files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import embeddings, calibrated_weights, machine, mono_cells, seconds, summary, write_json
from torch import Tensor

from patchcore import Detector, Recipe
from patchcore.backbones import build
from patchcore.calibration import Calibration
from patchcore.data.images import read
from patchcore.embedder import Embedder
from patchcore.maths.coreset import k_center_greedy
from patchcore.maths.neighbours import near_pairs, nearest
from patchcore.memory.bank import Bank

SIDE, PICTURES, SHARE = 224, 240, 0.1
LAYERS = {"wide_resnet50_2": "layer2,layer3"}  # of the peer; those of EfficientNet-Lite are blocks.2 and blocks.4


class Bench:
    """One backbone: its embeddings, its bank, and both sides' work on them."""

    def __init__(self, name: str, work: Path, peer: str | None, pictures: int) -> None:
        self.name, self.work, self.peer = name, work, peer
        cells = mono_cells()[: pictures + 8]
        self.weights = calibrated_weights(name, SIDE, work) if name == "wide_resnet50_2" else "pretrained"
        self.recipe = Recipe.named("lightning").replace(
            size=SIDE, backbone=name, weights=str(self.weights), ratio=SHARE, resize="stretch", projection="none"
        )
        backbone = build(name, str(self.weights), self.recipe.taps, (SIDE, SIDE))
        self.embedder = Embedder(self.recipe, backbone, torch.device("cpu"))
        every = embeddings(self.embedder, cells)
        self.patches, self.queries = every[: pictures * 784], every[-784:].float()
        self.cells = cells
        if peer:
            torch.save(backbone.extractor.model.state_dict(), work / "weights.pt")
            np.save(work / "images.npy", torch.stack([self.image(cell) for cell in cells]).numpy())
            np.save(work / "embeddings.npy", self.patches.numpy())
            np.save(work / "queries.npy", self.queries.numpy())

    def image(self, cell: Path) -> Tensor:
        """As the network wants it, (3, 224, 224)."""
        framed = self.embedder._framed_path(cell)
        return framed

    def of_peer(self, part: str) -> dict[str, Any]:
        backbone = self.name if self.name in LAYERS else f"tf_{self.name}"
        layers = LAYERS.get(self.name, "blocks.2,blocks.4")
        script = str(Path(__file__).with_name("peer_anomalib.py"))
        command = [self.peer, "-W", "ignore", script, str(self.work), backbone, layers, part]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # type: ignore[arg-type]
        return json.loads(done.stdout.splitlines()[-1])
