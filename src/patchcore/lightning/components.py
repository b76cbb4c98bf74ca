"""The components of anomalib v1: base classes and parts of models."""

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
