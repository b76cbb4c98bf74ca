"""Drawing: images of results, as PNG."""

from __future__ import annotations

import io

from PIL import Image

from patchcore.result import Result
from patchcore.verdict import draw


def image_png(result: Result, side: int = 0) -> bytes:
    """The image as it was inspected; `side` bounds its larger side, 0 does not."""
    return _png(Image.fromarray(result.pixels()), side)


def heat_png(result: Result, side: int = 0) -> bytes:
    """The image under its heat map, on the fixed scale of the pixel threshold, without outlines."""
    return _png(draw.heat(result.map, result.pixel_threshold, result.pixels()), side)


def overlay_png(result: Result, side: int = 0) -> bytes:
    """The same with what failed it outlined and numbered."""
    return _png(result.overlay(), side)


def _png(image: Image.Image, side: int) -> bytes:
    if side and max(image.size) > side:
        image.thumbnail((side, side))
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()
