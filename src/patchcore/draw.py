"""Images for people: overlays and sheets.

Colours are on one fixed scale, the calibrated pixel threshold, and never stretched per image: a
good part looks calm beside a bad one. The image itself is drawn almost grey, so that colour means
heat alone; the colours also differ in lightness, and what is over the threshold is outlined, so
that no colour vision is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

_LOW, _HIGH = 0.7, 1.6  # shares of the threshold where colour begins, and where it is full
_COLOURS = np.array([[255, 237, 120], [253, 150, 40], [215, 48, 31], [120, 0, 40]], dtype=np.float32)


def to_uint8(pixels: NDArray[Any], value_range: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Pixels (H, W, C) at any depth as RGB (H, W, 3) for display."""
    if pixels.dtype != np.uint8 or value_range is not None:
        top = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(pixels.dtype, 1.0)
        low, high = value_range or (0.0, top)
        pixels = ((pixels.astype(np.float32) - low) / (high - low)).clip(0, 1) * 255
    return np.broadcast_to(pixels.astype(np.uint8), (*pixels.shape[:2], 3))


def overlay(image: NDArray[np.uint8], anomaly_map: NDArray[Any], threshold: float) -> Image.Image:
    """The image (H, W, 3) with the map (H, W) over it, on the scale of the pixel threshold."""
    relative = np.nan_to_num(anomaly_map / threshold if threshold > 0 else anomaly_map * 0)
    calm = 0.75 * image.mean(2, keepdims=True) + 0.25 * image
    return outlined(_heated(calm, relative), relative > 1)


def outlined(image: NDArray[Any], region: NDArray[np.bool_]) -> Image.Image:
    """The image (H, W, 3) with a black line just inside a region (H, W) and a white one just outside."""
    width = max(1, round(min(image.shape[:2]) / 200))
    edge = region & ~ndimage.binary_erosion(region, iterations=width)
    halo = ndimage.binary_dilation(region, iterations=width) & ~region
    pixels = np.array(image, dtype=np.float32)
    pixels[halo], pixels[edge] = 255, 0
    return Image.fromarray(pixels.round().astype(np.uint8))


def _heated(image: NDArray[Any], relative: NDArray[Any]) -> NDArray[Any]:
    """An image (H, W, 3) under the colours of a map (H, W) in shares of the threshold."""
    strength = ((relative - _LOW) / (_HIGH - _LOW)).clip(0, 1)
    stops = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(strength, stops, channel) for channel in _COLOURS.T], -1)
    alpha = (0.75 * np.sqrt(strength))[..., None]
    return image * (1 - alpha) + colour * alpha


def heat(anomaly_map: NDArray[Any], threshold: float) -> Image.Image:
    """A map (H, W) alone, in the colours of `overlay` on grey."""
    relative = np.nan_to_num(anomaly_map / threshold if threshold > 0 else anomaly_map * 0)
    return Image.fromarray(_heated(np.full((*relative.shape, 3), 150.0), relative).round().astype(np.uint8))


def labelled(image: Image.Image, text: str) -> Image.Image:
    """A copy of an image with a line of text in its top left corner, on white; it shrinks to fit."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    size = max(10, image.height // 20)
    font = ImageFont.load_default(size)
    while size > 6 and draw.textlength(text, font) > 0.95 * image.width:
        size -= 1
        font = ImageFont.load_default(size)
    _, _, right, bottom = draw.textbbox((size // 3, size // 5), text, font=font)
    draw.rectangle((0, 0, right + size // 3, bottom + size // 3), fill="white")
    draw.text((size // 3, size // 5), text, fill="black", font=font)
    return image


def legend() -> Image.Image:
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


def sheet(
    images: Sequence[tuple[str, Image.Image]], columns: int, *, title: str = "", tile: int = 240, heat: bool = False
) -> Image.Image:
    """Images in a grid, each with a caption below it; with `heat`, the legend of the colours above."""
    font, bold = ImageFont.load_default(13), ImageFont.load_default(17)
    gap, caption, head = 10, 38, (34 if title else 0) + (48 if heat else 0)
    rows = -(-len(images) // columns)
    size = (gap + columns * (tile + gap), head + gap + rows * (tile + caption + gap))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    draw.text((gap, gap), title, fill="black", font=bold)
    if heat:
        page.paste(legend(), (gap, head - 34))
    for number, (text, image) in enumerate(images):
        left = gap + (number % columns) * (tile + gap)
        top = head + gap + (number // columns) * (tile + caption + gap)
        small = image.copy()
        small.thumbnail((tile, tile))
        page.paste(small, (left + (tile - small.width) // 2, top + (tile - small.height) // 2))
        draw.multiline_text((left, top + tile + 3), text, fill="black", font=font)
    return page
