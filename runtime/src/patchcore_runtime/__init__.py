"""patchcore-runtime: runs what `patchcore export` writes, without torch.

import patchcore_runtime
patchcore_runtime.load("exported").predict("part.png").decision
"""

from importlib import metadata

from patchcore_runtime.errors import ExportError, ImageError, SignatureError
from patchcore_runtime.model import Model, Result, load
from patchcore_runtime.vectors import Agreement, verify

__version__ = next((one.version for one in metadata.distributions(name="patchcore-runtime")), "0+unknown")
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
