"""Detectors that are quick to fit and to export: a small network with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from patchcore import Detector, Recipe


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


TAPS = ("first", "second")


def pictures(count: int = 8, size: tuple[int, int] = (40, 48), channels: int = 3, seed: int = 0) -> list[Any]:
    generator = np.random.default_rng(seed)
    coarse = generator.random((count, -(-size[0] // 8), -(-size[1] // 8), channels))
    smooth = np.kron(coarse, np.ones((1, 8, 8, 1)))[:, : size[0], : size[1]]
    return list((255 * (0.8 * smooth + 0.2 * generator.random(smooth.shape))).astype(np.uint8))


def fitted(**fields: Any) -> Detector:
    """A detector of the small network, or of what `backbone` names."""
    own = {} if "backbone" in fields or "members" in fields else {"backbone": Network()}
    base = {} if "members" in fields else {"size": 32, "taps": TAPS, "ratio": 0.1, "sigma": 2.0}
    backbone = own.pop("backbone", None)
    return Detector(Recipe(**{**base, **fields}), backbone=backbone).fit(pictures())
