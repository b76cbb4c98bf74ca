"""The images of a report: small, labelled and embedded in the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore.data.masks import read_mask
from patchcore.data.reading import MAX_PIXELS
from patchcore.data.sample import Sample
from patchcore.detector import Detector
from patchcore.errors import ImageError
from patchcore.oversight.evidence import Evidence, UnusualPatch, evidence
from patchcore.oversight.sources import Sources
from patchcore.result import Result
from patchcore.verdict import draw

_SIDE, _CLOSE = 320, 200  # longest sides of images and of close-ups, in pixels
_MOST = 5  # regions whose sizes a caption tells
_PATCHES = 3  # of an image that fails


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
    reason: str | None
    wrong: bool
    score: float
    normalised: float
    figures: tuple[Figure, ...]


def card(detector: Detector, sample: Sample, result: Result, sources: Sources, wrong: bool, max_pixels: int) -> Card:
    """An image, its heat map, its most unusual patch, or several if it fails, each with the nearest good patch."""
    return Card(
        name=result.name,
        kind=str(sample.kind),
        verdict=result.decision,
        reason=result.reason,
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
    plain = figure("Image", Image.fromarray(pixels), f"The image {result.name}.")
    if mask is not None:
        alt = f"The image {result.name}, its labelled defect outlined, {100 * mask.mean():.1f} % of it."
        plain = figure("Image, labelled defect outlined", draw.outlined(pixels, mask), alt)
    # Of an image that fails: what it fails for. Of others one patch says how near they are to that.
    found = evidence(
        detector, result, _PATCHES if result.decision == "fail" else 1, sources=sources, max_pixels=max_pixels
    )
    numbers = [f" {n}" for n in range(1, len(found.patches) + 1)] if len(found.patches) > 1 else [""]
    pairs = [_nearest(found, patch, number) for patch, number in zip(found.patches, numbers, strict=True)]
    return (plain, _heat(pixels, result), *chain.from_iterable(pairs))


def _heat(pixels: NDArray[np.uint8], result: Result) -> Figure:
    if not result.pixel_threshold > 0:
        return Figure("Heat map", missing="There is no pixel threshold, so there is no scale for a heat map.")
    over = _percent(float((result.map > result.pixel_threshold).mean()))
    told = f"{over} over the pixel threshold"
    if result.decision == "fail":
        told = f"{_percent(float(result.mask.mean()))} outlined, {told}"
    heat = draw.overlay(pixels, result.map, result.pixel_threshold, result.mask)
    draw.number(heat, result.mask, result.regions)
    told = f"{result.decision}, {told}{_sizes(result)}"
    return figure(f"Heat map: {told}", heat, f"Heat map of {result.name}: {told}.")


def _sizes(result: Result) -> str:
    """Length and width of the regions; of many, those with the highest peaks."""
    sizes = [f"{one.number}: {one.length:.3g} x {one.width:.3g} {one.unit}" for one in result.regions[:_MOST]]
    more = len(result.regions) - len(sizes)
    return "".join(f"; {size}" for size in sizes) + (f"; {more} more" if more else "")


def _percent(share: float) -> str:
    """A share of an image's pixels; what is there is never 0.0 %."""
    return "nothing" if not share else f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


def nearest_good(detector: Detector, result: Result, sources: Sources, max_pixels: int = MAX_PIXELS) -> Figure:
    """The patch of a good training image that is nearest to a result's most unusual patch, if it can be shown."""
    found = evidence(detector, result, 1, sources=sources, max_pixels=max_pixels)
    return _nearest(found, found.patches[0])[1]


def _nearest(found: Evidence, patch: UnusualPatch, number: str = "") -> tuple[Figure, Figure]:
    """A patch, and the good one that is nearest to it."""
    own, good, remark = found.close_ups(patch, _CLOSE)
    told = f"Most unusual patch{number}, framed: distance {patch.distance:#.4g}"
    if patch.p_value is not None:
        told += f", p = {patch.p_value:.2g}"
    name = found.result.name
    framed = figure(told, own, f"Close-up of one of the patches with the highest scores in {name}.")
    caption, where = f"Nearest good patch{number}", patch.nearest.where
    if good is None:
        return framed, Figure(caption, missing=remark)
    more = f" ({remark})" if remark else ""
    return framed, figure(f"{caption}, {where}{more}", good, f"Close-up of the nearest good patch, {where}.")


def scale() -> Figure:
    """The colour scale of the heat maps, from 0 to twice the pixel threshold, without text."""
    bar = draw.heat(np.broadcast_to(np.linspace(0, 2, _SIDE), (16, _SIDE)), 1.0)
    return figure("", bar, "Grey up to the threshold, then yellow, orange, red and dark red.")


def figure(caption: str, image: Image.Image, alt: str) -> Figure:
    """An image, small, as a data URI."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=78)
    source = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
    return Figure(caption, source, alt, small.width, small.height)
