"""Colours of more than 8 bits, of which Pillow alone would keep 8."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile

from . import Pixels, as_array, blocks


def deep(data: bytes) -> Pixels | None:
    """Three channels of 16 bits by OpenCV; None if it cannot, or is not there.

    Pillow (`joined`) needs up to twice as long, but the runtime need not have OpenCV.
    """
    try:
        import cv2
    except ImportError:
        return None
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return array[..., ::-1] if array is not None and array.dtype == np.uint16 and array.shape[2:] == (3,) else None


def halves(image: ImageFile.ImageFile, mode: str, raw: str) -> ImageFile.ImageFile:
    """The image, decoded as if its rows were `raw`: so Pillow gives either byte of 16 bits."""
    image.im = Image.new(mode, image.size).im
    image._mode = mode
    image.tile = [one._replace(args=(raw, *one.args[1:]) if isinstance(one.args, tuple) else raw) for one in image.tile]
    image.load()
    return image


def joined(high: Callable[[], Image.Image], low: Callable[[], Image.Image], alpha: bool) -> Pixels:
    """Values of 16 bits from their bytes, which are decoded one after the other."""
    array: Pixels = as_array(high(), alpha).astype(np.uint16)
    array <<= 8
    for top, part in blocks(low(), alpha):
        array[top : top + len(part)] |= part
    return array
