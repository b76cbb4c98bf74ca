"""Scoring: patches against the banks of the members."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from patchcore.data.sample import Sample
from patchcore.errors import StoreError
from patchcore.maths import maps, scoring
from patchcore.maths.joining import join
from patchcore.maths.resize import Frame
from patchcore.model.fitted import Member
from patchcore.pipeline.embed import Embedder, Grid, Patches
from patchcore.pipeline.workers import Loaded
from patchcore.recipe.recipe import Recipe


class Scored(NamedTuple):
    """Patch scores (h, w), and the nearest bank rows (h, w, k)."""

    scores: Tensor
    rows: Tensor


@torch.inference_mode()
def against(member: Member, patches: Tensor, grid: Grid) -> Scored:
    """Patches (h*w, D), in the bank's scale, against one member's bank."""
    distances, rows = member.bank.nearest(patches, member.recipe.neighbours)
    scores = scoring.patch_scores(distances, member.recipe.distance)
    return Scored(scores.unflatten(0, grid), rows.unflatten(0, grid))


def joined(members: Sequence[Member], each: Sequence[Scored], frames: Sequence[Frame]) -> Scored:
    """The members' patch scores in their units, averaged on the first one's grid; and the first one's rows."""
    if len(members) == 1:
        return each[0]
    return Scored(join([one.scores for one in each], frames, [member.unit for member in members]), each[0].rows)


@torch.inference_mode()
def image_score(member: Member, patches: Tensor, scored: Scored) -> float:
    """One score for the image, by the first member, of its patches (h*w, D) and what they have scored.

    Arguments as for `against`."""
    recipe, bank = member.recipe, member.bank
    value = scoring.image_score(
        scored.scores.flatten(),
        patches,
        scored.rows[..., 0].flatten(),
        bank,
        kind=recipe.image_score,
        top_share=recipe.top_share,
        neighbours=recipe.reweight_neighbours,
    )
    return float(value)


def score(members: Sequence[Member], found: Sequence[Patches]) -> tuple[float, Scored]:
    """An image's patches, as each member has them, -> its score, and the patch scores behind it."""
    scaled = [own.values * member.bank.scales for member, own in zip(members, found, strict=True)]
    each = [against(m, values, own.grid) for m, values, own in zip(members, scaled, found, strict=True)]
    scored = joined(members, each, [own.frame for own in found])
    return image_score(members[0], scaled[0], scored), scored


def anomaly_map(recipe: Recipe, scores: Tensor, frame: Frame) -> Tensor:
    """Patch scores (h, w) -> the map (H, W) at the image's own size; NaN outside a crop."""
    return maps.anomaly_map(scores, frame, sigma=recipe.sigma, upsample=recipe.upsample, border=recipe.map_border)


def rehearse(members: Sequence[Member], embedders: Sequence[Embedder]) -> None:
    """Look at a made-up image, as `predict` will at real ones: what a file cannot do is said before.

    Weights, bank and recipe may each be in order and still give numbers without end together. Errors: StoreError.
    """
    recipe = members[0].recipe
    low, high = recipe.value_range or (0.0, 1.0)
    height, width = recipe.window
    places = torch.arange(height)[:, None, None] * 7 + torch.arange(width)[:, None] * 13 + torch.arange(3) * 29
    pixels = (low + (places % 97 / 96) * (high - low)).float().numpy()
    image = Loaded(Sample("made up", pixels), pixels, (low, high))
    found = [embedder([image])[0] for embedder in embedders]
    fresh = [m if m.bank.search != "exact" else replace(m, bank=replace(m.bank)) for m in members]  # see Points.grouped
    value, scored = score(fresh, found)
    values = anomaly_map(recipe, scored.scores, found[0].frame)
    if not (math.isfinite(value) and scored.scores.isfinite().all() and (values.isnan() | values.isfinite()).all()):
        raise StoreError(f"its weights, bank and recipe give scores that are no finite numbers, such as {value}")
