"""Joining the patch scores of several banks on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from patchcore.maths.resize import Frame

Side = tuple[int, int, int, int]  # along one side: cells, pixels they cover, pixels of the whole image, offset


def join(scores: Sequence[Tensor], frames: Sequence[Frame], units: Sequence[float]) -> Tensor:
    """Patch scores (h_i, w_i) of one image, each in its unit, averaged on the grid (h, w) of the first.

    `frames`: where the image lay when each was made. A cell that a frame does not show, because it
    crops more than the first, is the mean of the others.
    """
    target = [_side(scores[0], frames[0], axis) for axis in (0, 1)]
    total, seen = torch.zeros_like(scores[0]), torch.zeros_like(scores[0])
    for values, frame, unit in zip(scores, frames, units, strict=True):
        rows, columns = (side_matrix(_side(values, frame, axis), target[axis]).to(values) for axis in (0, 1))
        total += rows @ (values / unit) @ columns.T
        seen += rows.sum(1)[:, None] * columns.sum(1)
    return total / seen


def _side(scores: Tensor, frame: Frame, axis: int) -> Side:
    return scores.shape[axis], frame.inside[axis], frame.resized[axis], frame.offset[axis]


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is cached must serve every caller
def side_matrix(source: Side, target: Side) -> Tensor:
    """(target cells, source cells): linear interpolation along one side, antialiased, through the image.

    Rows sum to 1, or are 0 where the source does not show the centre of the target's cell.
    """
    if source == target:
        return torch.eye(source[0])
    cells, inside, resized, offset = target
    step = inside / cells / resized  # from cell to cell, as a share of the image
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * step - offset / resized
    cells, inside, resized, offset = source
    centres = (centres * resized + offset) * cells / inside  # in cells of the source, from its edge
    stretch = max(1.0, step * resized * cells / inside)
    apart = (centres[:, None] - torch.arange(cells, dtype=torch.float64) - 0.5).abs() / stretch
    weights = (1 - apart).clamp(min=0)
    weights[(centres < 0) | (centres > cells)] = 0
    return (weights / weights.sum(1, keepdim=True).clamp(min=1e-9)).float()
