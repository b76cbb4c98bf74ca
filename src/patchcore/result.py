"""Result: what a detector says about one image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from patchcore.data.images import Pixels, mark, read
from patchcore.data.reading import MAX_PIXELS, Colour, Reading
from patchcore.data.sample import Sample
from patchcore.errors import ImageError
from patchcore.maths.registration import Motion
from patchcore.maths.resize import Frame, cell_box
from patchcore.maths.scoring import worst
from patchcore.maths.thresholds import Verdict, decide, normalise
from patchcore.model.fitted import Fitted, NearestImage
from patchcore.pipeline.score import Scored, anomaly_map
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import Loaded
from patchcore.recipe.recipe import Recipe
from patchcore.recipe.roi import Roi
from patchcore.verdict import draw
from patchcore.verdict.regions import Region, large, measured


@dataclass(frozen=True)
class AreaResult:
    """An area of the region of interest: it fails if and only if its score is greater than its threshold."""

    name: str
    score: float
    threshold: float
    decision: Verdict


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a detector says about one image.

    The map and the mask are computed when they are first asked for, at the image's own size.

    Attributes:
        sample: The image as it was given, with what is known of it.
        score: The raw image score, a distance between features; higher is more anomalous.
        threshold: The image fails if and only if its score is greater. NaN if none could be set.
        lower_threshold: It passes if and only if its score is at most this; None: the threshold itself.
        pixel_threshold: The same for values of the map.
        patch_scores: (h, w), on the network's grid.
        nearest_rows: (h, w, k), rows of the memory bank.
        frame: Where the image lay in the network's input.
        recipe: The recipe that made the score and makes the map.
        max_pixels, colour: How the image is read again: the largest to decode, the order of an array's channels.
        warnings: What is wrong with a part of the image, such as damage in a JPEG file: its verdict may be too.
        p_value: How probable so high a score is for a good image (`Calibration.p_value`); NaN without good scores.
        mark: Tells whether the image has changed when it is read again.
        seconds: Time on the clock of network, search and scores, with waiting for a core; its share of a batch's.
        area_scores, units: Score of each area of the region of interest, and what its patch scores were divided by.
        nearest_image: Where in the training images the row nearest to the patch with the highest score comes from;
            None where the bank does not say.
        foreign: How unlike every good image the whole image is (`Gate`); above 1 it does not show the part, and its
            verdict is `unsure`. None without a gate.
    """

    sample: Sample
    score: float
    threshold: float
    pixel_threshold: float
    patch_scores: Tensor
    nearest_rows: Tensor
    frame: Frame
    recipe: Recipe
    max_pixels: int = MAX_PIXELS
    colour: Colour = "rgb"
    seconds: float = 0.0
    nearest_image: NearestImage | None = None
    warnings: tuple[str, ...] = ()
    p_value: float = math.nan
    mark: int | None = None
    area_scores: tuple[float, ...] = ()
    units: tuple[float, ...] = ()
    lower_threshold: float | None = None
    foreign: float | None = None

    @classmethod
    def of(
        cls,
        fitted: Fitted,
        loaded: Loaded,
        frame: Frame,
        score: float,
        scored: Scored,
        reading: Reading,
        seconds: float = 0.0,
        foreign: float | None = None,
    ) -> Result:
        """What was found in an image, and what the calibration makes of it."""
        calibration = fitted.calibration
        return cls(
            sample=loaded.sample,
            score=score,
            threshold=calibration.threshold,
            lower_threshold=calibration.lower_threshold,
            p_value=calibration.p_value(score) if calibration.scores else math.nan,
            pixel_threshold=calibration.pixel_threshold,
            patch_scores=scored.scores,
            nearest_rows=scored.rows,
            nearest_image=fitted.origin(int(scored.rows[..., 0].flatten()[worst(scored.scores)])),
            frame=frame,
            area_scores=scored.areas or (score,),
            units=fitted.units or (1.0,),
            recipe=fitted.members[0].recipe,
            max_pixels=reading.max_pixels,
            warnings=loaded.warnings,
            mark=mark(loaded.pixels),
            colour=reading.colour,
            seconds=seconds,
            foreign=foreign,
        )

    def __repr__(self) -> str:
        height, width = self.frame.source
        return f"Result({self.name!r}, score={self.score:.6g}, {self.decision!r}, map {height} x {width})"

    @property
    def name(self) -> str:
        """The image's path as it was given, or `#` and its number."""
        return self.sample.name

    @property
    def decision(self) -> Verdict:
        """The verdict: `fail` iff score > threshold, `pass` iff score <= lower_threshold, else `unsure` (`decide`)."""
        return "unsure" if self.reason else decide(self.score, self.threshold, self.lower_threshold)

    @property
    def reason(self) -> str | None:
        """Why the verdict is `unsure` though there is a threshold: `part not found`, or not an area of it; or the image
        shows `not this part`."""
        if self.frame.motion is not None and not self.frame.motion.found:
            return "part not found"
        if self.foreign is not None and self.foreign > 1:
            return "not this part"
        missing = [one.name or "region of interest" for one in self.areas if math.isnan(one.score)]
        return f"not in the image: {', '.join(missing)}" if missing else None

    @property
    def registration(self) -> Motion | None:
        """How the part lies in the image, and whether it was found; None if the recipe has no registration."""
        return self.frame.motion

    @property
    def areas(self) -> tuple[AreaResult, ...]:
        """What is said about each area of the region of interest, in its own unit; none without a region."""
        if not isinstance(self.recipe.roi, Roi):
            return ()
        each = zip(self.recipe.roi.names, self.area_scores, self.units, strict=True)
        return tuple(
            AreaResult(name, score * unit, self.threshold * unit, decide(score, self.threshold, self.lower_threshold))
            for name, score, unit in each
        )

    @property
    def normalised(self) -> float:
        """The score with 0.5 at the threshold and 1 at twice it; monotone, not clipped above."""
        return normalise(self.score, self.threshold)

    @property
    def coverage(self) -> float:
        """The share of the image that was looked at: 1 unless the recipe crops, or has a region or registration."""
        if self.recipe.roi is None and self.frame.motion is None:
            return self.frame.coverage
        return float(1 - np.isnan(self.map).mean())

    @property
    def worst_patch(self) -> tuple[int, int]:
        """Row and column, on the network's grid, of the patch with the highest score."""
        row, column = divmod(worst(self.patch_scores), self.patch_scores.shape[1])
        return row, column

    @cached_property
    def map(self) -> NDArray[np.float32]:
        """The anomaly map (H, W), float32, at the image's size; NaN outside a crop."""
        with undisturbed():
            values = anomaly_map(self.recipe, self.patch_scores, self.frame)
            return np.asarray(values.cpu().numpy(), dtype=np.float32)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The defect (H, W), as the overlay outlines it: empty if and only if the image does not fail.

        What the map has over the pixel threshold, each region up to half the height of its peak; and the surroundings
        of the worst patch, if they are not among it; without regions smaller than the recipe's `min_region`. What is
        over the threshold whatever the verdict is `map > pixel_threshold`.
        """
        if self.decision != "fail":
            return np.zeros(self.frame.source, dtype=bool)
        found, (least, gap) = draw.defect(self.map, self.pixel_threshold, self._hottest()), self._limits()
        return large(found, self.map, least, gap) if least else found

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The connected regions of `mask`, measured, that with the highest peak first; none if the image passes."""
        if self.decision != "fail":
            return ()
        return measured(self.mask, self.map, self._limits()[1], self.recipe.mm_per_pixel)

    def _limits(self) -> tuple[float, float]:
        """The smallest area of a region and the gap between two, in pixels."""
        side = self.recipe.mm_per_pixel or 1
        return self.recipe.min_region / side**2, self.recipe.region_gap / side

    def _hottest(self) -> tuple[int, int]:
        """The pixel at the centre of the worst patch; the map's highest one where that shows none of the image."""
        (height, width), (rows, columns) = self.frame.source, self.patch_scores.shape
        top, left, _, _ = cell_box(self.worst_patch, (rows, columns), self.frame, 0)
        row, column = min(max(0, int(top)), height - 1), min(max(0, int(left)), width - 1)
        if np.isnan(self.map[row, column]):
            row, column = divmod(int(np.nanargmax(self.map)), width)
        return row, column

    def pixels(self) -> NDArray[np.uint8]:
        """The image as it is drawn (H, W, 3). One that was given as a path is read again. Errors: as for `original`."""
        return draw.to_uint8(self.original(), self.recipe.value_range)

    def original(self) -> Pixels:
        """The image (H, W, C), C = 1 or 3, at its own depth. One that was given as a path is read again.

        Errors: ImageError if it has gone, or is no longer the image that was looked at.
        """
        image = self.sample.image
        pixels = read(image, self.name, self.max_pixels, self.colour, warnings=[])
        if self.mark is not None and mark(pixels) != self.mark:
            what = "the file" if isinstance(image, str | Path) else "the image"
            raise ImageError(
                self.name,
                f"{what} has changed since it was looked at, so map and image do not belong together. "
                "Predict it again, and keep a copy of what may be overwritten.",
            ).at(image)
        return pixels

    def overlay(self, *, caption: bool = False) -> Image.Image:
        """The image with its heat map, on the fixed scale of the pixel threshold, its regions outlined and numbered.

        It has the image's own size; with `caption`, a bar below says the verdict, the score and the threshold.
        Errors: as for `original`.
        """
        image = draw.overlay(self.pixels(), self.map, self.pixel_threshold, self.mask)
        draw.number(image, self.mask, self.regions)
        return draw.captioned(image, self.decision, *self.told()) if caption else image

    def told(self) -> list[str]:
        """What a caption says beside the verdict."""
        told = [*([self.reason] if self.reason else []), f"score {self.score:#.4g}"]
        if not math.isnan(self.threshold):
            told.append(f"threshold {self.threshold:#.4g}")
        if self.lower_threshold is not None and self.lower_threshold < self.threshold:
            told.append(f"unsure from {self.lower_threshold:#.4g}")
        if self.decision == "fail" and not (self.map > self.pixel_threshold).any():
            told.append("nothing over the pixel threshold: the hottest place is outlined")
        return told
