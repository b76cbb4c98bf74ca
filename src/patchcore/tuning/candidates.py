"""The recipes to compare, and the content of the recipe file to write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from pydantic import JsonValue

from patchcore.errors import RecipeError
from patchcore.files import from_json
from patchcore.recipe.recipe import Recipe
from patchcore.recipe.rules import fields_of


@dataclass(frozen=True)
class Candidate:
    """A recipe with its name, and the content of a recipe file that reproduces it."""

    name: str
    recipe: Recipe
    file: dict[str, JsonValue]


def variants(assignments: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
    """Every combination of the values in `field=a,b` texts: its assignments, and a label of those that vary.

    A comma within brackets is part of a value. Errors: RecipeError.
    """
    choices = [_choices(one) for one in assignments]
    return [
        (combination, " ".join(text for text, options in zip(combination, choices, strict=True) if len(options) > 1))
        for combination in product(*choices)
    ]


def _choices(assignment: str) -> list[str]:
    name, equals, text = assignment.partition("=")
    if not equals:
        raise RecipeError(f"{assignment!r} sets nothing; expected field=value, or field=a,b for variants.")
    try:
        values = [json.dumps(value) for value in from_json(f"[{text}]")]
    except ValueError:  # plain words
        values = [word.strip() for word in text.split(",")]
    if not values or not all(values):
        raise RecipeError(f"{assignment!r} has an empty value; expected field=a,b, for example size=192,256.")
    return [f"{name.strip()}={value}" for value in dict.fromkeys(values)]


def bases(name: str) -> list[str]:
    """The named recipe that a recipe is based on; for an ensemble in a file, that of each member."""
    if not name.endswith(".json"):
        return [name]
    fields = fields_of(name)
    members = fields.get("members") or [fields]
    return [one if isinstance(one, str) else one.get("base", "default") for one in members]


def recipe_file(recipe: Recipe, base: Sequence[str]) -> dict[str, JsonValue]:
    """The content of a recipe file: `base`, and the fields that differ from it; for an ensemble, of each member."""
    if len(base) == 1 and recipe == Recipe.named(base[0]):
        return {"base": base[0]}
    if recipe.members:  # a base that is an ensemble itself stands for all of its members
        starts = [one for name in base for one in ["default"] * len(Recipe.named(name).members) or [name]]
        members: list[JsonValue] = [
            recipe_file(member, [name]) for member, name in zip(recipe.members, starts, strict=True)
        ]
        return {**recipe.differences(), "members": members}
    return {"base": base[0], **recipe.differences(Recipe.named(base[0]))}
