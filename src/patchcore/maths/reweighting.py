"""The re-weighted image score of the paper, eq. 7."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from patchcore.maths.neighbours import squared


class Rows(Protocol):
    """Rows (M, D) that can be searched: `nearest` gives distances (N, k), ascending, and indices."""

    @property
    def rows(self) -> Tensor: ...

    def nearest(self, patches: Tensor, k: int) -> tuple[Tensor, Tensor]: ...


def reweighted_score(scores: Tensor, patches: Tensor, rows: Tensor, bank: Rows, neighbours: int) -> Tensor:
    """The re-weighted image score (eq. 7).

    With p* the patch of highest score s* and m* its nearest bank row, the weight is one minus the
    softmax, at m*, of the distances from p* to the b rows of the bank nearest to m* (m* itself is
    the first of them): a patch whose nearest row lies in a sparse region counts more.

    `scores` (N,), `patches` (N, D), `rows` (N,) the nearest row of each patch, `bank`: its M rows.
    """
    top = scores.argmax()
    if neighbours <= 1:
        return scores[top]
    around = neighbourhoods(bank, rows[top][None], neighbours)[0]
    return reweighted(scores[top], patches[top], bank.rows[around])


def neighbourhoods(bank: Rows, rows: Tensor, count: int) -> Tensor:
    """Of bank rows with these numbers (n,), each and the rows nearest to it, `count` in all: (n, count)."""
    _, near = bank.nearest(bank.rows[rows], count)
    own = near == rows[:, None]
    # A twin may be listed in a row's place: then the last one is left out.
    place = torch.where(own.any(1), own.int().argmax(1), near.shape[1] - 1)
    others = torch.arange(near.shape[1], device=near.device) != place[:, None]
    return torch.cat([rows[:, None], near[others].unflatten(0, (len(rows), -1))], 1)


def reweighted(score: Tensor, patch: Tensor, around: Tensor) -> Tensor:
    """Eq. 7 for p* (..., D) of score s* (...), from m* and the rows nearest to it (..., b, D)."""
    distances = squared(around, patch[..., None, :]).sqrt()
    return (1 - torch.softmax(distances, -1)[..., 0]) * score
