"""Images for people: overlays and sheets.

Colours are on one fixed scale, the calibrated pixel threshold, where they begin, and never stretched
per image: a good part looks calm beside a bad one. The image itself is drawn almost grey, so that
colour means heat alone; the colours also differ in lightness, and the defect of an image that fails
is outlined, so that no colour vision is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy  # which loads its parts when they are first used
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from patchcore.maths.thresholds import Verdict
from patchcore.verdict.regions import Region

_LOW, _HIGH = 1.0, 1.6  # shares of the threshold where colour begins, and where it is full
_COLOURS = np.array([[255, 237, 120], [253, 150, 40], [215, 48, 31], [120, 0, 40]], dtype=np.float32)
_STEPS = 4096  # of colour, from _LOW to _HIGH
_VEIL = 0.7  # how much of what is not looked at is covered
_NEAR = 0.75  # of the height of the hottest pixel: its surroundings, where nothing is over the threshold
_BARS: dict[Verdict, str] = {"pass": "#2b5d34", "unsure": "#55595e", "fail": "#9c1f16"}


def to_uint8(pixels: NDArray[Any], value_range: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Pixels (H, W, C) at any depth as RGB (H, W, 3) for display."""
    if pixels.dtype != np.uint8 or value_range is not None:
        top = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(pixels.dtype, 1.0)
        low, high = value_range or (0.0, top)
        pixels = ((pixels.astype(np.float32) - low) / (high - low)).clip(0, 1) * 255
    return np.broadcast_to(pixels.astype(np.uint8), (*pixels.shape[:2], 3))


def defect(anomaly_map: NDArray[np.float32], threshold: float, at: tuple[int, int]) -> NDArray[np.bool_]:
    """Where the defect of an image that fails is: a map (H, W) -> (H, W), at least around `at`, its hottest pixel.

    What is over the threshold, and if the hottest pixel is not, its surroundings of about that height; each region as
    far as the map is at least half as high, above the image's median, as the region's peak. A map is smoothed, and
    each patch sees its neighbours, so the map leads up to a defect from afar: at the defect's edge it is half way up.
    """
    values = np.nan_to_num(anomaly_map, nan=-np.inf)
    base = np.nanmedian(anomaly_map)
    inside = values > threshold
    if not inside[at]:
        labels, _ = scipy.ndimage.label(values >= base + _NEAR * (values[at] - base))
        inside |= labels == labels[at]
    labels, _ = scipy.ndimage.label(inside)
    places = enumerate(scipy.ndimage.find_objects(labels), 1)
    peaks = np.array([np.inf, *(values[at][labels[at] == label].max() for label, at in places)], np.float32)
    return np.asarray(values >= ((base + peaks) / 2)[labels])


def overlay(
    image: NDArray[np.uint8], anomaly_map: NDArray[Any], threshold: float, region: NDArray[np.bool_] | None = None
) -> Image.Image:
    """The image (H, W, 3) with the map (H, W) over it, on the scale of the pixel threshold.

    `region`: what is outlined; None: what is over the threshold.
    """
    over = (anomaly_map > threshold) & (threshold > 0)
    image = veiled(image, np.isnan(anomaly_map))
    return outlined(np.asarray(heat(anomaly_map, threshold, image)), over if region is None else region)


