"""Evidence: the most unusual patches of an image, each beside the good patch that is most like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import JsonValue
from scipy import ndimage
from torch import Tensor

from patchcore.data.reading import MAX_PIXELS
from patchcore.detector import Detector
from patchcore.errors import UsageError
from patchcore.maths.resize import cell_box
from patchcore.maths.thresholds import p_value
from patchcore.model.fitted import Fitted
from patchcore.oversight import plate
from patchcore.oversight.close_up import close_up
from patchcore.oversight.good_patches import GoodPatch, GoodPatches, whole
from patchcore.oversight.sources import Sources
from patchcore.result import Result
from patchcore.verdict.calibration import Calibration

_APART = 0.1  # the least distance of two spots, as a share of the grid's longer side


@dataclass(frozen=True)
class UnusualPatch:
    """A patch of an image, and the good patch that is most like it.

    Attributes:
        row, column: Its cell on the network's grid.
        box: Left, top, right, bottom in pixels of the image.
        distance: Its patch score: how far it is from the nearest good patch or patches, as the recipe measures it.
        p_value: How often the most unusual patch of a good image is at least as far (`Evidence.p_value_of`); None
            where the model does not know.
        nearest: The good patch.
    """

    row: int
    column: int
    box: tuple[int, int, int, int]
    distance: float
    p_value: float | None
    nearest: GoodPatch

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values."""
        good = self.nearest
        near: dict[str, JsonValue] = {
            "image": good.name,
            "row": good.row,
            "column": good.column,
            "augmentation": good.augmentation,
            "box": good.box and list(good.box),
            "sha256": good.sha256,
        }
        return {
            "row": self.row,
            "column": self.column,
            "box": list(self.box),
            "distance": self.distance,
            "p_value": self.p_value,
            "nearest": near if good.name else None,
        }


@dataclass(frozen=True)
class Evidence:
    """Why an image has its score.

    Attributes:
        result: What the detector says about the image.
        patches: The most unusual patches that lie apart from each other, the most unusual first.
        good_images: How many good images the p-values come from, or parts, if several images show one.
        p_value_of: What the p-values say, or why there are none.
    """

    result: Result
    patches: tuple[UnusualPatch, ...]
    good_images: int
    p_value_of: str
    _good: GoodPatches

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values."""
        patches: list[JsonValue] = [one.to_dict() for one in self.patches]
        return {"patches": patches, "good_images": self.good_images, "p_value_of": self.p_value_of}

    def close_ups(self, patch: UnusualPatch, side: int = 200) -> tuple[Image.Image, Image.Image | None, str]:
        """A patch with its surroundings; the good patch likewise, if it can be shown; and a remark on that.

        Errors: ImageError, if the image has gone or changed.
        """
        cell, grid, result = (patch.row, patch.column), _grid(self.result.patch_scores), self.result
        own = close_up(result.pixels(), cell, grid, result.frame, result.recipe.patch_size, side)
        return own, *self._good.close_up(patch.nearest, side)

    def image(self) -> Image.Image:
        """One image of it: the part with numbered boxes, its heat map, and close-up beside close-up for each patch.

        Errors: ImageError, if the image has gone or changed.
        """
        result = self.result
        pairs = []
        for one in self.patches:
            own, good, remark = self.close_ups(one, plate.CLOSE)
            told = [f"distance {one.distance:#.4g}"]
            if one.p_value is not None:
                told.append(f"p = {one.p_value:.2g}, {self.good_images} good images")
            told.append(f"at {one.box[0]}, {one.box[1]}")
            if one.nearest.name:
                at = f", at {one.nearest.box[0]}, {one.nearest.box[1]}" if one.nearest.box else ""
                told.append(f"nearest good patch: {one.nearest.where}{at}")
            pairs.append(plate.Pair(own, good, tuple(told), remark))
        heat = result.overlay()
        return plate.drawn(Image.fromarray(result.pixels()), heat, [one.box for one in self.patches], pairs, result)


def evidence(
    detector: Detector,
    result: Result,
    n: int = 3,
    *,
    sources: Sources | None = None,
    among: NDArray[np.bool_] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Evidence:
    """The n most unusual patches of an image, well apart from each other, each with the nearest good patch.

    Fewer than n where the image has no more spots that stand out from what is around them.

    Args:
        detector: The detector that gave the result.
        result: What it says about the image.
        n: How many patches.
        sources: Where to find training images; without them, the thumbnails in the model are shown, if there are any.
        among: Look only at these patches, (h, w) on the network's grid.
        max_pixels: Largest training image to decode, in pixels.

    Errors: UsageError.

    >>> from patchcore import Detector, evidence
    >>> detector = Detector("fast").fit("tests/images/hazelnut/train/good")
    >>> found = evidence(detector, detector.predict("tests/images/hazelnut/test/colour/00.jpg"), n=2)
    >>> len(found.patches), found.patches[0].distance > found.patches[1].distance
    (2, True)
    """
    if n < 1:
        raise UsageError(f"n is {n}; it must be at least 1.")
    maxima, why = good_maxima(detector.fitted)
    calibration = detector.fitted.calibration
    good, grid, patches = GoodPatches(detector, sources, max_pixels), _grid(result.patch_scores), []
    for row, column in spots(result.patch_scores, n, result.recipe.patch_size, among):
        distance = float(result.patch_scores[row, column])
        box = whole(cell_box((row, column), grid, result.frame, result.recipe.patch_size), result.frame.source)
        nearest = good.of(int(result.nearest_rows[row, column, 0]))
        patches.append(UnusualPatch(row, column, box, distance, p_value_among(distance, maxima, calibration), nearest))
    return Evidence(result, tuple(patches), calibration.units if maxima else 0, why, good)


def spots(scores: Tensor, n: int, patch: int, among: NDArray[np.bool_] | None = None) -> list[tuple[int, int]]:
    """Rows and columns of the n highest patches (h, w) that are peaks and lie apart, the highest first."""
    values = np.nan_to_num(scores.cpu().double().numpy(), nan=-np.inf)
    values = values if among is None else np.where(among, values, -np.inf)
    apart = max(patch, round(_APART * max(values.shape)))
    top = ndimage.maximum_filter(values, 3, mode="nearest")  # no flank of a spot counts as another one
    peaks = np.argwhere((values == top) & np.isfinite(values))
    chosen = list[tuple[int, int]]()
    for row, column in sorted(map(tuple, peaks.tolist()), key=lambda cell: -values[cell]):
        if all(max(abs(row - r), abs(column - c)) > apart for r, c in chosen):
            chosen.append((row, column))
    return chosen[:n]


def good_maxima(fitted: Fitted) -> tuple[tuple[float, ...], str]:
    """Of each good image that its bank had not seen, the highest patch score; and what p-values from them say."""
    calibration, recipe = fitted.calibration, fitted.members[0].recipe
    maxima = tuple(highest for _, highest in calibration.patches)
    if not maxima and recipe.image_score == "max":  # in files of earlier versions
        maxima = calibration.scores
    if maxima:
        return maxima, "the chance that the most unusual patch of a good image is at least as far"
    if calibration.scores:
        return (), "none: the model does not know how far patches of good images are; fit it again with this version"
    return (), "none: no good image was held out to tell; fit with more images, or with --calibration DIR"


def p_value_among(value: float, good: tuple[float, ...], calibration: Calibration) -> float | None:
    """How probable so high a value is for a good part, by those of the images of a calibration; None without any."""
    return p_value(value, good, calibration.parts or None) if good else None


def _grid(scores: Tensor) -> tuple[int, int]:
    return int(scores.shape[0]), int(scores.shape[1])
