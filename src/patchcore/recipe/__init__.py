"""Recipe: every choice that defines a detector."""

from patchcore.recipe.fields import Recipe

__all__ = ["Recipe"]
