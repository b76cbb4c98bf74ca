"""Exposure: the brightness and contrast of a whole image."""

from __future__ import annotations

import torch
from torch import Tensor

# About what photographs have on average. Less contrast loses detail, and more gains nothing (docs/recipes.md).
LEVEL, SPREAD = 0.45, 0.18
FLOOR = 0.02  # so that an image without contrast is not turned into its noise


def even(image: Tensor) -> Tensor:
    """Images (..., C, H, W), values from 0 to 1, brought to one mean and standard deviation.

    Both are taken over all pixels and channels of an image, so that colours keep their differences.
    The result is not cut to 0 and 1.
    """
    deviation, mean = torch.std_mean(image, dim=(-3, -2, -1), correction=0, keepdim=True)
    return (image - mean) * (SPREAD / (deviation + FLOOR)) + LEVEL
