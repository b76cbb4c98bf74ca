"""Sheets: images in a grid, with captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from patchcore.verdict.draw import heat


def sheet(
    images: Sequence[tuple[str, Image.Image]], columns: int, *, title: str = "", tile: int = 240, legend: bool = False
) -> Image.Image:
    """Images in a grid, each with a caption below it; `legend` adds a legend of the colours at the top."""
    font, bold = ImageFont.load_default(13), ImageFont.load_default(17)
    gap, caption, head = 10, 38, (34 if title else 0) + (48 if legend else 0)
    rows = -(-len(images) // columns)
    size = (gap + columns * (tile + gap), head + gap + rows * (tile + caption + gap))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    draw.text((gap, gap), title, fill="black", font=bold)
    if legend:
        page.paste(_legend(), (gap, head - 34))
    for number, (text, image) in enumerate(images):
        left = gap + (number % columns) * (tile + gap)
        top = head + gap + (number // columns) * (tile + caption + gap)
        small = image.copy()
        small.thumbnail((tile, tile))
        page.paste(small, (left + (tile - small.width) // 2, top + (tile - small.height) // 2))
        draw.multiline_text((left, top + tile + 3), text, fill="black", font=font)
    return page


def _legend() -> Image.Image:
    """The colours of `overlay` on grey, from 0 to twice the threshold, with the threshold marked."""
    font, width, height, bar = ImageFont.load_default(12), 400, 34, 14
    page = Image.new("RGB", (width, height), "white")
    page.paste(heat(np.broadcast_to(np.linspace(0, 2, width), (bar, width)), 1.0), (0, 0))
    draw = ImageDraw.Draw(page)
    draw.line([(width // 2, 0), (width // 2, bar + 2)], fill="black", width=2)
    for x, text, anchor in (
        (0, "0", "la"),
        (width // 2, "pixel threshold (outline)", "ma"),
        (width, "twice that or more", "ra"),
    ):
        draw.text((x, bar + 4), text, fill="black", font=font, anchor=anchor)
    return page
