"""What patchcore-inspection computes, in plain NumPy and SciPy from its documents; and a network to compute it on."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn


class Stages(nn.Module):
    """A random network: stem (4 channels), low (8 channels, stride 4), high (12 channels, stride 8)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
            self.low = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
            self.high = nn.Sequential(nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()), nn.Conv2d(12, 12, 1))
            self.never = nn.Linear(12, 2)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.high(self.low(self.stem(x)))
        self.passes += 1
        return self.never(x.mean((2, 3)))

    def taps(self, x: Tensor) -> list[np.ndarray]:
        with torch.no_grad():
            low = self.low(self.stem(x))
            return [low.numpy(), self.high(low).numpy()]


def neighbourhoods(tap: np.ndarray, p: int, stride: int) -> np.ndarray:
    """(B, C, h, w) -> (B, h', w', C, p, p), zeros around it."""
    pad = int((p - 1) / 2)
    padded = np.pad(tap, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows = range(0, padded.shape[2] - p + 1, stride)
    columns = range(0, padded.shape[3] - p + 1, stride)
    cut = [[padded[:, :, i : i + p, j : j + p] for j in columns] for i in rows]
    return np.stack([np.stack(row, 1) for row in cut], 1)


def bilinear(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) -> size: pixel centres at half integers, the border continued."""
    for axis in (0, 1):
        n_in, n_out = plane.shape[axis], size[axis]
        where = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
        plane = np.apply_along_axis(lambda line: np.interp(where, np.arange(len(line)), line), axis, plane)  # noqa: B023
    return plane


def bins(values: np.ndarray, n: int) -> np.ndarray:
    """(N, L) -> (N, n): from floor(i L / n) to ceil((i + 1) L / n), averaged."""
    length = values.shape[1]
    parts = [values[:, i * length // n : -(-(i + 1) * length // n)].mean(1) for i in range(n)]
    return np.stack(parts, 1)


def patches(taps: list[np.ndarray], p: int, stride: int, per_layer: int, target: int) -> np.ndarray:
    """(N, target): unfold, bring every (c, p, p) plane to the first grid, bin each layer, stack, bin again."""
    unfolded = [neighbourhoods(tap, p, stride) for tap in taps]
    b, h, w = unfolded[0].shape[:3]
    binned = []
    for layer in unfolded:
        planes = layer.reshape(*layer.shape[:3], -1)
        aligned = np.stack(
            [np.stack([bilinear(planes[i, :, :, c], (h, w)) for c in range(planes.shape[3])], -1) for i in range(b)]
        )
        binned.append(bins(aligned.reshape(b * h * w, -1), per_layer))
    return bins(np.stack(binned, 1).reshape(b * h * w, -1), target)


def squared_distances(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return ((queries[:, None].astype(np.float64) - rows[None].astype(np.float64)) ** 2).sum(2)


def segmentation(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return gaussian_filter(bilinear(scores.astype(np.float64), size), sigma=4)


def greedy(x: np.ndarray, n: int, start: int | np.ndarray) -> list[int]:
    """Farthest point first, from a row, or from distances that every row begins with."""
    x = x.astype(np.float64)
    if isinstance(start, np.ndarray):
        picks, nearest = [], start.copy()
    else:
        picks, nearest = [start], np.linalg.norm(x - x[start], axis=1)
    while len(picks) < n:
        pick = int(nearest.argmax())
        picks.append(pick)
        nearest = np.minimum(nearest, np.linalg.norm(x - x[pick], axis=1))
        nearest[picks] = -1
    return picks
