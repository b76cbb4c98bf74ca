"""Colours of more than 8 bits, of which Pillow alone would keep 8."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFile

from . import Pixels


def deep(data: bytes, channels: int) -> Pixels | None:
    """Colours of 16 bits, and alpha of four channels, by OpenCV. None if it cannot, or is not there.

    Pillow needs up to twice as long (`halves`), but the runtime need not have OpenCV.
    """
    try:
        import cv2
    except ImportError:
        return None
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3 or array.shape[2] != channels:
        return None
    return array[..., 2::-1] if channels == 3 else array[..., [2, 1, 0, 3]]


def halves(image: ImageFile.ImageFile, mode: str, raw: str) -> Pixels:
    """What Pillow decodes if it takes the rows of a file for `raw`: so it gives either byte of 16 bits."""
    image.im = Image.new(mode, image.size).im
    image._mode = mode
    image.tile = [one._replace(args=(raw, *one.args[1:]) if isinstance(one.args, tuple) else raw) for one in image.tile]
    image.load()
    return np.asarray(image)


def joined(high: Pixels, low: Pixels) -> Pixels:
    """Values of 16 bits from their bytes."""
    array = high.astype(np.uint16)
    array <<= 8
    array |= low
    return array
