"""Place: where the part is in an image, and which region of good images is the part."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from patchcore.data.images import Pixels, to_tensor
from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.errors import DataError
from patchcore.maths import foreground, registration
from patchcore.maths.registration import Grey, Kind, Motion
from patchcore.model.fitted import Reference
from patchcore.pipeline.decide import first_look
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import Loaded, through
from patchcore.recipe.recipe import Recipe
from patchcore.recipe.roi import Area, Roi

log = logging.getLogger(__name__)
_LOOKED = 64  # good images that choose the reference and the region
_FAR = 0.25  # of a side: no part that is shifted farther is taken as found
# The limit is so many times the largest residual of this share of the good images, and at least so much: the part may
# have been missed in some of them too.
_MORE, _USUAL, _LEAST = 1.5, 0.9, 0.02


@dataclass(frozen=True)
class Placer:
    """Brings images to the reference, by shift or by shift and angle; without one, leaves them as they are."""

    kind: Kind = "shift"
    reference: Reference | None = None
    roi: Roi | None = None

    @classmethod
    def of(cls, recipe: Recipe, reference: Reference | None) -> Placer:
        if recipe.registration == "none":
            return cls()
        return cls(recipe.registration, reference, recipe.roi if isinstance(recipe.roi, Roi) else None)

    def limited(self, motions: Iterable[Motion | None]) -> Reference | None:
        """The reference with the limit that good images set, which were brought to it by these motions."""
        residuals = [one.residual for one in motions if one is not None]
        if self.reference is None or not residuals:
            return self.reference
        limit = max(_LEAST, _MORE * sorted(residuals)[math.ceil(_USUAL * len(residuals)) - 1])
        if far := sum(one > limit for one in residuals):
            log.warning(
                "%d of %d good images do not show the part as the reference does (residual above %.3g): their patches "
                "may come from another place.", far, len(residuals), limit,
            )  # fmt: skip
        return replace(self.reference, limit=limit)

    def __call__(self, batch: Sequence[Loaded]) -> Sequence[Loaded]:
        """The images as they are embedded: pixels on the canvas of the reference, and the motion that brings them."""
        return batch if self.reference is None else [self._placed(one, self.reference) for one in batch]

    def _placed(self, one: Loaded, reference: Reference) -> Loaded:
        source = (one.pixels.shape[0], one.pixels.shape[1])
        canvas = registration.canvas_of(source, reference.source)
        still = Motion(source, canvas)
        scale = np.array(canvas) / reference.grey.shape  # pixels of the image in one of the reference
        known = np.asarray(reference.grey.numpy() / 255, dtype=np.float32)
        pixels = one.pixels if canvas == source else still.to_canvas(one.pixels)
        grey = _grey(one, registration.resized(pixels, known.shape))
        (x, y), angle, residual = registration.register(grey, known, self.kind)
        shift = (float(x * scale[1]), float(y * scale[0]))
        motion = replace(still, shift=shift, angle=angle, residual=residual)
        near = all(abs(a) <= _FAR * side for a, side in zip(shift, canvas[::-1], strict=True))
        if not (near and residual <= reference.limit and self._in_view(motion)):
            motion = replace(still, residual=residual, found=False)
        return replace(one, pixels=motion.to_canvas(one.pixels), motion=motion)

    def _in_view(self, motion: Motion) -> bool:
        """Whether the image shows most corners of every area."""
        for area in self.roi.areas if self.roi else ():
            corners = np.array([corner for polygon in area.include for corner in polygon]).reshape(-1, 2)
            places = registration.points(motion.matrix, corners * motion.canvas[::-1])
            seen = ((places >= 0) & (places <= motion.source[::-1])).all(-1)
            if 2 * int(np.sum(seen)) < np.size(seen):
                return False
        return True


def _grey(one: Loaded, pixels: Pixels) -> Grey:
    """Pixels (h, w, C) of an image as (h, w), in [0, 1]."""
    return np.asarray(to_tensor(pixels, one.sample.name, one.value_range).mean(0).numpy())


@dataclass(frozen=True)
class _Look:
    """A good image, small: what it shows, and how large it is."""

    image: Loaded
    source: tuple[int, int]


def placed(recipe: Recipe, samples: Iterable[Sample], reading: Reading) -> tuple[Recipe, Placer, Iterable[Sample]]:
    """The recipe with polygons in the place of `roi=auto`, what brings images to the reference, and all the samples.

    The reference is the good image whose small grey version is nearest to the median of those of up to 64 good images
    from all over the samples. `auto` is the foreground that these share. Errors: DataError where they share none.
    """
    if recipe.registration == "none" and recipe.roi != "auto":
        return recipe, Placer(), samples
    some, samples = first_look(samples, _LOOKED)

    def work(batch: list[Loaded]) -> list[tuple[bytes, _Look]]:
        return [
            (one.digest, _Look(replace(one, pixels=registration.small(one.pixels)), one.pixels.shape[:2]))
            for one in batch
        ]

    reading = replace(reading, on_bad=lambda _: None)  # what is wrong with an image is said when it is learned
    looks = [*dict(through(work, some, reading, recipe.each[0].value_range)).values()]  # copies count once
    if not looks:
        return recipe, Placer(), samples
    with undisturbed():
        reference = None if recipe.registration == "none" else _reference(looks)
        placer = Placer.of(recipe, reference)
        if recipe.roi == "auto":
            recipe = recipe.replace(roi=_foreground(placer([one.image for one in looks])))
            log.info("Found the part that the good images share: roi has its outline.")
    return recipe, Placer.of(recipe, reference), samples


def _reference(looks: Sequence[_Look]) -> Reference:
    """Of the images of the most frequent size, the one nearest to their median."""
    sizes = [one.source for one in looks]
    size = max(dict.fromkeys(sizes), key=sizes.count)
    greys = [_grey(one.image, one.image.pixels) for one in looks if one.source == size]
    median = np.median(greys, 0)
    grey = min(greys, key=lambda one: float(np.square(one - median).sum()))
    low, high = float(grey.min()), float(grey.max())
    levels = (grey - low) / max(high - low, 1e-9) * 255
    return Reference(torch.from_numpy(levels.round().astype(np.uint8)), size)


def _foreground(images: Sequence[Loaded]) -> Roi:
    """What the images share, as one area. Errors: DataError."""
    side = (foreground.SIDE, foreground.SIDE)
    small = [registration.resized(one.pixels, side) for one in images]
    masks = [
        foreground.foreground(to_tensor(pixels, one.sample.name, one.value_range).permute(1, 2, 0).numpy())
        for one, pixels in zip(images, small, strict=True)
    ]
    part = foreground.shared(masks)
    if part is None:
        without = sum(one is None for one in masks)
        why = f"{without} of {len(masks)} have no part on an even ground" if without else "their parts do not overlap"
        raise DataError(
            f"roi='auto' found no foreground that the good images share: {why}. Give polygons or a mask image "
            "(--roi FILE), bring the images to one place (registration), or leave roi out."
        )
    return Roi(areas=(Area(include=tuple(foreground.outlines(part))),))
