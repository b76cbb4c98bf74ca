"""Joining the patch scores of several banks on one grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from patchcore.maths.resize import Frame
from patchcore.maths.sizes import Size, Whole, precision, whole

Side = tuple[Size, Size, Size, Whole]  # along one side: cells, pixels they cover, pixels of the whole image, offset


def join(scores: Sequence[Tensor], frames: Sequence[Frame], units: Sequence[float]) -> Tensor:
    """Patch scores (h_i, w_i) of one image, each in its unit, averaged on the grid (h, w) of the first.

    `frames`: where the image lay when each was made. A cell that a frame does not show, because it
    crops more than the first, is the mean of the others.
    """
    sides = [tuple(_side(values, frame, axis) for axis in (0, 1)) for values, frame in zip(scores, frames, strict=True)]
    return joined(scores, [[side_matrix(*pair) for pair in zip(own, sides[0], strict=True)] for own in sides], units)


def joined(scores: Sequence[Tensor], matrices: Sequence[Sequence[Tensor]], units: Sequence[float]) -> Tensor:
    """The mean (..., h, w) of scores (..., h_i, w_i) in their units, each brought to one grid by its two matrices."""
    total, seen = torch.zeros(()), torch.zeros(())
    for values, own, unit in zip(scores, matrices, units, strict=True):
        rows, columns = (matrix.to(values) for matrix in own)
        total = total + rows @ (values / unit) @ columns.T
        seen = seen + rows.sum(1)[:, None] * columns.sum(1)
    return total / seen


def joined_in_part(scores: Sequence[Tensor], frames: Sequence[Frame], units: Sequence[float]) -> Tensor:
    """As `join`, where some cells have no score but NaN: a cell of the first's that has one is the mean over those
    cells that have, and every other stays NaN."""
    known = [~values.isnan() for values in scores]
    total = join([values.nan_to_num(0) for values in scores], frames, units)
    share = join([one.to(values) for one, values in zip(known, scores, strict=True)], frames, [1.0] * len(scores))
    return torch.where(known[0], total / share, torch.nan)


def _side(scores: Tensor, frame: Frame, axis: int) -> Side:
    return scores.shape[axis], frame.inside[axis], frame.resized[axis], frame.offset[axis]


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is cached must serve every caller
def side_matrix(source: Side, target: Side) -> Tensor:
    """What `join_matrix` makes of sizes that are known."""
    return join_matrix(source, target)


def join_matrix(source: Side, target: Side) -> Tensor:
    """(target cells, source cells): linear interpolation along one side, antialiased, through the image.

    Rows sum to 1, or are 0 where the source does not show the centre of the target's cell.
    """
    index, others, dtype = torch.arange(target[0]), torch.arange(source[0]), precision(source, target)
    if source is target or (dtype == torch.float64 and source == target):
        return (index[:, None] == index).float()
    cells, inside, resized, offset = (whole(size).to(dtype) for size in target)
    step = inside / cells / resized  # from cell to cell, as a share of the image
    centres = (index.to(dtype) + 0.5) * step - offset / resized
    cells, inside, resized, offset = (whole(size).to(dtype) for size in source)
    centres = (centres * resized + offset) * cells / inside  # in cells of the source, from its edge
    stretch = (step * resized * cells / inside).clamp(min=1)
    apart = (centres[:, None] - others.to(dtype) - 0.5).abs() / stretch
    weights = (1 - apart).clamp(min=0)
    slack = 0 if dtype == torch.float64 else 1e-4  # a centre on the very edge may seem to lie beyond it
    shown = (centres >= -slack) & (centres <= cells + slack)
    weights = torch.where(shown[:, None], weights, 0.0)
    return (weights / weights.sum(1, keepdim=True).clamp(min=1e-9)).float()


def score_unit(scores: Iterable[Tensor]) -> float:
    """What one stands for when scores of several banks are joined: the standard deviation of these.

    `scores`: patch scores, of any shape, of good images that the bank has not seen; NaN is left out. Their mean is
    left where it is: it would move all joined scores alike, and 0 is to stay no distance at all.
    """
    values = torch.cat([one[~one.isnan()] for one in scores]).double()
    deviation = float(values.std(correction=0))
    return deviation if deviation > 0 else float(values.mean()) or 1.0


def spread_unit(rows: Tensor, squared: bool) -> float:
    """The same without such images, much coarser: how far bank rows (M, D) are from their mean."""
    length = (rows - rows.mean(0)).norm(dim=1).square().mean()
    return float(length if squared else length.sqrt()) or 1.0
