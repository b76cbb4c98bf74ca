"""What makes values comparable: channels of a patch, and scores of several banks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def channel_scales(blocks: Iterable[Tensor]) -> Tensor:
    """One over the standard deviation of each of the D values over patches: (D,), float32.

    The patches come in blocks (n, D); in one pass, in float64, by merging the blocks' moments. A
    value that hardly varies is not blown up: deviations count as at least 1 % of the largest.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for block in blocks:
        values = block.double()
        own, n = values.mean(0), len(values)
        squares = squares + (values - own).square().sum(0) + (own - mean).square() * (count * n / (count + n))
        mean = mean + (own - mean) * (n / (count + n))
        count += n
    deviation = (squares / count).sqrt()
    floor = 0.01 * deviation.max()
    return (1 / deviation.clamp(min=floor if floor > 0 else 1.0)).float()


def score_unit(scores: Iterable[Tensor]) -> float:
    """What one stands for when scores of several banks are joined: the standard deviation of these.

    `scores`: patch scores, of any shape, of good images that the bank has not seen. Their mean is
    left where it is: it would move all joined scores alike, and 0 is to stay no distance at all.
    """
    values = torch.cat([one.flatten() for one in scores]).double()
    deviation = float(values.std(correction=0))
    return deviation if deviation > 0 else float(values.mean()) or 1.0


def spread_unit(rows: Tensor, squared: bool) -> float:
    """The same without such images, much coarser: how far bank rows (M, D) are from their mean."""
    length = (rows - rows.mean(0)).norm(dim=1).square().mean()
    return float(length if squared else length.sqrt()) or 1.0
