"""Result: what a detector says about one image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from patchcore.data.images import Pixels, mark, read
from patchcore.data.reading import MAX_PIXELS, Colour
from patchcore.data.sample import Sample
from patchcore.errors import ImageError
from patchcore.maths.resize import Frame
from patchcore.maths.thresholds import Decision, decide, normalise
from patchcore.pipeline.score import anomaly_map
from patchcore.pipeline.surroundings import undisturbed
from patchcore.recipe.fields import Recipe
from patchcore.verdict import draw


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a detector says about one image.

    The map and the mask are computed when they are first asked for, at the image's own size.

    Attributes:
        sample: The image as it was given, with what is known of it.
        score: The raw image score, a distance between features; higher is more anomalous.
        threshold: The image fails if and only if its score is greater. NaN if none could be set.
        pixel_threshold: The same for values of the map.
        patch_scores: (h, w), on the network's grid.
        nearest_rows: (h, w, k), rows of the memory bank.
        frame: Where the image lay in the network's input.
        recipe: The recipe that made the score and makes the map.
        max_pixels, colour: How the image is read again: the largest to decode, the order of an array's channels.
        warnings: What is wrong with a part of the image, such as damage in a JPEG file: its verdict may be too.
        mark: Tells whether the image has changed when it is read again.
        seconds: Time of network, search and scores; the image's share of its batch.
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
    warnings: tuple[str, ...] = ()
    mark: int | None = None

    def __repr__(self) -> str:
        height, width = self.frame.source
        return f"Result({self.name!r}, score={self.score:.6g}, {self.decision!r}, map {height} x {width})"

    @property
    def name(self) -> str:
        """The image's path as it was given, or `#` and its number."""
        return self.sample.name

    @property
    def decision(self) -> Decision:
        """`fail` if and only if score > threshold; `unsure` where no threshold could be set or the score is NaN."""
        return decide(self.score, self.threshold)

    @property
    def normalised(self) -> float:
        """The score with 0.5 at the threshold and 1 at twice it; monotone, not clipped above."""
        return normalise(self.score, self.threshold)

    @property
    def coverage(self) -> float:
        """The share of the image that was looked at: less than 1 only where the recipe crops."""
        return self.frame.coverage

    @cached_property
    def map(self) -> NDArray[np.float32]:
        """The anomaly map (H, W), float32, at the image's size; NaN outside a crop."""
        with undisturbed():
            values = anomaly_map(self.recipe, self.patch_scores, self.frame)
            return np.asarray(values.cpu().numpy(), dtype=np.float32)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Where the map is over the pixel threshold (H, W)."""
        return np.asarray(self.map > self.pixel_threshold)

    def pixels(self) -> Pixels:
        """The image (H, W, C) at its own depth; one that was given as a path is read again.

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

    def overlay(self) -> Image.Image:
        """The image with its heat map, on the fixed scale of the pixel threshold.

        An image that was given as a path is read again. Errors: ImageError if it has gone, or has changed.
        """
        return draw.overlay(draw.to_uint8(self.pixels(), self.recipe.value_range), self.map, self.pixel_threshold)
