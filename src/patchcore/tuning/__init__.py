"""Tuning: choose a recipe by cross-validation on good images and, if available, some defective ones."""

from __future__ import annotations

from patchcore.tuning.candidates import Candidate, recipe_file
from patchcore.tuning.choice import Choice, Limits, choose
from patchcore.tuning.crossing import Figures, Measured, cross_validate
from patchcore.tuning.images import Images, defects_at, gather

__all__ = [
    "Candidate",
    "Choice",
    "Figures",
    "Images",
    "Limits",
    "Measured",
    "choose",
    "cross_validate",
    "defects_at",
    "gather",
    "recipe_file",
]
