"""PatchCore: find defects in images of parts after seeing only good ones.

    from patchcore import Detector, Recipe
    detector = Detector(Recipe()).fit("parts/train/good")
    detector.predict("part.png").decision

Importing this package loads neither torch nor a network; the names below do so when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi
