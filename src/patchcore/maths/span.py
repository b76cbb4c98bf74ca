"""Scores on a scale by the span of those seen so far."""

from __future__ import annotations

from torch import Tensor


def normalise_by_range(values: Tensor, threshold: float, low: float, high: float) -> Tensor:
    """Scores on a scale where 0.5 is the threshold and 1 is half the range from `low` to `high` above it.

    anomalib's min-max normalisation, (x - threshold) / (high - low) + 0.5, but not clipped: strictly
    increasing, so that extreme defects keep their order. A range of 0 counts as 1.
    """
    return (values - threshold) / (high - low if high > low else 1.0) + 0.5
