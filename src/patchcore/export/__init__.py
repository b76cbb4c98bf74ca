"""Detectors as folders that run without patchcore: one graph for ONNX Runtime, OpenVINO or torch.

    from patchcore import export
    export.save(detector, "exported", format="onnx")
    export.load("exported").predict("part.png").decision

`load` and `verify` are those of the distribution `patchcore-runtime`, which needs neither torch nor patchcore.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from patchcore.errors import MissingExtraError

if TYPE_CHECKING:
    from patchcore_runtime import load, verify

    from patchcore.export.saving import Saved, save

__all__ = ["Saved", "load", "save", "verify"]

_LAZY = {"Saved": "patchcore.export.saving", "save": "patchcore.export.saving"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in ("load", "verify"):
        try:
            return getattr(import_module("patchcore_runtime"), name)
        except ModuleNotFoundError as error:
            if error.name != "patchcore_runtime":
                raise
            raise MissingExtraError("patchcore-runtime", "export", f"patchcore.export.{name}") from None
    raise AttributeError(f"module 'patchcore.export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
