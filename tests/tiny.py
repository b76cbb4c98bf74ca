"""What a detector fits within milliseconds, where the content of images does not matter: network, recipe, images."""

import numpy as np
import torch
from torch import nn

from patchcore import Recipe


class Tiny(nn.Module):
    """A network of a caller's own, with strides 4 and 8."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.shallow = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        return self.head(self.deep(self.shallow(x)))


TINY = Recipe(
    taps=("shallow", "deep"),
    size=32,
    resize="stretch",
    crop=None,
    ratio=0.1,
    min_rows=1,
    exposure="even",
    pool="mean",
    scaling="channel",
    calibration="held_out",
)


def noise(n: int, height: int = 32, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
