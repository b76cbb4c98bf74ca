"""Inferencers: the interface of anomalib v0's inferencers, and what its training and inference tools call.

    from patchcore.inferencers import TorchInferencer
    inferencer = TorchInferencer("results/config.yaml", "results/weights/model.ckpt", "results/meta_data.json")
    overlay, score = inferencer.predict("part.png")

`TorchInferencer` and `get_model` need `pip install 'patchcore[lightning]'`. docs/compatibility.md lists every
name, and every deliberate difference. torch is loaded when a name is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi
