"""Exposure: the brightness and contrast of a whole image."""

from __future__ import annotations

import torch
from torch import Tensor

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
