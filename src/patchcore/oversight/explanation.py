"""The explanation: where the patches of an image, or of a defect in it, rank among those of good images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from scipy import ndimage

from patchcore.detector import Detector
from patchcore.errors import UsageError, counted
from patchcore.maths.registration import points
from patchcore.maths.resize import Frame
from patchcore.oversight.evidence import Evidence, evidence, good_maxima, p_value_among
from patchcore.oversight.sources import Sources
from patchcore.recipe.rules import sides
from patchcore.result import Result

_CELLS = 2  # a defect that is nowhere as wide in cells is a small one
_MOST, _FAR_BELOW = (
    0.5,
    0.5,
)  # share of a defect's patches, and of the usual distance, from which on an image is suspect

Outcome = Literal["found", "missed", "failed elsewhere", "no threshold"]


@dataclass(frozen=True)
class MarkedDefect:
    """A marked defect, in figures.

    Attributes:
        outcome: `found`: the image fails, and what is outlined meets the mark; `missed`: the image passes; `failed
            elsewhere`; or there is no threshold.
        patches: How many patches show some of it.
        width_in_cells: Of the mark where it is widest.
        distance: The patch score of its most unusual patch; its patches' median is `median_distance`.
        rank: The place of that patch among all of the image, 1 for the most unusual.
        p_value: How often the most unusual patch of a good image is at least as far.
        good_beyond: How many good images have a patch at least as far.
        map_peak: The highest value of the map in the mark; map_p_value: how often a good image's map is as high.
        usual_distance: The median of the patch scores of good images; None where the model does not know.
        nearest_images: Training images whose patches are nearest to its patches, with the number of these.
    """

    outcome: Outcome
    patches: int
    width_in_cells: float
    distance: float
    median_distance: float
    rank: int
    p_value: float | None
    good_beyond: int | None
    map_peak: float
    map_p_value: float | None
    usual_distance: float | None
    nearest_images: tuple[tuple[str, int], ...]

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values."""
        nearest: list[JsonValue] = [{"image": name, "patches": count} for name, count in self.nearest_images]
        return {**vars(self), "nearest_images": nearest}


@dataclass(frozen=True)
class Explanation:
    """Why an image has its score.

    Attributes:
        evidence: Its most unusual patches; of a marked defect, those that show it.
        defect: The marked defect; None without a mask.
        facts: Sentences that say what was found.
        advice: Sentences that follow from it; none where nothing does.
    """

    evidence: Evidence
    defect: MarkedDefect | None
    facts: tuple[str, ...]
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values."""
        return {
            "evidence": self.evidence.to_dict(),
            "defect": None if self.defect is None else self.defect.to_dict(),
            "facts": list(self.facts),
            "advice": list(self.advice),
        }


def explain(
    detector: Detector,
    result: Result,
    mask: NDArray[np.bool_] | None = None,
    n: int = 3,
    *,
    sources: Sources | None = None,
) -> Explanation:
    """Where the patches of an image rank among those of good images; with a mask, those of a marked defect.

    Advice follows from these figures alone, and only for a marked defect that was not found, or that a training image
    seems to show too. Errors: UsageError for a mask of another size, or one that marks no patch.

    Args:
        detector: The detector that gave the result.
        result: What it says about the image.
        mask: Where the defect is, (H, W), at the image's own size.
        n: How many patches of it to show.
        sources: Where to find training images.
    """
    if mask is None:
        found = evidence(detector, result, n, sources=sources)
        return Explanation(found, None, tuple(_of_patches(found)), ())
    if mask.shape != result.frame.source:
        raise UsageError(f"The mask is {mask.shape}; expected the image's height and width, {result.frame.source}.")
    cells = marked_cells(mask, result.frame, _shape(result)) & ~np.isnan(result.patch_scores.cpu().numpy())
    if not cells.any():
        raise UsageError(
            "The mask marks nothing that is looked at: no pixel, or only pixels outside the crop or the region."
        )
    defect = _defect(detector, result, mask, cells)
    found = evidence(detector, result, n, sources=sources, among=cells)
    facts = [*_of_defect(result, defect), *_of_patches(found)]
    return Explanation(found, defect, tuple(facts), tuple(_advice(result, defect)))


def marked_cells(mask: NDArray[np.bool_], frame: Frame, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """The cells (h, w) that show a marked pixel of a mask (H, W), which `frame` places in the network's input."""
    cells = np.zeros(grid, dtype=bool)
    y, x = (places + 0.5 for places in np.nonzero(mask))
    if frame.motion is not None:
        x, y = points(frame.motion.back, np.stack([x, y], -1)).T
    row, column = (
        np.floor((places * frame.resized[axis] / frame.canvas[axis] + frame.offset[axis])
                 * grid[axis] / frame.inside[axis]).astype(int)
        for axis, places in enumerate((y, x))
    )  # fmt: skip
    inside = (row >= 0) & (row < grid[0]) & (column >= 0) & (column < grid[1])
    cells[row[inside], column[inside]] = True
    return cells


