"""Components: base classes and parts of models, by the paths that they have in anomalib v1."""

from __future__ import annotations

from patchcore.lightning.anomaly_map import AnomalyMapGenerator
from patchcore.lightning.base import AnomalyModule, LearningType, MemoryBankMixin
from patchcore.lightning.buffers import DynamicBufferMixin
from patchcore.lightning.sampling import KCenterGreedy

__all__ = [
    "AnomalyMapGenerator",
    "AnomalyModule",
    "DynamicBufferMixin",
    "KCenterGreedy",
    "LearningType",
    "MemoryBankMixin",
]
