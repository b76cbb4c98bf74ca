"""Runs what `patchcore export` writes: NumPy, Pillow and one engine.

from patchcore_runtime import load
load("exported").predict("part.png").decision
"""

from patchcore_runtime.errors import (
    MissingExtraError,
    PatchcoreError,
    PictureError,
    SignatureError,
    StoreError,
    UsageError,
)
from patchcore_runtime.model import Model, Result, load

__version__ = "0.1.0"
__all__ = [
    "MissingExtraError",
    "Model",
    "PatchcoreError",
    "PictureError",
    "Result",
    "SignatureError",
    "StoreError",
    "UsageError",
    "__version__",
    "load",
]