def _defect(detector: Detector, result: Result, mask: NDArray[np.bool_], cells: NDArray[np.bool_]) -> MarkedDefect:
    fitted, scores = detector.fitted, result.patch_scores.cpu().double().numpy()
    own = scores[cells]
    maxima, _ = good_maxima(fitted)
    peak = float(np.nanmax(np.where(mask, result.map, np.nan)))
    rows = result.nearest_rows[..., 0].cpu().numpy()[cells].tolist()
    origins = [fitted.origin(int(row)) for row in rows]
    usual = [median for median, _ in fitted.calibration.patches]
    pixels_of_cell = [
        result.frame.canvas[axis] / result.frame.resized[axis] * result.frame.inside[axis] / cells.shape[axis]
        for axis in (0, 1)
    ]
    inside = np.pad(mask, 1)
    wide = 2 * float(ndimage.distance_transform_edt(inside, sampling=[1 / one for one in pixels_of_cell]).max())
    outcome: Outcome = "no threshold"
    if result.decision == "pass":
        outcome = "missed"
    elif result.decision == "fail":
        outcome = "found" if (result.mask & mask).any() else "failed elsewhere"
    highest = float(own.max())
    return MarkedDefect(
        outcome=outcome,
        patches=int(cells.sum()),
        width_in_cells=wide,
        distance=highest,
        median_distance=float(np.median(own)),
        rank=1 + int((scores > highest).sum()),
        p_value=p_value_among(highest, maxima, fitted.calibration),
        good_beyond=sum(one >= highest for one in maxima) if maxima else None,
        map_peak=peak,
        map_p_value=p_value_among(peak, fitted.calibration.map_maxima, fitted.calibration),
        usual_distance=float(np.median(usual)) if usual else None,
        nearest_images=tuple(Counter(one.name for one in origins if one).most_common(3)),
    )


def _of_defect(result: Result, defect: MarkedDefect) -> list[str]:
    facts = [
        {
            "found": "The image fails, and what is outlined meets the mark.",
            "missed": "The image passes, so the defect is missed.",
            "failed elsewhere": "The image fails, but what is outlined does not meet the mark.",
            "no threshold": "The model has no threshold, so there is no verdict.",
        }[defect.outcome],
        f"The mark covers {counted(defect.patches, 'patch', 'patches')} and is {defect.width_in_cells:.1f} cells wide "
        f"where it is widest. Its most unusual patch is at {defect.distance:#.4g}, number {defect.rank} of all "
        f"{int((~result.patch_scores.isnan()).sum())} patches of the image.",
    ]
    if defect.p_value is not None and defect.good_beyond is not None:
        facts.append(
            f"{counted(defect.good_beyond, 'good image')} of those that set the threshold "
            f"{'has' if defect.good_beyond == 1 else 'have'} a patch at least as far: p = {defect.p_value:.2g}."
        )
    if defect.map_p_value is not None:
        facts.append(
            f"The map reaches {defect.map_peak:#.4g} in the mark, with a pixel threshold of "
            f"{result.pixel_threshold:#.4g}: p = {defect.map_p_value:.2g}."
        )
    if defect.nearest_images:
        name, count = defect.nearest_images[0]
        facts.append(f"{count} of its {counted(defect.patches, 'patch', 'patches')} are most like patches in {name}.")
    return facts


def _of_patches(found: Evidence) -> list[str]:
    facts = []
    for number, one in enumerate(found.patches, 1):
        p = "" if one.p_value is None else f" (p = {one.p_value:.2g})"
        near = f"; the nearest good patch is {one.nearest.where}" if one.nearest.name else ""
        facts.append(f"Patch {number}, at {one.box[0]}, {one.box[1]}: distance {one.distance:#.4g}{p}{near}.")
    if found.patches and found.patches[0].p_value is None:
        facts.append(f"p-values: {found.p_value_of}.")
    return facts


def _advice(result: Result, defect: MarkedDefect) -> list[str]:
    """What follows from the figures of a defect."""
    recipe, frame, advice = result.recipe, result.frame, list[str]()
    name, count = defect.nearest_images[0] if defect.nearest_images else ("", 0)
    usual = defect.usual_distance
    if usual is not None and count > _MOST * defect.patches and defect.median_distance < _FAR_BELOW * usual:
        advice.append(
            f"Look at {name}: it is nearest to most of the defect's patches, at a median distance of "
            f"{defect.median_distance:#.3g}, where good patches have {usual:#.3g}. It may show the same defect; if so, "
            "fit again without it."
        )
    if defect.outcome in ("found", "no threshold"):
        return advice
    # Beyond as many good images as an image that fails has to be.
    unusual = defect.p_value is not None and defect.good_beyond == 0
    if unusual and not defect.map_peak > result.pixel_threshold and recipe.sigma > 0:
        advice.append(
            f"Try a smaller sigma than {recipe.sigma:g}: no good image has a patch as unusual, but the smoothed map "
            "stays below its threshold."
        )
    finer = frame.source[0] > frame.resized[0]
    if not unusual and defect.p_value is not None and defect.width_in_cells < _CELLS and finer:
        times = _CELLS / max(defect.width_in_cells, 0.5)
        sizes = (recipe.size,) if isinstance(recipe.size, int) else sides(recipe.size)
        wanted: Sequence[int] = [int(-(-side * times // 32) * 32) for side in sizes]
        text = " x ".join(map(str, wanted))
        advice.append(
            f"Try a larger size than {' x '.join(map(str, sizes))}, for example {text}: the defect is "
            f"{defect.width_in_cells:.1f} cells wide, and the image has more pixels than the network sees."
        )
    return advice


def _shape(result: Result) -> tuple[int, int]:
    return int(result.patch_scores.shape[0]), int(result.patch_scores.shape[1])
