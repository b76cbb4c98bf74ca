"""Good patches: where the rows of a memory bank come from, and how they look."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore.data.reading import MAX_PIXELS
from patchcore.data.sample import Sample
from patchcore.detector import Detector
from patchcore.errors import ImageError, StoreError
from patchcore.maths.augmentation import Augmentation, augmented
from patchcore.maths.registration import Motion, canvas_of
from patchcore.maths.resize import Box, Frame, cell_box, upright
from patchcore.oversight.close_up import close_up
from patchcore.oversight.sources import Sources
from patchcore.pipeline.workers import load
from patchcore.verdict import draw

_SAME = 0.05  # how far a patch may be from its bank row, as a share of its length: rounding, other engines
_TURNED = ("rotate_90", "rotate_270", "transpose", "transverse")


@dataclass(frozen=True)
class GoodPatch:
    """A patch of a training image that the memory bank holds.

    Attributes:
        row_of_bank: Its number in the first member's bank.
        name: The training image, as `fitted.images` has it; empty where the bank does not say.
        row, column: Its cell, on the grid of that image or of its augmented copy.
        augmentation: How the copy was made, if it is of one.
        box: Left, top, right, bottom in pixels of the training image itself; None where its size is not known.
        sha256: Of the pixels of the training image; None in files of earlier versions.
        frame, grid: Where the image, or its copy, lay in the network's input, and its cells.
    """

    row_of_bank: int
    name: str = ""
    row: int = -1
    column: int = -1
    augmentation: Augmentation | None = None
    box: tuple[int, int, int, int] | None = None
    sha256: str | None = None
    frame: Frame | None = None
    grid: tuple[int, int] = (0, 0)

    @property
    def where(self) -> str:
        """`in 03.jpg, augmented by flip_h`."""
        return f"in {self.name}" + (f", augmented by {self.augmentation}" if self.augmentation else "")


class GoodPatches:
    """Finds the good patches of a detector, in its file and in folders of training images.

    An image that a folder has under the name is shown only if it is the one that the detector was fitted on: its
    SHA-256 says so, or, where a file of an earlier version has none, its patch. Otherwise the file's thumbnail is.
    """

    def __init__(self, detector: Detector, sources: Sources | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self._detector, self._sources, self._max_pixels = detector, sources or Sources(), max_pixels

    def of(self, number: int) -> GoodPatch:
        """Where a row of the first member's bank comes from. Reads an image only for a file of an earlier version."""
        fitted = self._detector.fitted
        origin = fitted.origin(number)
        if origin is None:
            return GoodPatch(number)
        name, row, column, how = origin
        index, album = int(fitted.members[0].bank.origins[number, 0]), fitted.album
        if album.shapes is None or album.sha256 is None:
            bare = GoodPatch(number, name, row, column, how)
            read = self._embedded(bare)
            return bare if isinstance(read, str) else read[0]
        height, width, *cells = album.shapes[index].tolist()
        motion = self._motion(index, (height, width))
        size, grid = motion.canvas if motion else (height, width), (int(cells[0]), int(cells[1]))
        if how in _TURNED:
            embedder = self._detector.embedders[0]
            size = size[::-1]
            if embedder.frame(size).inside != embedder.frame(size[::-1]).inside:
                grid = (grid[1], grid[0])
        return self._placed(number, index, size, grid)

    def _placed(self, number: int, index: int, size: tuple[int, int], grid: tuple[int, int]) -> GoodPatch:
        """A patch of an image, or of a copy, of a known size: that of its canvas, if it was brought to one."""
        fitted = self._detector.fitted
        origin, member = fitted.origin(number), fitted.members[0]
        assert origin is not None
        frame = self._detector.embedders[0].frame(size)
        box = _original(cell_box((origin.row, origin.column), grid, frame, member.recipe.patch_size), size, origin[3])
        own = size[::-1] if origin.augmentation in _TURNED else size
        if (shapes := fitted.album.shapes) is not None and fitted.album.motions is not None:
            own = (int(shapes[index, 0]), int(shapes[index, 1]))
            motion = self._motion(index, own)
            assert motion is not None
            box = upright(motion, box)
        sha256 = None if fitted.album.sha256 is None else bytes(fitted.album.sha256[index].numpy()).hex()
        return GoodPatch(number, *origin, box=whole(box, own), sha256=sha256, frame=frame, grid=grid)

    def close_up(self, good: GoodPatch, side: int) -> tuple[Image.Image | None, str]:
        """Its surroundings, and the reason where they cannot be shown; with a thumbnail, that it is one."""
        if not good.name:
            return None, "The memory bank does not say which image it comes from."
        if good.sha256 is None:
            read = self._embedded(good)
            if isinstance(read, str):
                return None, read
            good, pixels, reason = *read, ""
        else:
            found = self._file(good)
            small = self._thumbnail(good) if isinstance(found, str) else None
            if isinstance(found, str) and small is None:
                return None, found
            pixels, reason = (found, "") if small is None else (small, "from its thumbnail")  # type: ignore[assignment]
        if good.sha256 is not None:
            number = int(self._detector.fitted.members[0].bank.origins[good.row_of_bank, 0])
            motion = self._motion(number, (pixels.shape[0], pixels.shape[1]))
            pixels = motion.to_canvas(pixels) if motion else pixels
        if good.augmentation:
            pixels = augmented(pixels, good.augmentation)
        assert good.frame is not None
        patch = self._detector.fitted.members[0].recipe.patch_size
        return close_up(pixels, (good.row, good.column), good.grid, good.frame, patch, side), reason

    def _motion(self, number: int, size: tuple[int, int]) -> Motion | None:
        """How a training image, drawn at this size, was brought to the reference; None if it was not."""
        album, reference = self._detector.fitted.album, self._detector.fitted.reference
        if album.motions is None or album.shapes is None or reference is None:
            return None
        x, y, angle = album.motions[number].tolist()
        scale = size[0] / int(album.shapes[number, 0])
        return Motion(size, canvas_of(size, reference.source), (x * scale, y * scale), angle)

    def _file(self, good: GoodPatch) -> NDArray[np.uint8] | str:
        """The training image, from a folder, if its pixels have the SHA-256."""
        path = self._sources.find(good.name)
        if path is None:
            return _not_found(good)
        try:
            loaded = load(Sample(good.name, path), self._max_pixels, damaged=True)
        except ImageError as error:
            return _unreadable(good, error)
        if loaded.digest.hex() != good.sha256:
            return f"{good.name} is not the image that the detector was fitted on: its pixels differ."
        return draw.to_uint8(loaded.pixels, self._detector.recipe.value_range)

    def _thumbnail(self, good: GoodPatch) -> NDArray[np.uint8] | None:
        fitted = self._detector.fitted
        if fitted.album.thumbnails is None:
            return None
        number = int(fitted.members[0].bank.origins[good.row_of_bank, 0])
        try:
            return np.asarray(fitted.album.thumbnail(number).convert("RGB"))
        except Exception as error:  # of foreign bytes a decoder may say nearly anything
            raise StoreError(f"The thumbnail of {good.name} is damaged: {error}.") from error

    def _embedded(self, good: GoodPatch) -> tuple[GoodPatch, NDArray[np.uint8]] | str:
        """The same with its box, and its image, from a folder, if its patch is the one that the bank holds."""
        fitted, path = self._detector.fitted, self._sources.find(good.name)
        if path is None:
            return _not_found(good)
        member, embedder = fitted.members[0], self._detector.embedders[0]
        try:
            loaded = load(Sample(good.name, path), self._max_pixels, member.recipe.value_range, damaged=True)
            one = embedder.augmented(loaded, good.augmentation) if good.augmentation else embedder([loaded])[0]
        except ImageError as error:
            return _unreadable(good, error)
        remembered = member.bank.rows[good.row_of_bank]
        same = good.row < one.grid[0] and good.column < one.grid[1]
        if same:
            patch = one.values[good.row * one.grid[1] + good.column] * member.bank.scales
            same = bool((patch - remembered).norm() <= _SAME * remembered.norm())
        if not same:
            return f"{good.name} is not the image that the detector was fitted on: its patch differs."
        pixels = draw.to_uint8(loaded.pixels, member.recipe.value_range)
        return self._placed(good.row_of_bank, -1, one.frame.source, one.grid), pixels


def _not_found(good: GoodPatch) -> str:
    return f"Its image, {good.name}, was not found. Give the training folder: --good."


def _unreadable(good: GoodPatch, error: ImageError) -> str:
    return f"Its image, {good.name}, can no longer be read: {error.reason}"


def whole(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, bottom, right -> left, top, right, bottom in whole pixels of an image (height, width), cut to it."""
    top, left, bottom, right = box
    height, width = size
    x, y = min(max(0, floor(left)), width - 1), min(max(0, floor(top)), height - 1)
    return x, y, min(max(x + 1, ceil(right)), width), min(max(y + 1, ceil(bottom)), height)


def _original(box: Box, size: tuple[int, int], how: Augmentation | None) -> Box:
    """A box on an augmented copy of size (height, width), on the image itself: what `augmented` does, undone."""
    (top, left, bottom, right), (height, width) = box, size
    if how in ("flip_h", "rotate_180", "rotate_270", "transverse"):
        left, right = width - right, width - left
    if how in ("flip_v", "rotate_90", "rotate_180", "transverse"):
        top, bottom = height - bottom, height - top
    return (left, top, right, bottom) if how in _TURNED else (top, left, bottom, right)
