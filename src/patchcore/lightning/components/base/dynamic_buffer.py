"""anomalib v1's path of `DynamicBufferMixin`."""

from patchcore.lightning.buffers import DynamicBufferMixin

__all__ = ["DynamicBufferMixin"]
