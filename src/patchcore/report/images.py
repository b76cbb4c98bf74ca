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
from patchcore.maths.resize import Frame, cell_box
from patchcore.oversight.sources import Sources
from patchcore.pipeline.workers import load
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
        pixels = result.pixels()
    except ImageError as error:  # it was removed, or has changed, after the evaluation
        return (Figure("Image", missing=f"It can no longer be read: {error.reason}"),)
    mask = read_mask(sample.mask, result.frame.source, max_pixels) if sample.mask else None
    plain = _figure("Image", Image.fromarray(pixels), f"The image {result.name}.")
    if mask is not None:
        alt = f"The image {result.name}, its labelled defect outlined, {100 * mask.mean():.1f} % of it."
        plain = _figure("Image, labelled defect outlined", draw.outlined(pixels, mask), alt)
    grid, cell = (int(result.patch_scores.shape[0]), int(result.patch_scores.shape[1])), result.worst_patch
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
    over = _percent(float((result.map > result.pixel_threshold).mean()))
    told = f"{over} over the pixel threshold"
    if result.decision == "fail":
        told = f"{_percent(float(result.mask.mean()))} outlined, {told}"
    heat = draw.overlay(pixels, result.map, result.pixel_threshold, result.mask)
    told = f"{result.decision}, {told}"
    return _figure(f"Heat map: {told}", heat, f"Heat map of {result.name}: {told}.")


def _percent(share: float) -> str:
    """A share of an image's pixels; what is there is never 0.0 %."""
    return "nothing" if not share else f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


def nearest_good(detector: Detector, result: Result, sources: Sources, max_pixels: int = MAX_PIXELS) -> Figure:
    """The patch of a good training image that is nearest to a result's most unusual patch, if it can be shown.

    The training image is embedded again and its patch compared with the bank row, so that a different image with the
    same name is not shown.
    """
    caption, fitted = "Nearest good patch", detector.fitted
    member = fitted.members[0]
    bank, recipe = member.bank, member.recipe
    number = int(result.nearest_rows[result.worst_patch][0])
    origin = fitted.origin(number)
    if origin is None:
        return Figure(caption, missing="The memory bank does not say which image it comes from.")
    name, row, column, changed = origin
    path = sources.find(name)
    if path is None:
        return Figure(caption, missing=f"Its image, {name}, was not found. Give the training folder: --good.")
    try:
        loaded = load(Sample(name, path), max_pixels, recipe.value_range, damaged=True)
        embedder = detector.embedders[0]
        one = embedder.augmented(loaded, changed) if changed else embedder([loaded])[0]
    except ImageError as error:
        return Figure(caption, missing=f"Its image, {name}, can no longer be read: {error.reason}")
    where = f"in {name}"
    if changed:
        where += f", augmented by {changed}"
    inside = row < one.grid[0] and column < one.grid[1]
    remembered = bank.rows[number]
    if inside:
        patch = one.values[row * one.grid[1] + column] * bank.scales
        inside = bool((patch - remembered).norm() <= _SAME * remembered.norm())
    if not inside:
        return Figure(caption, missing=f"{name} is not the image that the detector was fitted on: its patch differs.")
    pixels = augmented(loaded.pixels, changed) if changed else loaded.pixels
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
    return _figure("", bar, "Grey up to the threshold, then yellow, orange, red and dark red.")


def _figure(caption: str, image: Image.Image, alt: str) -> Figure:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=78)
    source = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
    return Figure(caption, source, alt, small.width, small.height)
