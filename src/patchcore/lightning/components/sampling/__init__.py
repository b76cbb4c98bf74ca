"""Sampling: how patches are chosen."""

from patchcore.lightning.sampling import KCenterGreedy

__all__ = ["KCenterGreedy"]
