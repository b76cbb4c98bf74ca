"""The images of a report: small, labelled and embedded in the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from patchcore.data.masks import read_mask
from patchcore.data.reading import MAX_PIXELS
from patchcore.data.sample import Sample
from patchcore.detector import Detector
from patchcore.errors import ImageError
from patchcore.maths.augmentation import augmented
from patchcore.maths.places import cell_box
from patchcore.maths.resize import Frame
from patchcore.pipeline.workers import load
from patchcore.report.sources import Sources
from patchcore.result import Result
from patchcore.verdict import draw

_SIDE, _CLOSE = 320, 200  # longest sides of images and of close-ups, in pixels
_AROUND = 11  # height and width of a close-up, in cells
_SAME = 0.05  # how far a patch may be from its bank row, as a share of its length: rounding, other engines


@dataclass(frozen=True)
class Figure:
    """An image as a data URI, with its caption and a text for screen readers; or the reason why it is missing."""

    caption: str
    source: str = ""
    alt: str = ""
    width: int = 0
    height: int = 0
    missing: str = ""


@dataclass(frozen=True)
class Card:
    """One image of a gallery, with its figures."""

    name: str
    kind: str
    verdict: str
    wrong: bool
    score: float
    normalised: float
    figures: tuple[Figure, ...]


def card(detector: Detector, sample: Sample, result: Result, sources: Sources, wrong: bool, max_pixels: int) -> Card:
    """An image, its heat map, its most unusual patch and the good patch nearest to that."""
    return Card(
        name=result.name,
        kind=str(sample.kind),
        verdict=result.decision,
        wrong=wrong,
        score=result.score,
        normalised=result.normalised,
        figures=_figures(detector, sample, result, sources, max_pixels),
    )


def _figures(
    detector: Detector, sample: Sample, result: Result, sources: Sources, max_pixels: int
) -> tuple[Figure, ...]:
    try:
        pixels = draw.to_uint8(result.pixels(), result.recipe.value_range)
    except ImageError as error:  # it was removed, or has changed, after the evaluation
        return (Figure("Image", missing=f"It can no longer be read: {error.reason}"),)
    mask = read_mask(sample.mask, result.frame.source, max_pixels) if sample.mask else None
    plain = _figure("Image", Image.fromarray(pixels), f"The image {result.name}.")
    if mask is not None:
        alt = f"The image {result.name}, its labelled defect outlined, {100 * mask.mean():.1f} % of it."
        plain = _figure("Image, labelled defect outlined", draw.outlined(pixels, mask), alt)
    grid, cell = (int(result.patch_scores.shape[0]), int(result.patch_scores.shape[1])), hottest(result)
    close = _close_up(pixels, cell, grid, result.frame, result.recipe.patch_size)
    return (
        plain,
        _heat(pixels, result),
        _figure("Most unusual patch, framed", close, f"Close-up of the patch with the highest score in {result.name}."),
        nearest_good(detector, result, sources, max_pixels),
    )


def _heat(pixels: NDArray[np.uint8], result: Result) -> Figure:
    if not result.pixel_threshold > 0:
        return Figure("Heat map", missing="There is no pixel threshold, so there is no scale for a heat map.")
    over = float(result.mask.mean())
    alt = f"Heat map of {result.name}: {100 * over:.1f} % of the image is over the pixel threshold."
    return _figure(
        f"Heat map, {100 * over:.1f} % over the threshold",
        draw.overlay(pixels, result.map, result.pixel_threshold),
        alt,
    )


def hottest(result: Result) -> tuple[int, int]:
    """Row and column of the patch with the highest score."""
    row, column = divmod(int(result.patch_scores.argmax()), result.patch_scores.shape[1])
    return row, column


def nearest_good(detector: Detector, result: Result, sources: Sources, max_pixels: int = MAX_PIXELS) -> Figure:
    """The patch of a good training image that is nearest to a result's most unusual patch, if it can be shown.

    The training image is embedded again and its patch compared with the bank row, so that a different image with the
    same name is not shown.
    """
    caption, fitted = "Nearest good patch", detector.fitted
    member = fitted.members[0]
    bank, recipe = member.bank, member.recipe
    number = int(result.nearest_rows[hottest(result)][0])
    image, *cell, copy = (*bank.origins[number].tolist(), 0)[:4]
    if not (0 <= image < len(fitted.images) and 0 <= copy <= len(recipe.augment)):
        return Figure(caption, missing="The memory bank does not say which image it comes from.")
    name = fitted.images[image]
    path = sources.find(name)
    if path is None:
        return Figure(caption, missing=f"Its image, {name}, was not found. Give the training folder: --good.")
    try:
        loaded = load(Sample(name, path), max_pixels, recipe.value_range, damaged=True)
        embedder = detector.embedders[0]
        one = embedder.augmented(loaded, recipe.augment[copy - 1]) if copy else embedder([loaded])[0]
    except ImageError as error:
        return Figure(caption, missing=f"Its image, {name}, can no longer be read: {error.reason}")
    where = f"in {name}"
    if copy:
        where += f", augmented by {recipe.augment[copy - 1]}"
    row, column = cell
    inside = row < one.grid[0] and column < one.grid[1]
    remembered = bank.rows[number]
    if inside:
        patch = one.values[row * one.grid[1] + column] * bank.scales
        inside = bool((patch - remembered).norm() <= _SAME * remembered.norm())
    if not inside:
        return Figure(caption, missing=f"{name} is not the image that the detector was fitted on: its patch differs.")
    pixels = augmented(loaded.pixels, recipe.augment[copy - 1]) if copy else loaded.pixels
    pixels = draw.to_uint8(pixels, recipe.value_range)
    close = _close_up(pixels, (row, column), one.grid, one.frame, result.recipe.patch_size)
    return _figure(f"{caption}, {where}", close, f"Close-up of the nearest good patch, {where}.")


def _close_up(
    pixels: NDArray[np.uint8], cell: tuple[int, int], grid: tuple[int, int], frame: Frame, patch: int
) -> Image.Image:
    """The surroundings of a patch, with a frame around the cells that are pooled into it."""
    height, width = pixels.shape[:2]
    top, left, bottom, right = cell_box(cell, grid, frame, max(_AROUND, patch + 2))
    # Near a border the close-up moves inwards, to keep its size.
    down = min(max(0.0, top), max(0.0, height - (bottom - top)))
    across = min(max(0.0, left), max(0.0, width - (right - left)))
    box = (across, down, min(width, across + right - left), min(height, down + bottom - top))
    scale = _CLOSE / max(box[2] - box[0], box[3] - box[1])
    size = (max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale)))
    close = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3)
    top, left, bottom, right = cell_box(cell, grid, frame, patch)
    edge = [(left - box[0]) * scale, (top - box[1]) * scale, (right - box[0]) * scale, (bottom - box[1]) * scale]
    lines = ImageDraw.Draw(close)
    for inset, colour in ((-2, "white"), (0, "black")):
        lines.rectangle([edge[0] + inset, edge[1] + inset, edge[2] - inset, edge[3] - inset], outline=colour, width=2)
    return close


def scale() -> Figure:
    """The colour scale of the heat maps, from 0 to twice the pixel threshold, without text."""
    bar = draw.heat(np.broadcast_to(np.linspace(0, 2, _SIDE), (16, _SIDE)), 1.0)
    return _figure("", bar, "From grey below 0.7 times the threshold to yellow, orange, red and dark red.")


def _figure(caption: str, image: Image.Image, alt: str) -> Figure:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=78)
    source = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
    return Figure(caption, source, alt, small.width, small.height)
