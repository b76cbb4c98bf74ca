"""PatchCore: find defects in images of parts after seeing only good ones.

    from patchcore import Detector, Recipe
    detector = Detector(Recipe()).fit("parts/train/good")
    detector.predict("part.png").decision

Importing this package loads neither torch nor a network; the names below do so when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from patchcore.errors import (
    BackboneError,
    DataError,
    ExportError,
    ImageError,
    MissingExtraError,
    NotFittedError,
    PatchcoreError,
    RecipeError,
    StoreError,
    UsageError,
    WeightsError,
)

if TYPE_CHECKING:
    from patchcore.data.reading import Reading
    from patchcore.detector import Detector
    from patchcore.recipe.fields import Recipe
    from patchcore.result import Result

__version__ = "0.1.0"
__all__ = [
    "BackboneError",
    "DataError",
    "Detector",
    "ExportError",
    "ImageError",
    "MissingExtraError",
    "NotFittedError",
    "PatchcoreError",
    "Reading",
    "Recipe",
    "RecipeError",
    "Result",
    "StoreError",
    "UsageError",
    "WeightsError",
    "__version__",
]

_LAZY = {"Detector": "detector", "Reading": "data.reading", "Recipe": "recipe", "Result": "result"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(f"patchcore.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'patchcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
