"""The region's file: a region of interest from JSON, or from a mask image."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchcore.data.images import read
from patchcore.data.reading import MAX_PIXELS
from patchcore.errors import UsageError, validated
from patchcore.files import contents
from patchcore.maths.foreground import outlines
from patchcore.maths.registration import resized, small_size
from patchcore.recipe.roi import Area, Roi

_LARGEST = 1 << 24  # bytes of a JSON file
_SIDE = 1024  # pixels of the longer side of a mask, before it is traced


def read_region(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Roi:
    """The region of interest in a JSON file, whose name ends in `.json`, or in a mask image.

    JSON holds what `Roi` has: `{"include": [polygon, ...], "exclude": [...]}`, or `{"areas": [{"name": ..., ...}]}`;
    a polygon is a list of corners [x, y], from 0 to 1, of width and height. Of a mask, what is not black counts.
    Errors: UsageError; ImageError.
    """
    path = Path(path)
    if path.suffix.lower() != ".json":
        if not path.exists():
            raise UsageError(
                f"roi is {str(path)!r}, but there is no such file. Give a JSON file, a mask image, or auto."
            )
        return region_of(read(path, str(path), max_pixels).max(2) > 0, str(path))
    try:
        given = contents(path, _LARGEST)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}. Expected JSON, or a mask image.") from error
    return validated(Roi, given, path)


def region_of(mask: NDArray[np.bool_], name: str = "the mask") -> Roi:
    """A mask (H, W) as polygons: exact at the centres of its pixels, or, if it has more than 1,024 along a side, at
    those of one that is brought to 1,024, where a pixel counts if at least half of it does. Errors: UsageError."""
    size = small_size(mask.shape[:2], _SIDE)
    few = resized(mask.astype(np.float32), size) >= 0.5
    if not few.any() or few.all():
        what = "nothing" if not few.any() else "all of the image"
        raise UsageError(f"{name} marks {what}; expected a mask that is black where nobody is to look.")
    return validated(Roi, {"areas": [Area(include=tuple(outlines(few)))]}, name)
