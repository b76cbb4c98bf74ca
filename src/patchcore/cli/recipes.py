"""Recipes: what options name, read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchcore.errors import UsageError

COMPARED = ("default", "accurate", "fast")  # recipes that are compared by default


def read_recipes(names: Sequence[str], assignments: tuple[str, ...]) -> dict[str, Any]:
    """Several recipes by label, from names, JSON files, and `a+b` for an ensemble of two."""
    found: dict[str, Any] = {}
    for name in names:
        label = "+".join(Path(one).stem if one.endswith(".json") else one for one in name.split("+"))
        if label in found:
            raise UsageError(f"There are two recipes {label!r}; give each name once.")
        found[label] = read_recipe(name.split("+"), assignments, None)
    return found


def read_recipe(names: Sequence[str], assignments: tuple[str, ...], seed: int | None) -> Any:
    """One recipe from a name or a JSON file, or an ensemble of several, with fields changed."""
    from patchcore.recipe.recipe import Recipe

    recipe = Recipe.ensemble(*(Recipe.read(name) if name.endswith(".json") else Recipe.named(name) for name in names))
    recipe = recipe.set(*assignments)
    for part in recipe.each:
        if part.weights not in ("pretrained", "random") and not Path(part.weights).exists():
            raise UsageError(
                f"weights is {part.weights!r}, but there is no such file. Expected pretrained, random, or the path of "
                "a safetensors file or state dict."
            )
    return recipe if seed is None else recipe.replace(seed=seed)
