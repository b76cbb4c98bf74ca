"""The interface of anomalib v1's PatchCore, on this package's engine.

    from lightning import Trainer
    from patchcore.lightning import Patchcore, ImageDataModule
    model = Patchcore()
    Trainer(**model.trainer_arguments).fit(model, ImageDataModule("parts"))

Needs `pip install 'patchcore[lightning]'`. docs/compatibility.md lists every name, and every deliberate
difference; docs/migration-anomalib.md shows a script before and after. Importing this package loads
neither torch nor Lightning; the names do so when first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from patchcore.errors import MissingExtraError

if find_spec("lightning") is None:
    raise MissingExtraError("lightning", "lightning", "patchcore.lightning")

if TYPE_CHECKING:
    from patchcore.lightning.anomaly_map import AnomalyMapGenerator
    from patchcore.lightning.components import (
        AnomalyModule,
        DynamicBufferMixin,
        KCenterGreedy,
        LearningType,
        MemoryBankMixin,
    )
    from patchcore.lightning.data import ImageDataModule
    from patchcore.lightning.lightning_model import Patchcore
    from patchcore.lightning.torch_model import PatchcoreModel

_WHERE = {
    "AnomalyMapGenerator": "anomaly_map",
    "AnomalyModule": "components",
    "DynamicBufferMixin": "components",
    "KCenterGreedy": "components",
    "LearningType": "components",
    "MemoryBankMixin": "components",
    "Patchcore": "lightning_model",
    "PatchcoreModel": "torch_model",
    "ImageDataModule": "data",
}
__all__ = [
    "AnomalyMapGenerator",
    "AnomalyModule",
    "DynamicBufferMixin",
    "ImageDataModule",
    "KCenterGreedy",
    "LearningType",
    "MemoryBankMixin",
    "Patchcore",
    "PatchcoreModel",
]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(import_module(f"patchcore.lightning.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'patchcore.lightning' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
