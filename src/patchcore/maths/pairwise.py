"""Distances of all pairs, and nearest rows, in steps that `torch.export`, a trace, ONNX and OpenVINO can all repeat.

`maths.neighbours` is many times as fast, but compares, branches and compiles as the values tell it to, which a graph
cannot. What is here has a fixed number of steps, and takes memory for all pairs of numbers, not of rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

_COLUMNS = 32  # values of a pair that are compared at a time
_PAIRS = 1 << 18  # pairs that are measured at a time
_NEAR = 1 / 64  # of the squared lengths: a smaller squared distance is not left to a product
_ROWS = 1 << 13  # rows that are compared at a time
_SPARE = 3  # rows beyond the k nearest that are measured too, because products are rounded


def recorded() -> bool:
    """Whether torch is recording a graph (a trace, an export, a compilation), in which values decide nothing."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (..., N, M) of the rows of x (..., N, D) and y (..., M, D), in their wider type.

    Most come from one product. What that finds near 0, where |x|² - 2xy + |y|² has lost its digits, is measured value
    by value: rows that are equal are at a distance of exactly 0, and near ones are right to the last digits.
    """
    kind = torch.promote_types(x.dtype, y.dtype)
    if x.ndim > 2 or y.ndim > 2:
        lead = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        a, b = (one.expand(*lead, -1, -1).flatten(0, -3) for one in (x, y))
        return torch.stack([distances(*pair) for pair in zip(a, b, strict=True)]).unflatten(0, lead)
    wide = kind if kind in (torch.float32, torch.float64) else torch.float32
    x, y = x.to(wide), y.to(wide)
    centre = y.mean(0)  # a shift changes no distance, and makes products small
    a, b = x - centre, y - centre
    lengths = a.square().sum(1)[:, None] + b.square().sum(1)
    squares = lengths - 2 * (a @ b.T)
    near = (squares <= _NEAR * lengths).nonzero()
    flat = squares.flatten()
    for pairs in [near] if recorded() else near.split(_PAIRS):
        i, j = pairs[:, 0], pairs[:, 1]
        flat = flat.scatter(0, i * squares.shape[1] + j, _measured(x, i, y, j))
    return flat.reshape(squares.shape).sqrt().to(kind)


def _measured(x: Tensor, i: Tensor, y: Tensor, j: Tensor) -> Tensor:
    """Squared distances (P,) of x[i] and y[j], some columns at a time."""
    parts = zip(x.split(_COLUMNS, 1), y.split(_COLUMNS, 1), strict=True)
    return sum(((a.index_select(0, i) - b.index_select(0, j)).square().sum(1) for a, b in parts), x.new_zeros(()))


def nearest(queries: Tensor, rows: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """As `maths.neighbours.nearest` for rows (M, D), whose number is fixed: distances, indices (N, k).

    Products find the rows, some thousand at a time; the distances are measured.
    """
    k = min(k, len(rows))
    few = min(k + _SPARE, len(rows))
    centre = rows.mean(0)
    centred = queries - centre
    nearness, found = [], []
    for number, block in enumerate((rows - centre).split(_ROWS)):
        best = (centred @ block.T - block.square().sum(1) / 2).topk(min(few, len(block)), 1)
        nearness.append(best.values)
        found.append(best.indices + number * _ROWS)
    likely = torch.cat(found, 1)
    if len(found) > 1:
        likely = likely.gather(1, torch.cat(nearness, 1).topk(few, 1).indices)
    squares = [(queries - rows.index_select(0, likely[:, n])).square().sum(1) for n in range(few)]
    best = torch.stack(squares, 1).topk(k, 1, largest=False)
    return best.values.sqrt(), likely.gather(1, best.indices)
