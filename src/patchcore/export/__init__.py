"""Export: detectors as folders that run without patchcore, each a graph for ONNX Runtime, OpenVINO or torch.

    from patchcore import export
    export.save(detector, "exported", format="onnx")
    export.load("exported").predict("part.png").decision

`load` and `verify` come from the package `patchcore-runtime`, which needs neither torch nor patchcore.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi
