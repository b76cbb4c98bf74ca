"""Ground-truth masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore.data.images import read
from patchcore.data.reading import MAX_PIXELS
from patchcore.errors import ImageError


def read_mask(path: Path, size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> NDArray[np.bool_]:
    """A ground-truth mask (H, W): true where a pixel is above half of the range of the file's type.

    Where no pixel is, the file numbers kinds of defect from 1, as VisA's do: true where it is not 0.
    """
    pixels = read(path, str(path), max_pixels).max(2)
    if pixels.shape != size:
        raise ImageError(
            str(path),
            f"a mask of {pixels.shape[1]} x {pixels.shape[0]} pixels for an image of {size[1]} x {size[0]}; "
            "they must be the same size.",
        )
    half = 127 if pixels.dtype == np.uint8 else 32767
    return pixels > (half if pixels.max(initial=0) > half else 0)
