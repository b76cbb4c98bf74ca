"""Hashing: what an image looks like in a few hundred bits, which compression, size and light hardly change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SIDE, _WAVES = 64, 16  # pixels a side that are looked at, and waves that are kept


def perceptual_hash(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Of a grey image (h, w) 255 bits: which of the slowest waves of its cosine transform are above their median.

    The hash of Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010), section 3.2.1, with
    more waves, as images of one kind of part share the slowest ones.
    """
    import cv2
    import scipy

    small = cv2.resize(np.ascontiguousarray(grey), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    waves = scipy.fft.dctn(small)[:_WAVES, :_WAVES].flatten()[1:]
    return np.asarray(waves > np.median(waves))


def hamming(some: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.int_]:
    """How many bits (n, m) differ between hashes (n, bits) and others (m, bits)."""
    ones, other = some.astype(np.float32), others.astype(np.float32)
    return np.asarray(np.rint(ones @ (1 - other).T + (1 - ones) @ other.T), int)
