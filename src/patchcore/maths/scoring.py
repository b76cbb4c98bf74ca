"""Patch scores and image scores."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from patchcore.maths.reweighting import Rows, reweighted_score
from patchcore.maths.sizes import Size, share_of

__all__ = ["Distance", "ImageScore", "Rows", "image_score", "patch_scores", "reweighted_score", "top_share_score"]

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


def image_score(
    scores: Tensor, patches: Tensor, rows: Tensor, bank: Rows, *, kind: ImageScore, top_share: float, neighbours: int
) -> Tensor:
    """One score for an image, by any of the three ways; arguments as for `reweighted_score`."""
    if kind == "top_share":
        return top_share_score(scores, top_share)
    if kind == "reweighted":
        return reweighted_score(scores, patches, rows, bank, neighbours)
    return scores.max()
