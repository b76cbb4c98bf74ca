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
    row = rows[top]
    _, around = bank.nearest(bank.rows[row][None], neighbours)
    others = around[0][around[0] != row][: neighbours - 1]  # a twin of m* may be listed before it
    members = torch.cat([row[None], others])
    distances = squared(bank.rows[members], patches[top]).sqrt()
    return (1 - torch.softmax(distances, 0)[0]) * scores[top]
