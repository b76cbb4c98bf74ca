"""The close-up: the surroundings of a patch, enlarged, with a frame around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from patchcore.maths.resize import Frame, cell_box

_AROUND = 11  # height and width of a close-up, in cells


def close_up(
    pixels: NDArray[np.uint8], cell: tuple[int, int], grid: tuple[int, int], frame: Frame, patch: int, side: int
) -> Image.Image:
    """The surroundings of a patch, `side` pixels long, with a frame around the cells that are pooled into it.

    `pixels` (H, W, 3): the image that `frame` speaks of, at its own size or as a thumbnail.
    """
    height, width = frame.source
    top, left, bottom, right = cell_box(cell, grid, frame, max(_AROUND, patch + 2))
    # Near a border the close-up moves inwards, to keep its size.
    down = min(max(0.0, top), max(0.0, height - (bottom - top)))
    across = min(max(0.0, left), max(0.0, width - (right - left)))
    box = (across, down, min(width, across + right - left), min(height, down + bottom - top))
    scale = side / max(box[2] - box[0], box[3] - box[1])
    size = (max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale)))
    x, y = pixels.shape[1] / width, pixels.shape[0] / height
    inside = (box[0] * x, box[1] * y, min(box[2] * x, pixels.shape[1]), min(box[3] * y, pixels.shape[0]))
    close = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=inside, reducing_gap=3)
    top, left, bottom, right = cell_box(cell, grid, frame, patch)
    framed(
        close, ((left - box[0]) * scale, (top - box[1]) * scale, (right - box[0]) * scale, (bottom - box[1]) * scale)
    )
    return close


def framed(image: Image.Image, box: tuple[float, float, float, float], width: int = 2) -> None:
    """Draw a box (left, top, right, bottom) that shows on light and on dark: black, and white around it."""
    lines = ImageDraw.Draw(image)
    left, top, right, bottom = box
    for inset, colour in ((-width, "white"), (0, "black")):
        edges = [left + inset, top + inset, max(left + inset, right - inset), max(top + inset, bottom - inset)]
        lines.rectangle(edges, outline=colour, width=width)
