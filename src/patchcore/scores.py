"""Scores: the patches of an image against a bank, as a recipe has it."""

from __future__ import annotations

import torch
from torch import Tensor

from patchcore.maths import scoring
from patchcore.memory.bank import Bank
from patchcore.recipe import Recipe

Grid = tuple[int, int]


@torch.inference_mode()
def patch_scores(recipe: Recipe, bank: Bank, patches: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Patches (h*w, D) -> patch scores (h, w), nearest bank rows (h, w, k)."""
    distances, rows = bank.nearest(patches * bank.scales, recipe.neighbours)
    return scoring.patch_scores(distances, recipe.distance).unflatten(0, grid), rows.unflatten(0, grid)


@torch.inference_mode()
def image_score(recipe: Recipe, bank: Bank, patches: Tensor, scores: Tensor, rows: Tensor) -> float:
    """Patches (h*w, D), and what `patch_scores` gives for them -> one score for the image."""
    rows = rows[..., 0].flatten()
    return float(scoring.image_score(scores.flatten(), patches * bank.scales, rows, bank, **recipe.score_options))
