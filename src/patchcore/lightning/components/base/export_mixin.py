"""anomalib v1's path of `ExportMixin`."""

from patchcore.lightning.exporting import ExportMixin

__all__ = ["ExportMixin"]
