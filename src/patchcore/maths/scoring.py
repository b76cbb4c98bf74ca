"""Patch scores and image scores."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from patchcore.maths.neighbours import nearest

Distance = Literal["l2", "squared_l2"]
ImageScore = Literal["max", "reweighted", "top_share"]


def patch_scores(distances: Tensor, distance: Distance) -> Tensor:
    """Distances (N, k) to the k nearest bank rows -> one score per patch (N,): their mean."""
    return (distances.square() if distance == "squared_l2" else distances).mean(1)


def top_share_score(scores: Tensor, share: float) -> Tensor:
    """The mean of the highest `share` of the patch scores (N,), at least one of them."""
    return scores.topk(max(1, round(share * len(scores)))).values.mean()


def reweighted_score(scores: Tensor, patches: Tensor, rows: Tensor, bank: Tensor, neighbours: int) -> Tensor:
    """The re-weighted image score (eq. 7).

    With p* the patch of highest score s* and m* its nearest bank row, the weight is one minus the
    softmax, at m*, of the distances from p* to the b rows of the bank nearest to m* (m* itself is
    the first of them): a patch whose nearest row lies in a sparse region counts more.

    `scores` (N,), `patches` (N, D), `rows` (N,) the nearest row of each patch, `bank` (M, D).
    """
    top = scores.argmax()
    if neighbours <= 1:
        return scores[top]
    row = rows[top]
    _, around = nearest(bank[row][None], bank, neighbours)
    others = around[0][around[0] != row][: neighbours - 1]  # a twin of m* may be listed before it
    members = torch.cat([row[None], others])
    distances = (bank[members] - patches[top]).square().sum(1).sqrt()
    return (1 - torch.softmax(distances, 0)[0]) * scores[top]


def image_score(
    scores: Tensor, patches: Tensor, rows: Tensor, bank: Tensor, *, kind: ImageScore, top_share: float, neighbours: int
) -> Tensor:
    """One score for a picture, by any of the three ways; arguments as for `reweighted_score`."""
    if kind == "top_share":
        return top_share_score(scores, top_share)
    if kind == "reweighted":
        return reweighted_score(scores, patches, rows, bank, neighbours)
    return scores.max()
