"""Patch scores and image scores."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from patchcore.maths.neighbours import squared
from patchcore.maths.sizes import Size, share_of

Distance = Literal["l2", "squared_l2"]
ImageScore = Literal["max", "reweighted", "top_share"]


def patch_scores(distances: Tensor, distance: Distance) -> Tensor:
    """Distances (N, k) to the k nearest bank rows -> one score per patch (N,): their mean."""
    return (distances.square() if distance == "squared_l2" else distances).mean(1)


def top_share_score(scores: Tensor, share: float) -> Tensor:
    """The mean of the highest `share` of the patch scores (N,), at least one of them."""
    return mean_of_highest(scores, share_of(len(scores), share))


def mean_of_highest(scores: Tensor, count: Size) -> Tensor:
    """Of scores (..., N), the mean of the `count` highest (...)."""
    return scores.topk(count, -1).values.mean(-1)


def worst(scores: Tensor) -> int:
    """The number of the highest of all scores; NaN is none."""
    return int(scores.nan_to_num(nan=-torch.inf).argmax())


def image_score(
    scores: Tensor, patches: Tensor, rows: Tensor, bank: Rows, *, kind: ImageScore, top_share: float, neighbours: int
) -> Tensor:
    """One score for an image, by any of the three ways; arguments as for `reweighted_score`."""
    if kind == "top_share":
        return top_share_score(scores, top_share)
    if kind == "reweighted":
        return reweighted_score(scores, patches, rows, bank, neighbours)
    return scores.max()


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
    return reweighted(scores[top], squared(bank.rows[around], patches[top]).sqrt())


def neighbourhoods(bank: Rows, rows: Tensor, count: int) -> Tensor:
    """Of bank rows with these numbers (n,), each and the rows nearest to it, `count` in all: (n, count)."""
    _, near = bank.nearest(bank.rows[rows], count)
    own = near == rows[:, None]
    # A twin may be listed in a row's place: then the last one is left out.
    place = torch.where(own.any(1), own.int().argmax(1), near.shape[1] - 1)
    others = torch.arange(near.shape[1] - 1, device=near.device)
    return torch.cat([rows[:, None], near.gather(1, others + (others >= place[:, None]).long())], 1)


def reweighted(score: Tensor, distances: Tensor) -> Tensor:
    """Eq. 7 for p* of score s* (...), from its distances (..., b) to m* and the rows nearest to that."""
    return (1 - torch.softmax(distances, -1)[..., 0]) * score
