"""anomalib v1's path of `MemoryBankMixin`."""

from patchcore.lightning.base import MemoryBankMixin

__all__ = ["MemoryBankMixin"]
