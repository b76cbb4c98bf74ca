"""The image score of anomalib before version 0.3.7, kept for those who compare with it."""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_score(distances: Tensor) -> Tensor:
    """(..., N, k) distances of N patches to their k nearest bank rows, ascending -> (...,) image scores.

    The highest patch score, which is the distance to the nearest row, times one minus the largest
    value of the softmax over all k distances of that patch. It sees neither the patch nor the bank,
    so it is not eq. 7 of the paper: the largest value is always that of the farthest of the k rows.
    With k = 1 it is 0.
    """
    top = distances[..., 0].argmax(-1)  # the first of equals
    own = distances.gather(-2, top[..., None, None].expand(*top.shape, 1, distances.shape[-1])).squeeze(-2)
    return (1 - torch.softmax(own, -1).amax(-1)) * own[..., 0]
