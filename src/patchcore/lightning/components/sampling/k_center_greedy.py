"""anomalib v1's path of `KCenterGreedy`."""

from patchcore.lightning.sampling import KCenterGreedy

__all__ = ["KCenterGreedy"]
