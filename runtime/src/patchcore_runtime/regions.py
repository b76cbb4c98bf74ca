"""Regions: where the defect of an image that fails is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
_NEAR = 0.75  # as in the library


def defect(anomaly_map: Floats, threshold: float) -> Bools:
    """A map (H, W) -> where the defect is (H, W), as `patchcore.Result.mask` has it, found from the map alone.

    What is over the threshold, or if nothing is, the surroundings of the highest pixel that are about as high; each
    region as far as the map is at least half as high, above the image's median, as the region's peak.
    """
    values = np.nan_to_num(anomaly_map, nan=-np.inf)
    base, top = np.nanmedian(anomaly_map), values.max()
    inside = values > threshold
    if not inside.any():
        inside = peaks(values, values >= base + _NEAR * (top - base)) == top
    return np.asarray(inside & (values >= (base + peaks(values, inside)) / 2))


def peaks(values: Floats, inside: Bools) -> Floats:
    """The highest value of the region (pixels that share sides) that each pixel inside is in; -inf outside."""
    found = np.where(inside, values, np.float32(-np.inf))
    while True:
        before = found
        found = _of_runs(_of_runs(found, inside).T, inside.T).T
        if np.array_equal(found, before):
            return found


def _of_runs(values: Floats, inside: Bools) -> Floats:
    """The highest value of the run along its row that each pixel inside is in."""
    begins = inside.copy()
    begins[:, 1:] &= ~inside[:, :-1]
    starts = np.flatnonzero(begins[inside])
    found = values.copy()
    if len(starts):
        own = values[inside]
        found[inside] = np.repeat(np.maximum.reduceat(own, starts), np.diff(np.append(starts, len(own))))
    return found
