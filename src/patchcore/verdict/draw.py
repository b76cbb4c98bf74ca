"""Images for people: overlays and sheets.

Colours are on one fixed scale, the calibrated pixel threshold, and never stretched per image: a
good part looks calm beside a bad one. The image itself is drawn almost grey, so that colour means
heat alone; the colours also differ in lightness, and what is over the threshold is outlined, so
that no colour vision is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
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
