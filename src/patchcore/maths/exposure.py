"""Exposure: images brought to one brightness and contrast, and whether a set of them needs it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

# About what photographs have on average. Less contrast loses detail, and more gains nothing (docs/recipes.md).
LEVEL, SPREAD = 0.45, 0.18
FLOOR = 0.02  # so that an image without contrast is not turned into its noise


def even(image: Tensor, shown: Tensor | None = None) -> Tensor:
    """Images (..., C, H, W), values from 0 to 1, brought to one mean and standard deviation.

    Both are taken over all pixels and channels of an image, so that colours keep their differences; with
    `shown` (H, W) over those pixels alone. The result is not cut to 0 and 1.
    """
    if shown is None:
        deviation, mean = torch.std_mean(image, dim=(-3, -2, -1), correction=0, keepdim=True)
    else:
        mean = _mean(image, shown)
        deviation = _mean((image - mean).square(), shown).sqrt()
    return (image - mean) * (SPREAD / (deviation + FLOOR)) + LEVEL


def _mean(values: Tensor, shown: Tensor) -> Tensor:
    """The mean of the values (..., C, H, W) of each image that are shown.

    Of so many floats, the sums of a graph's engines lose digits, most where many are the same; the second sum, of
    what is left, finds what the first one lost.
    """
    count = values.shape[-3] * shown.sum().float()

    def total(x: Tensor) -> Tensor:
        return torch.where(shown, x, 0.0).sum(-1, keepdim=True).sum(-2, keepdim=True).sum(-3, keepdim=True)

    first = total(values) / count
    return first + total(values - first) / count


def blocks_of(image: Tensor) -> Tensor:
    """The means (8, 8) of the blocks of an image (C, H, W), over all its channels."""
    return adaptive_avg_pool2d(image.mean(0, keepdim=True), 8)[0]


def variation(blocks: Tensor) -> float:
    """How much the light of images varies, in units of what their content explains; above 1, it is the light.

    `blocks` (N, 8, 8): the mean of each of an image's blocks, of N images that should look alike. What is left of a
    block after the mean of its place over all images is the image's own part, the same in all its blocks, and
    content, which is not. The variance of the one over that of the other: light moves whole images, and content
    moves a whole image only as far as it moves all its blocks the same way. One image does not tell: infinity.
    """
    if len(blocks) < 2:
        return float("inf")
    own = blocks.double() - blocks.double().mean(0)
    whole = own.mean((1, 2))
    content = (own - whole[:, None, None]).square().sum() / (len(blocks) - 1) / blocks[0].numel()
    common = whole.square().sum() / (len(blocks) - 1)
    return float(common / content) if content > 0 else float("inf") if common > 0 else 0.0
