"""Patch scores to an anomaly map.

Upsampling, smoothing and bringing the map back to the image's own size are each linear and
separable. Along one side they multiply into a single matrix, so a map costs two small products,
and an exported graph can hold the same two matrices.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from patchcore.maths.resize import Frame, resize_matrix

Upsample = Literal["bilinear", "nearest"]
Border = Literal["mirror", "symmetric"]


def upsample_matrix(n_in: int, n_out: int, mode: Upsample) -> Tensor:
    """(n_out, n_in), pixel centres at half integers; `nearest` takes cell floor(i * n_in / n_out)."""
    if mode == "bilinear":
        return resize_matrix(n_in, n_out, "bilinear")
    source = (torch.arange(n_out) * n_in) // n_out
    return torch.nn.functional.one_hot(source, n_in).float()


def gaussian_matrix(n: int, sigma: float, border: Border) -> Tensor:
    """(n, n): a Gaussian of `sigma` pixels, cut at 4 sigma (33 taps for 4) and normalised.

    At the border the signal is reflected: `symmetric` repeats the outermost pixel
    (d c b a | a b c d), `mirror` does not (d c b | a b c d). Reflections repeat on short signals.
    """
    if sigma == 0:
        return torch.eye(n)
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel /= kernel.sum()
    period = max(1, 2 * n if border == "symmetric" else 2 * n - 2)
    folded = (torch.arange(n)[:, None] + offsets) % period  # n, taps
    repeat = 1 if border == "symmetric" else 0
    folded = torch.where(folded >= n, period - repeat - folded, folded)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    return matrix.scatter_add_(1, folded, kernel.expand(n, -1)).float()


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is cached must serve every caller
def side_matrix(
    cells: int, inside: int, resized: int, source: int, offset: int, sigma: float, upsample: Upsample, border: Border
) -> Tensor:
    """(source, cells): from grid cells to the image's own pixels, along one side.

    The cells cover the `inside` pixels of the window; smoothing happens there, in window pixels.
    Source pixels that the window does not show are NaN.
    """
    window = gaussian_matrix(inside, sigma, border) @ upsample_matrix(cells, inside, upsample)
    back = resize_matrix(resized, source, "bilinear")[:, -offset : inside - offset]
    shown = back.sum(1, keepdim=True)
    return torch.where(shown > 0.501, (back / shown) @ window, torch.nan)


def anomaly_map(scores: Tensor, frame: Frame, *, sigma: float, upsample: Upsample, border: Border) -> Tensor:
    """Patch scores on their grid (..., h, w) -> maps (..., H, W) at the size of the source image."""
    rows, columns = (
        side_matrix(
            scores.shape[axis - 2],
            frame.inside[axis],
            frame.resized[axis],
            frame.source[axis],
            frame.offset[axis],
            sigma,
            upsample,
            border,
        ).to(scores)
        for axis in (0, 1)
    )
    return rows @ scores @ columns.T