def veiled(image: NDArray[np.uint8], unseen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image (H, W, 3) with what is not looked at (H, W) under a grey veil, which shows on light and dark ground."""
    if not unseen.any():
        return image
    weak = ((1 - _VEIL) * image + _VEIL * 128).round().astype(np.uint8)
    return np.where(unseen[..., None], weak, image)


def captioned(image: Image.Image, verdict: Verdict, *parts: str) -> Image.Image:
    """The image, and below it a bar with the verdict and more, in letters that grow with it."""
    size = max(11, round(max(image.size) / 32))
    font, gap = ImageFont.load_default(size), size // 2
    parts = (verdict.upper(), *parts)
    least = max(font.getlength(text) for text in (*parts[:3], *" ".join(parts).split()))
    width = max(image.width, round(least) + 2 * gap + 1)
    lines = [parts[0]]
    for part in parts[1:]:
        words = [f"   {part}"] if font.getlength(f"{lines[-1]}   {part}") <= width - 2 * gap else part.split()
        if len(words) > 1:
            lines.append(words.pop(0))
        for word in words:
            longer = lines[-1] + (word if word.startswith(" ") else f" {word}")
            lines[-1:] = [longer] if font.getlength(longer) <= width - 2 * gap else [lines[-1], word]
    pitch = round(1.3 * size)
    page = Image.new("RGB", (width, image.height + pitch * len(lines) + gap), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, image.height, *page.size), fill=_BARS[verdict])
    page.paste(image, (0, 0))
    for number, line in enumerate(lines):
        draw.text((gap, image.height + gap // 2 + pitch * number), line, fill="white", font=font)
    return page


def outlined(image: NDArray[Any], region: NDArray[np.bool_]) -> Image.Image:
    """The image (H, W, 3) with a black line just inside a region (H, W) and a white one just outside."""
    width = max(1, round(min(image.shape[:2]) / 200))
    edge = region & ~scipy.ndimage.binary_erosion(region, iterations=width)
    halo = scipy.ndimage.binary_dilation(region, iterations=width) & ~region
    pixels = np.array(image, dtype=np.float32)
    pixels[halo], pixels[edge] = 255, 0
    return Image.fromarray(pixels.round().astype(np.uint8))


def number(image: Image.Image, mask: NDArray[np.bool_], regions: Iterable[Region]) -> None:
    """Draw each region's number beside it, where it hides least of the mask: a plate with a rim, on any ground."""
    size = max(11, round(max(image.size) / 40))
    font, pen, taken = ImageFont.load_default(size), ImageDraw.Draw(image), mask.copy()
    height, near = round(1.2 * size), 3 * max(1, round(min(image.size) / 200))  # beyond the outline's own lines
    for region in regions:
        text, points = str(region.number), np.concatenate(region.polygons)
        width = round(font.getlength(text) + 0.6 * size)
        if 4 * max(width, height) > min(image.size):
            return  # there is no room
        (left, top), (right, bottom) = points[points.argmin(0)], points[points.argmax(0)]
        spots = [top - (width / 2, near + height), bottom - (width / 2, -near)]
        spots += [left - (near + width, height / 2), right - (-near, height / 2)]
        inside = np.clip(spots, 0, (image.width - width, image.height - height)).round().astype(int)
        x, y = min(inside, key=lambda at: taken[at[1] : at[1] + height, at[0] : at[0] + width].sum())
        taken[y : y + height, x : x + width] = True
        pen.rectangle((x, y, x + width - 1, y + height - 1), "#181818", "white", max(1, size // 12))
        pen.text((x + width / 2, y + height / 2), text, "white", font, "mm")


def _heated(image: NDArray[np.float32], relative: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels (N, 3) under the colours of a map (N,) in shares of the threshold; exact to half a level."""
    strength = np.linspace(0, 1, _STEPS, dtype=np.float32)
    stops = np.linspace(0, 1, len(_COLOURS))
    alpha = (0.75 * np.sqrt(strength))[:, None]
    colour = alpha * np.stack([np.interp(strength, stops, channel) for channel in _COLOURS.T], -1, dtype=np.float32)
    step = ((relative - _LOW) * ((_STEPS - 1) / (_HIGH - _LOW)) + 0.5).clip(0, _STEPS - 1).astype(np.int32)
    return np.asarray(image * (1 - alpha)[step] + colour[step], np.float32)


def heat(anomaly_map: NDArray[Any], threshold: float, image: NDArray[Any] | None = None) -> Image.Image:
    """A map (H, W) in its colours, on the image (H, W, 3), or on grey."""
    share = anomaly_map / threshold if threshold > 0 else anomaly_map * 0
    relative = np.nan_to_num(np.asarray(share, np.float32))
    pixels = np.full((*relative.shape, 3), 150, np.float32)
    if image is not None:
        pixels[:] = 0.75 * image.mean(2, dtype=np.float32)[..., None]
        pixels += np.float32(0.25) * image
    hot = relative > _LOW
    pixels[hot] = _heated(pixels[hot], relative[hot])
    return Image.fromarray(pixels.round().astype(np.uint8))
