"""patchcore-runtime: runs what `patchcore export` writes, without torch.

import patchcore_runtime
patchcore_runtime.load("exported").predict("part.png").decision
"""

from importlib import metadata

from patchcore_runtime.errors import ExportError, ImageError, SignatureError
from patchcore_runtime.model import Model, Result, load
from patchcore_runtime.vectors import Agreement, verify

try:
    __version__ = metadata.version("patchcore-runtime")
except metadata.PackageNotFoundError:  # run from its sources
    __version__ = "0+unknown"
__all__ = [
    "Agreement",
    "ExportError",
    "ImageError",
    "Model",
    "Result",
    "SignatureError",
    "__version__",
    "load",
    "verify",
]
