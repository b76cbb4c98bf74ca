"""Base: what models of anomalib v1 are derived from."""

from patchcore.lightning.base import AnomalyModule, LearningType, MemoryBankMixin
from patchcore.lightning.buffers import DynamicBufferMixin

__all__ = ["AnomalyModule", "DynamicBufferMixin", "LearningType", "MemoryBankMixin"]
