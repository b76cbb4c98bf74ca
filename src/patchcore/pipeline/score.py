"""Scoring: patches against the banks of the members."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from patchcore.data.sample import Sample
from patchcore.errors import StoreError
from patchcore.maths import maps, scoring
from patchcore.maths.joining import join, joined_in_part
from patchcore.maths.resize import Frame
from patchcore.model.fitted import Member
from patchcore.pipeline.embed import Embedder, Grid, Patches
from patchcore.pipeline.roi import OUTSIDE, pixels_of
from patchcore.pipeline.workers import Loaded
from patchcore.recipe.recipe import Recipe


class Scored(NamedTuple):
    """Patch scores (h, w), and the nearest bank rows (h, w, k); NaN and -1 where a cell does not count.

    `areas`: the score of each area, where there are several.
    """

    scores: Tensor
    rows: Tensor
    areas: tuple[float, ...] = ()


@torch.inference_mode()
def against(member: Member, patches: Tensor, grid: Grid, cells: Tensor | None = None) -> Scored:
    """Patches (n, D), in the bank's scale, against one member's bank. `cells`: as in `Patches`."""
    k = member.recipe.neighbours
    if cells is None:
        distances, rows = member.bank.nearest(patches, k)
        scores = scoring.patch_scores(distances, member.recipe.distance)
        return Scored(scores.unflatten(0, grid), rows.unflatten(0, grid))
    kept = (cells.flatten() != OUTSIDE).to(patches.device)
    scores = torch.full(kept.shape, torch.nan, device=patches.device)
    if not len(patches):
        return Scored(scores.unflatten(0, grid), torch.full((*grid, k), -1, device=patches.device))
    distances, near = member.bank.nearest(patches, k)
    scores[kept] = scoring.patch_scores(distances, member.recipe.distance).to(scores)
    rows = torch.full((len(kept), near.shape[1]), -1, dtype=near.dtype, device=near.device)
    rows[kept] = near
    return Scored(scores.unflatten(0, grid), rows.unflatten(0, grid))


def joined(members: Sequence[Member], each: Sequence[Scored], frames: Sequence[Frame]) -> Scored:
    """The members' patch scores in their units, averaged on the first one's grid; and the first one's rows."""
    if len(members) == 1:
        return each[0]
    how = joined_in_part if any(one.scores.isnan().any() for one in each) else join
    return Scored(how([one.scores for one in each], frames, [member.unit for member in members]), each[0].rows)


def rated(
    member: Member, patches: Tensor, scored: Scored, cells: Tensor | None, units: Sequence[float] = ()
) -> tuple[float, Scored]:
    """One score for the image, by the first member, of its patches (n, D) and what they have scored; and that.

    `units`: of each area, if there are several: its patch scores are divided by its own, and the image's score is the
    highest of the areas' scores; NaN if the image does not show one of them. Other arguments as for `against`.
    """
    scores, rows = scored.scores.flatten(), scored.rows[..., 0].flatten()
    if cells is None:
        return image_score(member, patches, scores, rows), scored
    area = cells.flatten().to(scores.device)
    kept = area != OUTSIDE
    if not units:
        return image_score(member, patches, scores[kept], rows[kept]), scored
    scores = scores / torch.tensor([*units, 1.0], device=scores.device)[area.long()]  # the last is for `OUTSIDE`
    areas = []
    for number in range(len(units)):
        own = area == number
        areas.append(image_score(member, patches[own[kept]], scores[own], rows[own]))
    value = math.nan if any(map(math.isnan, areas)) else max(areas)
    return value, Scored(scores.view_as(scored.scores), scored.rows, tuple(areas))


@torch.inference_mode()
def image_score(member: Member, patches: Tensor, scores: Tensor, rows: Tensor) -> float:
    """One score for some patches (n, D) from their own scores (n,) and nearest rows (n,); NaN for none."""
    if not len(scores):
        return math.nan
    recipe, bank = member.recipe, member.bank
    value = scoring.image_score(
        scores,
        patches,
        rows,
        bank,
        kind=recipe.image_score,
        top_share=recipe.top_share,
        neighbours=recipe.reweight_neighbours,
    )
    return float(value)


def score(members: Sequence[Member], found: Sequence[Patches], units: Sequence[float] = ()) -> tuple[float, Scored]:
    """An image's patches, as each member has them, -> its score, and what is behind it. `units`: as in `rated`."""
    scaled = [own.values * member.bank.scales for member, own in zip(members, found, strict=True)]
    each = [against(m, values, own.grid, own.cells) for m, values, own in zip(members, scaled, found, strict=True)]
    scored = joined(members, each, [own.frame for own in found])
    return rated(members[0], scaled[0], scored, found[0].cells, units)


def anomaly_map(recipe: Recipe, scores: Tensor, frame: Frame) -> Tensor:
    """Patch scores (h, w) -> the map (H, W) at the image's own size and place; NaN where nothing was looked at.

    Smoothing next to a cell without a score takes the mean over those that have one.
    """
    make = partial(
        maps.anomaly_map, frame=frame, sigma=recipe.sigma, upsample=recipe.upsample, border=recipe.map_border
    )
    if recipe.roi is None and frame.motion is None:
        return make(scores)
    values = make(scores.nan_to_num(0)) / make((~scores.isnan()).to(scores))
    if frame.motion is not None:
        values = torch.from_numpy(frame.motion.to_image(values.cpu().numpy()))
    return torch.where(pixels_of(recipe.roi, frame).to(values.device), values, torch.nan)


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
    known = scored.scores[~scored.scores.isnan()] if found[0].cells is not None else scored.scores
    if not (math.isfinite(value) and known.isfinite().all() and (values.isnan() | values.isfinite()).all()):
        raise StoreError(f"its weights, bank and recipe give scores that are no finite numbers, such as {value}")
