"""Colour images of more than 8 bits a channel, which Pillow would cut to 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore.errors import ImageError


def needed(image: Image.Image, path: Path) -> bool:
    """Several channels of more than 8 bits, which Pillow would cut to 8."""
    if image.format == "PNG":
        depth, kind = _png_kind(path)
        return depth == 16 and kind in (2, 4, 6)  # colour, grey + alpha, colour + alpha
    bits = image.tag_v2.get(258, (8,)) if image.format == "TIFF" else (8,)  # type: ignore[attr-defined]
    return len(bits) > 1 and max(bits) > 8


def _png_kind(path: Path) -> tuple[int, int]:
    """Bit depth and colour type, from the header chunk."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[24], header[25]


def read(path: Path, name: str, image: Image.Image) -> NDArray[Any]:
    """The image (H, W, 1 or 3), uint16, upright. Errors: ImageError."""
    import cv2

    if image.format == "TIFF" and image.tag_v2.get(284) == 2:  # type: ignore[attr-defined]
        raise ImageError(
            name, "a TIFF with its colours in separate planes; expected them side by side. Save it as contiguous."
        )
    array = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ImageError(name, "damaged or truncated: it cannot be decoded.")
    if array.ndim == 3:
        array = array[..., 2::-1]  # from B, G, R, alpha
    if image.format == "PNG":  # OpenCV orients TIFF itself
        array = _orient(array, image.getexif().get(274, 1))
        if _png_kind(path)[1] == 4:
            array = array[..., :1]
    return array


def _orient(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)  # what follows is then the same as for 1 to 4
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return array[::rows, ::columns]
