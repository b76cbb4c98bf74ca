"""Scoring: patches against the banks of the members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from patchcore.maths import maps, scoring
from patchcore.maths.joining import join
from patchcore.maths.resize import Frame
from patchcore.model.fitted import Member
from patchcore.pipeline.embed import Grid, Patches
from patchcore.recipe.fields import Recipe


class Scored(NamedTuple):
    """Patch scores (h, w), and the nearest bank rows (h, w, k)."""

    scores: Tensor
    rows: Tensor


@torch.inference_mode()
def against(member: Member, patches: Tensor, grid: Grid) -> Scored:
    """Patches (h*w, D) against one member's bank."""
    distances, rows = member.bank.nearest(patches * member.bank.scales, member.recipe.neighbours)
    scores = scoring.patch_scores(distances, member.recipe.distance)
    return Scored(scores.unflatten(0, grid), rows.unflatten(0, grid))


def joined(members: Sequence[Member], each: Sequence[Scored], frames: Sequence[Frame]) -> Scored:
    """The members' patch scores in their units, averaged on the first one's grid; and the first one's rows."""
    if len(members) == 1:
        return each[0]
    return Scored(join([one.scores for one in each], frames, [member.unit for member in members]), each[0].rows)


@torch.inference_mode()
def image_score(member: Member, patches: Tensor, scored: Scored) -> float:
    """One score for the image, by the first member, of its patches (h*w, D) and what they have scored."""
    recipe, bank = member.recipe, member.bank
    value = scoring.image_score(
        scored.scores.flatten(),
        patches * bank.scales,
        scored.rows[..., 0].flatten(),
        bank,
        kind=recipe.image_score,
        top_share=recipe.top_share,
        neighbours=recipe.reweight_neighbours,
    )
    return float(value)


def score(members: Sequence[Member], found: Sequence[Patches]) -> tuple[float, Scored]:
    """An image's patches, as each member has them, -> its score, and the patch scores behind it."""
    each = [against(member, own.values, own.grid) for member, own in zip(members, found, strict=True)]
    scored = joined(members, each, [own.frame for own in found])
    return image_score(members[0], found[0].values, scored), scored


def anomaly_map(recipe: Recipe, scores: Tensor, frame: Frame) -> Tensor:
    """Patch scores (h, w) -> the map (H, W) at the image's own size; NaN outside a crop."""
    return maps.anomaly_map(scores, frame, sigma=recipe.sigma, upsample=recipe.upsample, border=recipe.map_border)
