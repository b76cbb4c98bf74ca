"""Embedder: images in, patches out, by a recipe and a backbone."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest

import torch
from torch import Tensor, nn

from patchcore.backbones import engines, registry
from patchcore.backbones.engines import taps_of
from patchcore.backbones.registry import Backbone
from patchcore.data.formats import Depth, UnreadableError, check_shape
from patchcore.errors import ImageError, RecipeError, UsageError
from patchcore.maths import resize
from patchcore.maths.augmentation import Augmentation, augmented
from patchcore.maths.embedding import embed, patches_of, pooled_channels
from patchcore.maths.exposure import even
from patchcore.maths.resize import Frame
from patchcore.pipeline.roi import OUTSIDE, cells_of
from patchcore.pipeline.workers import Loaded
from patchcore.recipe.recipe import Recipe
from patchcore.recipe.rules import sides

Grid = tuple[int, int]


@dataclass(frozen=True)
class Patches:
    """The patches of one image: `values` (h*w, D), row by row on their `grid` (h, w), but only of cells that count."""

    values: Tensor
    grid: Grid
    frame: Frame  # where the image lay in the network's input
    seconds: float = 0.0  # of the network, the image's share of its batch
    cells: Tensor | None = None  # (h, w), the area that each cell belongs to (see `roi.cells_of`); None: all count


class Embedder:
    """Turns batches of images into patches. Holds no state of its own but the network."""

    def __init__(
        self,
        recipe: Recipe,
        backbone: Backbone,
        device: torch.device,
        *,
        engine: str = "torch",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        self.recipe, self.backbone, self.device, self._process = recipe, backbone, device, os.getpid()
        backbone.extractor.to(device)
        self.engine = engines.engine(backbone, engine, precision, device, threads)  # what reads the taps
        if "auto" in (recipe.exposure, recipe.pool):
            raise UsageError("The recipe leaves exposure or pool to `auto`, which fit decides; state both.")
        source = backbone.source
        self._mean = torch.tensor(source.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(source.std, device=device).view(3, 1, 1)
        self._kernel = source.interpolation if recipe.interpolation == "weights" else recipe.interpolation
        # Sides without padding or crop are whole cells of every tap. A letterbox too pads in whole
        # cells, so that none of them shows image and padding at once.
        self.cell = math.lcm(*backbone.extractor.strides)
        check_cells(recipe, self.cell)

    @property
    def widths(self) -> list[int]:
        """Values of each tap in a patch; none if `merge` mixes them."""
        recipe, channels = self.recipe, self.backbone.extractor.channels * len(self.recipe.scales)
        return [] if recipe.merge == "bins" else pooled_channels(channels, recipe.pool, recipe.tap_bins)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Loaded], how: Augmentation | None = None) -> list[Patches]:
        """The patches of each image. Images that have the same size in the network share a pass.

        `how`: they are copies that were mirrored or turned so.
        """
        if self.device.type != "cpu" and self._process != os.getpid():
            raise UsageError(
                f"This detector is on {self.device}, which a forked process cannot use. Start it with the method "
                "`spawn`, and load the detector there."
            )
        placed = [self._placed(one) for one in batch]
        found: list[Patches] = []
        for _, run in groupby(placed, lambda one: [frame.window for frame, _image in one]):
            found += self._embed(list(run), how)
        return found

    def augmented(self, one: Loaded, how: Augmentation) -> Patches:
        """The patches of an augmented copy of an image."""
        return self([replace(one, pixels=augmented(one.pixels, how))], how)[0]

    def check(self, one: Loaded, max_pixels: int) -> None:
        """Errors: ImageError for an image whose shape would take more memory here than the limit allows."""
        recipe = self.recipe
        tiled = recipe.tile is not None or recipe.crop is not None
        try:
            check_shape(one.pixels.shape, recipe.resize, sides(recipe.size), tiled, max_pixels)
        except UnreadableError as error:
            raise ImageError(one.sample.name, str(error)) from None

    def frame(self, source: tuple[int, ...], scale: float = 1.0) -> Frame:
        """Where an image of (height, width) lies in the network's input, at one of the recipe's scales."""
        recipe, (height, width) = self.recipe, source
        h, w = (max(1, round(side * scale / self.cell)) * self.cell for side in recipe.window)
        window = recipe.window if scale == 1 else (h, w)
        if recipe.resize == "stretch":
            return Frame((height, width), window, window)
        if recipe.resize == "area":
            return resize.area_frame((height, width), window, self.cell)
        if recipe.resize == "letterbox":
            return resize.letterbox_frame((height, width), window, self.cell)
        short = round(sides(recipe.size)[0] * scale)
        return resize.short_side_frame((height, width), short, window if recipe.crop else None, self.cell)

    def _placed(self, loaded: Loaded) -> list[tuple[Frame, Tensor]]:
        """One image as the network wants it, (3, H, W), with its frame, at each scale."""
        frames = [self.frame(loaded.pixels.shape[:2], scale) for scale in self.recipe.scales]
        if (motion := loaded.motion) is not None:
            frames = [replace(frame, source=motion.source, motion=motion) for frame in frames]
        image = loaded.image.to(self.device)
        placed = [resize.place(image, frame, self._kernel) for frame in frames]
        if self.recipe.exposure == "even":
            placed = [even(one) for one in placed]
        images = [resize.pad((one - self._mean) / self._std, f) for one, f in zip(placed, frames, strict=True)]
        return list(zip(frames, images, strict=True))

    def _embed(self, batch: list[list[tuple[Frame, Tensor]]], how: Augmentation | None) -> Iterator[Patches]:
        """Images of one size -> taps -> embedding -> patches."""
        begin, recipe = time.perf_counter(), self.recipe
        assert recipe.pool != "auto"
        taps: list[list[Tensor]] = [[] for _ in batch]  # of each image, (1, C, h, w) each
        for scale in range(len(recipe.scales)):
            for tap in taps_of(self.engine, torch.stack([one[scale][1] for one in batch]), recipe.tiles):
                for own, one, values in zip(taps, batch, tap.split(1), strict=True):
                    own.append(_without_padding(values, one[scale][0]))
        embeddings = [
            embed(
                own,
                pool=recipe.pool,
                merge=recipe.merge,
                align_mode=recipe.align,
                patch_size=recipe.patch_size,
                stride=recipe.patch_stride,
                border=recipe.pool_border,
                tap_bins=recipe.tap_bins,
                bins=recipe.bins,
            )
            for own in taps
        ]
        seconds = (time.perf_counter() - begin) / len(batch)
        for one, values in zip(batch, embeddings, strict=True):
            patches, grid, frame = patches_of(values), (values.shape[2], values.shape[3]), one[0][0]
            cells = cells_of(recipe.roi, frame, grid, how)
            if cells is not None:
                patches = patches[(cells.flatten() != OUTSIDE).to(patches.device)]
            yield Patches(patches, grid, frame, seconds, cells)


def check_by(embedders: Sequence[Embedder], depth: Depth, max_pixels: int) -> Callable[[Loaded], None]:
    """What checks an image before it is embedded, and counts its bits. It raises ImageError."""

    def check(one: Loaded) -> None:
        depth.see(one.pixels, one.value_range)
        for embedder in embedders:
            embedder.check(one, max_pixels)

    return check


def _without_padding(tap: Tensor, frame: Frame) -> Tensor:
    """Cut a tap (1, C, h, w) to the cells that show image."""
    h, w = (
        side * inside // window for side, inside, window in zip(tap.shape[-2:], frame.inside, frame.window, strict=True)
    )
    return tap[..., :h, :w]


def backbone_for(recipe: Recipe, network: nn.Module | None) -> Backbone:
    """The backbone that a recipe names, or the caller's own network. Errors: UsageError, BackboneError."""
    if network is not None:
        return registry.wrap(network, recipe.taps, recipe.seen)
    if recipe.backbone == "module":
        raise UsageError("The recipe has backbone='module'; give the network: Detector(recipe, backbone=network).")
    return registry.build(recipe.backbone, recipe.weights, recipe.taps, recipe.seen, recipe.seed)


def backbones_for(recipe: Recipe, before: Sequence[Backbone], network: nn.Module | None) -> list[Backbone]:
    """The backbone of each member: one of those `before`, if it reads images of this size. Errors as above."""
    return [
        own if own and own.extractor.size == one.seen else backbone_for(one, network)
        for one, own in zip_longest(recipe.each, before)
    ]


def check_cells(recipe: Recipe, cell: int) -> None:
    """Check that sides which must be whole cells of the taps' grids are; `cell` in pixels. Errors: RecipeError."""
    got = [(f"tile is {recipe.tile}", recipe.tile), (f"tile_stride is {recipe.tile_stride}", recipe.tile_stride)]
    if recipe.resize == "letterbox":
        got.append((f"resize='letterbox' got size {recipe.size}", recipe.window))
    elif recipe.tile and recipe.crop:
        got.append((f"tile={recipe.tile} got crop {recipe.crop}", recipe.crop))
    elif recipe.tile and recipe.resize == "stretch":
        got.append((f"tile={recipe.tile} got size {recipe.size}", recipe.window))
    for what, value in got:
        if value is not None and any(side % cell for side in sides(value)):
            raise RecipeError(f"{what}; with these taps it must be a multiple of {cell}.")
