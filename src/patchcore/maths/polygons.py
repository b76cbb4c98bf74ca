"""Polygons: which points of a grid lie inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Polygon = tuple[tuple[float, float], ...]  # corners (x, y)
_ROWS = 256  # at a time: counts take four bytes a point


def inside(polygon: Sequence[tuple[float, float]], ys: Tensor, xs: Tensor) -> Tensor:
    """Which points (ys[i], xs[j]) lie inside a polygon, (h, w): those with an odd number of its edges to their left.

    `ys` (h,) and `xs` (w,) rise. An edge that is passed in both directions counts twice, and so not at all: one polygon
    may thus hold several rings. A point on an upper or left edge is inside, one on a lower or right edge is not.
    """
    corners = torch.tensor(polygon, dtype=torch.float64)
    ys, xs = ys.double(), xs.double()
    # From the upper end to the lower one, whatever the direction, so that both directions give the same crossings.
    ends = torch.stack([corners, corners.roll(-1, 0)])  # 2, edges, (x, y)
    down = ends[0, :, 1] <= ends[1, :, 1]
    upper, lower = (torch.where(way[:, None], ends[0], ends[1]) for way in (down, ~down))
    fall = (lower - upper)[:, 1]
    slope = (lower - upper)[:, 0] / torch.where(fall > 0, fall, 1)
    found = []
    for some in ys.split(_ROWS):
        crossings = upper[:, 0] + (some[:, None] - upper[:, 1]) * slope  # h, edges
        crossed = (some[:, None] >= upper[:, 1]) & (some[:, None] < lower[:, 1])
        first = torch.searchsorted(xs, crossings)  # the first point at an edge or right of it
        count = torch.zeros(len(some), len(xs) + 1, dtype=torch.int32)
        count.scatter_add_(1, first, crossed.int())
        found.append(count.cumsum(1, dtype=torch.int32)[:, :-1] % 2 == 1)
    return torch.cat(found)
