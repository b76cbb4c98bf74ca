"""Detectors that are quick to fit and to export: a small network with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from patchcore import Detector, Recipe
from patchcore.data.sample import Sample


class Network(nn.Module):
    """Two stages, of strides 4 and 8, with a classifier behind them that no tap needs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 10, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


class Deep(Network):
    """Six convolutions, three of which int8 leaves as they are; the taps come last."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1), nn.ReLU()) for _ in range(4)]
        self.first = nn.Sequential(*self.first, *layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # values of one size from layer to layer, as in a trained network
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)


TAPS = ("first", "second")


def images(count: int = 8, size: tuple[int, int] = (40, 48), channels: int = 3, seed: int = 0) -> list[Any]:
    generator = np.random.default_rng(seed)
    coarse = generator.random((count, -(-size[0] // 8), -(-size[1] // 8), channels))
    smooth = np.kron(coarse, np.ones((1, 8, 8, 1)))[:, : size[0], : size[1]]
    return list((255 * (0.8 * smooth + 0.2 * generator.random(smooth.shape))).astype(np.uint8))


def fitted(**fields: Any) -> Detector:
    """A detector of the small network, or of what `backbone` names."""
    own = {} if "backbone" in fields or "members" in fields else {"backbone": Network()}
    base = {} if "members" in fields else {"size": 32, "taps": TAPS, "ratio": 0.1, "min_rows": 1, "sigma": 2.0}
    backbone = own.pop("backbone", None)
    return Detector(Recipe(**{"gate": "none", **base, **fields}), backbone=backbone).fit(images())


def labelled() -> list[Sample]:
    """Good images that no bank has seen, and as many with a bright square."""
    found = []
    for number, image in enumerate(images(12, seed=1)):
        kind = "good" if number < 6 else "spot"
        if kind == "spot":
            image[16:24, 16:24] = 255
        found.append(Sample(f"test/{number}", image, kind))
    return found
