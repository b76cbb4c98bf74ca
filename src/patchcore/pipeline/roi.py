"""Region of interest: which cells of a grid, and which pixels of an image, count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from patchcore.errors import DataError
from patchcore.maths.augmentation import Augmentation, augmented_points
from patchcore.maths.polygons import Polygon, inside
from patchcore.maths.registration import points
from patchcore.maths.resize import Frame
from patchcore.recipe.recipe import Recipe
from patchcore.recipe.roi import Roi

OUTSIDE = -1


def _decided(roi: Roi | str | None) -> Roi | None:
    """`auto` is decided by `fit` before anything is embedded for good."""
    return roi if isinstance(roi, Roi) else None


@torch.inference_mode(False)  # what is cached must serve every caller
def cells_of(
    given: Roi | str | None, frame: Frame, grid: tuple[int, int], how: Augmentation | None = None
) -> Tensor | None:
    """The area (h, w), from 0, that each cell of a grid belongs to, or `OUTSIDE`; None if all cells count.

    A cell belongs to the first area that its centre is in, and counts only where all of it shows the image, wherever
    that has moved. `how`: the frame is of a copy that was mirrored or turned so.
    """
    if (roi := _decided(given)) is None and frame.motion is None:
        return None
    found = _in_areas(roi, replace(frame, source=frame.canvas, motion=None), grid, how)
    if frame.motion is not None:
        ys, xs = _places(frame, grid, 0, 1)
        corners = inside(_image(frame, how), ys, xs)
        whole = corners[1:, 1:] & corners[1:, :-1] & corners[:-1, 1:] & corners[:-1, :-1]
        found = torch.where(whole, found, OUTSIDE)
    return found


@lru_cache(maxsize=64)
def _in_areas(roi: Roi | None, frame: Frame, grid: tuple[int, int], how: Augmentation | None) -> Tensor:
    ys, xs = _places(frame, grid, 0.5, 0)
    return _numbered(roi, ys, xs, partial(augmented_points, how=how))


def _places(frame: Frame, grid: tuple[int, int], begin: float, more: int) -> list[Tensor]:
    """Places along each side, as shares of the canvas: of each cell, so much of it from its low edge; and so many
    more."""
    sides = zip(grid, frame.inside, frame.resized, frame.offset, strict=True)
    return [
        ((torch.arange(cells + more).double() + begin) * covered / cells - offset) / resized
        for cells, covered, resized, offset in sides
    ]


def _image(frame: Frame, how: Augmentation | None = None) -> Polygon:
    """The outline of the image on its canvas, in shares of that; a trifle larger, so that edges are inside."""
    assert frame.motion is not None
    (height, width), edge = frame.source, 0.01
    corners = [(x, y) for x, y in ((-edge, -edge), (width + edge, -edge))]
    corners += [(width + edge, height + edge), (-edge, height + edge)]
    return augmented_points(_shares(points(frame.motion.back, corners), frame.canvas), how)


def _shares(places: Iterable[Sequence[float]], size: tuple[int, int]) -> Polygon:
    return tuple((float(x) / size[1], float(y) / size[0]) for x, y in places)


def _numbered(roi: Roi | None, ys: Tensor, xs: Tensor, move: Callable[[Polygon], Polygon]) -> Tensor:
    """The area (h, w), int8, that each point (ys[i], xs[j]) belongs to, or `OUTSIDE`; `move` brings polygons there."""
    found = torch.full((len(ys), len(xs)), OUTSIDE, dtype=torch.int8)
    if roi is None:
        return found.zero_()
    for number in reversed(range(len(roi.areas))):
        area = roi.areas[number]
        kept = _union(map(move, area.include), ys, xs) if area.include else torch.ones_like(found, dtype=torch.bool)
        found[kept & ~_union(map(move, area.exclude), ys, xs)] = number
    return found


def _union(polygons: Iterable[Polygon], ys: Tensor, xs: Tensor) -> Tensor:
    found = torch.zeros(len(ys), len(xs), dtype=torch.bool)
    for polygon in polygons:
        found |= inside(polygon, ys, xs)
    return found


def pixels_of(given: Roi | str | None, frame: Frame) -> Tensor:
    """Which pixels (H, W) of an image count, by their centres; those that a crop leaves out are not looked at here."""
    roi = _decided(given)
    return _pixels(roi, frame.source) if frame.motion is None else _moved_pixels(roi, frame)


@lru_cache(maxsize=4)  # masks of large images, of which a run has one size or few
@torch.inference_mode(False)
def _pixels(roi: Roi | None, size: tuple[int, int]) -> Tensor:
    ys, xs = ((torch.arange(side) + 0.5) / side for side in size)
    return _numbered(roi, ys, xs, partial(augmented_points, how=None)) != OUTSIDE


def _moved_pixels(roi: Roi | None, frame: Frame) -> Tensor:
    """The areas and the canvas itself, where they lie in the image."""
    motion, (height, width) = frame.motion, frame.source
    assert motion is not None
    ys, xs = torch.arange(height) + 0.5, torch.arange(width) + 0.5

    def moved(polygon: Polygon) -> Polygon:
        places = points(motion.matrix, np.array(polygon) * frame.canvas[::-1])
        return tuple((float(x), float(y)) for x, y in places)

    shown = inside(moved(((0, 0), (1, 0), (1, 1), (0, 1))), ys, xs)
    return (_numbered(roi, ys, xs, moved) != OUTSIDE) & shown


def check_areas(recipe: Recipe, name: str, cells: Tensor | None) -> None:
    """Errors: DataError if a training image shows nothing of an area, or of the region."""
    if cells is None:
        return
    areas = recipe.roi.areas if isinstance(recipe.roi, Roi) else ()
    for number, area in enumerate(areas or [None]):
        if not (cells == number).any():
            what = f"the area {area.name!r}" if area and area.name else "the region of interest"
            raise DataError(
                f"{name}: no patch has its centre in {what}, on a grid of {cells.shape[0]} x {cells.shape[1]}. Make it "
                "larger, or the recipe's size."
            )
