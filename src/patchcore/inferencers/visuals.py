"""Draw normalised maps over images, with anomalib's functions and this package's colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from patchcore.maths.thresholds import decide
from patchcore.verdict import draw

THRESHOLD = 0.5  # of a normalised score or map


def anomaly_map_to_color_map(anomaly_map: NDArray[Any], *, image: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """A normalised map (H, W), 0.5 at the pixel threshold -> its colours (H, W, 3), RGB, on grey or on an image.

    The scale is fixed, and never stretched to the map's own values: colours begin at 0.5, and are full at 0.8.
    """
    return np.array(draw.heat(anomaly_map.squeeze(), THRESHOLD, image))


def superimpose_anomaly_map(anomaly_map: NDArray[Any], image: NDArray[Any]) -> NDArray[np.uint8]:
    """A normalised map (H, W) over its image (H, W, C) -> (H, W, 3), RGB, its regions over the threshold outlined.

    Its colours are those of `anomaly_map_to_color_map`.
    """
    colours = anomaly_map_to_color_map(anomaly_map, image=draw.to_uint8(image))
    return np.array(draw.outlined(colours, anomaly_map.squeeze() > THRESHOLD))


def add_label(prediction: NDArray[np.uint8], scores: float) -> NDArray[np.uint8]:
    """A copy of an image (H, W, 3) with its normalised score, and the verdict, in the top left corner."""
    text = f"score {scores:.2f}: {decide(scores, THRESHOLD)}"
    return np.array(_labelled(Image.fromarray(prediction), text))


def _labelled(image: Image.Image, text: str) -> Image.Image:
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
