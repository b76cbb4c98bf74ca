"""The inferencers of anomalib v0, and what its training and inference tools call.

    from patchcore.inferencers import TorchInferencer
    inferencer = TorchInferencer("results/config.yaml", "results/weights/model.ckpt", "results/meta_data.json")
    overlay, score = inferencer.predict("part.png")

`TorchInferencer` and `get_model` need `pip install 'patchcore[lightning]'`. docs/compatibility.md lists every
name, and every deliberate difference. Importing this package loads no torch; the names do so when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from patchcore.inferencers.base import Inferencer
    from patchcore.inferencers.models import get_model, get_model_metadata, read_config
    from patchcore.inferencers.pre_processor import PreProcessor
    from patchcore.inferencers.torch_inferencer import TorchInferencer
    from patchcore.inferencers.training import train
    from patchcore.inferencers.visuals import add_label, anomaly_map_to_color_map, superimpose_anomaly_map

_WHERE = {
    "Inferencer": "base",
    "PreProcessor": "pre_processor",
    "TorchInferencer": "torch_inferencer",
    "add_label": "visuals",
    "anomaly_map_to_color_map": "visuals",
    "get_model": "models",
    "get_model_metadata": "models",
    "read_config": "models",
    "superimpose_anomaly_map": "visuals",
    "train": "training",
}
__all__ = [
    "Inferencer",
    "PreProcessor",
    "TorchInferencer",
    "add_label",
    "anomaly_map_to_color_map",
    "get_model",
    "get_model_metadata",
    "read_config",
    "superimpose_anomaly_map",
    "train",
]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(import_module(f"patchcore.inferencers.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'patchcore.inferencers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
