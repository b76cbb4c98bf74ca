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
from patchcore.maths.sizes import Size, Whole, at_least, precision, whole

Upsample = Literal["bilinear", "nearest"]
Border = Literal["mirror", "symmetric"]


def upsample_matrix(n_in: Size, n_out: Size, mode: Upsample) -> Tensor:
    """(n_out, n_in), pixel centres at half integers; `nearest` takes cell floor(i * n_in / n_out)."""
    if mode == "bilinear":
        return resize_matrix(n_in, n_out, "bilinear")
    source = torch.arange(n_out) * whole(n_in) // whole(n_out)
    return (source[:, None] == torch.arange(n_in)).float()


def gaussian_matrix(n: Size, sigma: float, border: Border) -> Tensor:
    """(n, n): a Gaussian of `sigma` pixels, cut at 4 sigma (33 taps for 4) and normalised.

    At the border the signal is reflected: `symmetric` repeats the outermost pixel
    (d c b a | a b c d), `mirror` does not (d c b | a b c d). Reflections repeat on short signals.
    """
    if sigma == 0:
        return upsample_matrix(n, n, "nearest")
    radius, size, dtype = int(4 * sigma + 0.5), whole(n), precision(n)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(dtype)
    repeat = 1 if border == "symmetric" else 0
    period = at_least(1, 2 * (size - 1 + repeat))
    folded = (torch.arange(n)[:, None] + offsets + radius * period) % period  # n, taps
    folded = torch.where(folded >= size, period - repeat - folded, folded)
    return torch.zeros(n, n, dtype=dtype).scatter_add(1, folded, kernel.expand(n, -1)).float()


def window_matrix(cells: Size, inside: Size, sigma: float, upsample: Upsample, border: Border) -> Tensor:
    """(inside, cells): along one side, from grid cells to smoothed pixels of the window that they cover."""
    return gaussian_matrix(inside, sigma, border) @ upsample_matrix(cells, inside, upsample)


def image_matrix(inside: Size, resized: Size, source: Size, offset: Whole) -> Tensor:
    """(source, inside): along one side, from pixels of the window to the image's own; NaN where it shows none."""
    back = resize_matrix(resized, source, "bilinear").index_select(1, torch.arange(inside) - offset)
    sums = back.sum(1, keepdim=True)
    return torch.where(sums > 0.501, back / sums, torch.nan)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is cached must serve every caller
def side_matrix(
    cells: int, inside: int, resized: int, source: int, offset: int, sigma: float, upsample: Upsample, border: Border
) -> Tensor:
    """(source, cells): from grid cells to the image's own pixels, along one side.

    The cells cover the `inside` pixels of the window; smoothing happens there, in window pixels.
    Source pixels that the window does not show are NaN.
    """
    return image_matrix(inside, resized, source, offset) @ window_matrix(cells, inside, sigma, upsample, border)


def anomaly_map(scores: Tensor, frame: Frame, *, sigma: float, upsample: Upsample, border: Border) -> Tensor:
    """Patch scores on their grid (..., h, w) -> maps (..., H, W) at the size of the image, or of its canvas."""
    sides = zip(scores.shape[-2:], frame.inside, frame.resized, frame.canvas, frame.offset, strict=True)
    rows, columns = (side_matrix(*side, sigma, upsample, border).to(scores) for side in sides)
    return rows @ scores @ columns.T
