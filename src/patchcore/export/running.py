"""Running exported folders, with the package `patchcore-runtime`."""

from patchcore.errors import MissingExtraError

try:
    from patchcore_runtime import load, verify
except ModuleNotFoundError as error:
    if error.name != "patchcore_runtime":
        raise
    raise MissingExtraError("patchcore-runtime", "export", "patchcore.export.load, or verify,") from None

__all__ = ["load", "verify"]
