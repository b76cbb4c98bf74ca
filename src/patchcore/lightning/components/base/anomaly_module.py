"""anomalib v1's path of `AnomalyModule`."""

from patchcore.lightning.base import AnomalyModule

__all__ = ["AnomalyModule"]
