"""Recipe: every choice that defines a detector."""

from patchcore.recipe.recipe import Recipe

__all__ = ["Recipe"]
