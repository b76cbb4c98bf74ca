"""Embedder: images in, patches out, by a recipe and a backbone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from patchcore.backbones import Backbone, engine, taps_of
from patchcore.data.datasets import Sample
from patchcore.data.images import to_tensor
from patchcore.data.loading import Loaded, OnBad, in_order, load
from patchcore.errors import ImageError
from patchcore.maths import resize
from patchcore.maths.embedding import embed, patches_of
from patchcore.maths.exposure import even
from patchcore.maths.resize import Frame
from patchcore.recipe import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class Embedded:
    """The patches (h*w, D) of one image, row by row, on their grid (h, w)."""

    loaded: Loaded
    frame: Frame
    patches: Tensor
    grid: tuple[int, int]
    seconds: float  # of the network, the image's share of its batch
    others: tuple[Embedded, ...] = ()  # of an ensemble, what its other members make of the image
    versions: tuple[Embedded, ...] = ()  # of a training image, its changed versions, as the recipe has them


@dataclass(frozen=True)
class Framed:
    """An image that waits for its batch: at each scale, its frame and (3, H, W) as the network wants it."""

    loaded: Loaded
    frames: list[Frame]
    images: list[Tensor]
    others: tuple[Framed, ...] = ()  # of an ensemble, for its other members


class Embedder:
    """Images in, patches out. Holds no state of its own but the network."""

    def __init__(self, recipe: Recipe, backbone: Backbone, device: torch.device) -> None:
        self.recipe = recipe
        self.backbone = backbone
        self.device = device
        backbone.extractor.to(device)
        self.engine = engine(backbone, "torch", "fp32", device)  # what reads the taps
        source = backbone.source
        self._mean = torch.tensor(source.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(source.std, device=device).view(3, 1, 1)
        self._kernel = source.interpolation if recipe.interpolation == "weights" else recipe.interpolation
        # Sides without padding or crop are whole cells of every tap. A letterbox too pads in whole
        # cells, so that none of them shows image and padding at once.
        self.cell = math.lcm(*backbone.extractor.strides)
        recipe.check_cells(self.cell)

    def stream(
        self,
        found: Iterable[Sample],
        then: Callable[[Embedded], T],
        *,
        batch_size: int,
        threads: int,
        alone: int | None = None,
        max_pixels: int,
        on_bad: OnBad | None = None,
        progress: str | None = None,
    ) -> Iterator[T]:
        """Embed images, and give what `then` makes of each, in order.

        `batch_size` images at a time go to one of `threads` (see `in_order`, also for `alone`); those of them that
        have the same frame share a pass through the network.
        """

        def work(samples: list[Sample]) -> list[T | ImageError]:
            read = [self._framed(sample, max_pixels) for sample in samples]
            embedded = self._embed([one for one in read if isinstance(one, Framed)])
            return [one if isinstance(one, ImageError) else then(next(embedded)) for one in read]

        total = len(found) if isinstance(found, list) else None
        with tqdm(total=total, desc=progress, unit="image", disable=progress is None) as bar:
            for results in in_order(work, _batches(iter(found), batch_size), threads, alone):
                for one in results:
                    if not isinstance(one, ImageError):
                        yield one
                    elif on_bad is None:
                        raise one
                    else:
                        on_bad(one)
                bar.update(len(results))

    def _framed(self, sample: Sample, max_pixels: int) -> Framed | ImageError:
        try:
            return self._placed(load(sample, max_pixels))
        except ImageError as error:  # it cannot be read, or its values are not what the recipe says
            return error.at(sample.image)

    def _placed(self, loaded: Loaded) -> Framed:
        frames = [self.frame(loaded.pixels.shape[:2], scale) for scale in self.recipe.scales]
        return Framed(loaded, frames, self._images(loaded, frames))

    def embedded(self, loaded: Loaded) -> Embedded:
        """An image that has been read; of an ensemble, by its first member."""
        return next(Embedder._embed(self, [Embedder._placed(self, loaded)]))

    def frame(self, source: tuple[int, ...], scale: float = 1.0) -> Frame:
        """Where an image of (height, width) lies in the network's input, at one of the scales."""
        recipe, (height, width) = self.recipe, source
        h, w = (max(1, round(side * scale / self.cell)) * self.cell for side in recipe.window)
        window = recipe.window if scale == 1 else (h, w)
        if recipe.resize == "stretch":
            return Frame((height, width), window, window)
        if recipe.resize == "area":
            return resize.area_frame((height, width), window, self.cell)
        if recipe.resize == "letterbox":
            return resize.letterbox_frame((height, width), window, self.cell)
        assert isinstance(recipe.size, int)  # the recipe has checked it
        short = round(recipe.size * scale)
        return resize.short_side_frame((height, width), short, window if recipe.crop else None, self.cell)

    @torch.inference_mode()
    def _embed(self, framed: list[Framed]) -> Iterator[Embedded]:
        for _, run in groupby(framed, lambda one: [frame.window for frame in one.frames]):
            batch, begin = list(run), time.perf_counter()
            taps: list[list[Tensor]] = [[] for _ in batch]  # of each image, (1, C, h, w) each
            for scale in range(len(self.recipe.scales)):
                for tap in taps_of(self.engine, torch.stack([one.images[scale] for one in batch]), self.recipe.tiles):
                    for own, one, values in zip(taps, batch, tap.split(1), strict=True):
                        own.append(_without_padding(values, one.frames[scale]))
            embeddings = [self._merge(own) for own in taps]
            seconds = (time.perf_counter() - begin) / len(batch)
            for one, values in zip(batch, embeddings, strict=True):
                grid = (values.shape[2], values.shape[3])
                yield Embedded(one.loaded, one.frames[0], patches_of(values), grid, seconds)

    def _merge(self, taps: list[Tensor]) -> Tensor:
        recipe = self.recipe
        return embed(
            taps,
            pool=recipe.pool,
            merge=recipe.merge,
            align_mode=recipe.align,
            patch_size=recipe.patch_size,
            stride=recipe.patch_stride,
            border=recipe.pool_border,
            tap_bins=recipe.tap_bins,
            bins=recipe.bins,
        )

    def _images(self, loaded: Loaded, frames: list[Frame]) -> list[Tensor]:
        """One image as the network wants it, (3, H, W), once for each scale."""
        image = to_tensor(loaded.pixels, loaded.sample.name, self.recipe.value_range).to(self.device)
        placed = [resize.place(image, frame, self._kernel) for frame in frames]
        if self.recipe.exposure == "even":
            placed = [even(one) for one in placed]
        return [resize.pad((one - self._mean) / self._std, f) for one, f in zip(placed, frames, strict=True)]


def _batches(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while batch := list(islice(samples, size)):
        yield batch


def _without_padding(tap: Tensor, frame: Frame) -> Tensor:
    """Cut a tap (1, C, h, w) to the cells that show image."""
    h, w = (
        side * inside // window for side, inside, window in zip(tap.shape[-2:], frame.inside, frame.window, strict=True)
    )
    return tap[..., :h, :w]
