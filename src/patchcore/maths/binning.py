"""Neighbourhoods of a feature map, and vectors averaged into bins: the parts of a binned embedding."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def grid_of(size: tuple[int, int], patch_size: int, stride: int) -> tuple[int, int]:
    """The (rows, columns) of neighbourhoods on a map of (h, w) cells, zero-padded by half a neighbourhood."""
    padding = (patch_size - 1) // 2
    h, w = ((side + 2 * padding - patch_size) // stride + 1 for side in size)
    return h, w


def unfold(features: Tensor, patch_size: int, stride: int) -> Tensor:
    """(B, C, h, w) -> (B, C*p*p, h'*w'): the zero-padded neighbourhood of each cell, channel by channel."""
    return F.unfold(features, patch_size, padding=(patch_size - 1) // 2, stride=stride)


def average_bins(values: Tensor, bins: int) -> Tensor:
    """(N, L) -> (N, bins): each row cut into parts of equal length, which may share an element, and averaged."""
    return F.adaptive_avg_pool1d(values[None], bins)[0]


def bin_channels(values: Tensor, bins: int) -> Tensor:
    """The same over the channels: (B, C, N) -> (B, bins, N)."""
    return F.adaptive_avg_pool1d(values.transpose(1, 2), bins).transpose(1, 2)
