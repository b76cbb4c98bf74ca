"""PatchCore: find defects in images of parts after seeing only good ones.

    from patchcore import Detector, Recipe
    detector = Detector(Recipe()).fit("parts/train/good")
    detector.predict("part.png").decision

Importing this package loads neither torch nor a network; the names below do so when first used.
"""

import os
import sys

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi


def __getattr__(name: str) -> object:
    """Load a name, and with the first one torch, whose threads then wait for each other without spinning.

    Spinning takes several times as long beside another busy process (docs/decisions/0006). The setting is read when
    torch is loaded, and does not stay in the environment; one of the caller's own is kept.
    """
    if "torch" in sys.modules or os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        return _load(name)
    os.environ["GOMP_SPINCOUNT"] = "1000"
    try:
        return _load(name)
    finally:
        del os.environ["GOMP_SPINCOUNT"]
