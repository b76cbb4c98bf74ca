"""Embedder: pictures in, patches out, by a recipe and a backbone."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from patchcore.backbones import Backbone
from patchcore.data.datasets import Sample
from patchcore.data.images import to_tensor
from patchcore.data.loading import Loaded, OnBad, load
from patchcore.errors import PictureError, RecipeError
from patchcore.maths import resize
from patchcore.maths.embedding import embed, patches_of
from patchcore.maths.resize import Frame
from patchcore.recipe import Recipe


@dataclass(frozen=True)
class Embedded:
    """The patches (h*w, D) of one picture, row by row, on their grid (h, w)."""

    loaded: Loaded
    frame: Frame
    patches: Tensor
    grid: tuple[int, int]
    seconds: float  # of the network, the picture's share of its batch


@dataclass(frozen=True)
class _Framed:
    """A picture that waits for its batch: (3, H, W) as the network wants it."""

    loaded: Loaded
    frame: Frame
    image: Tensor


class Embedder:
    """Pictures in, patches out. Holds no state of its own but the network."""

    def __init__(self, recipe: Recipe, backbone: Backbone, device: torch.device) -> None:
        self.recipe = recipe
        self.backbone = backbone
        self.device = device
        backbone.extractor.to(device)
        source = backbone.source
        self._mean = torch.tensor(source.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(source.std, device=device).view(3, 1, 1)
        self._kernel = source.interpolation if recipe.interpolation == "weights" else recipe.interpolation
        # Sides without padding or crop are whole cells of every tap. A letterbox too pads in whole
        # cells, so that none of them shows picture and padding at once.
        self._cell = math.lcm(*backbone.extractor.strides)
        if recipe.resize == "letterbox" and any(side % self._cell for side in recipe.window):
            raise RecipeError(
                f"resize='letterbox' got size {recipe.size}; with these taps it must be a multiple of {self._cell}."
            )

    def stream(
        self,
        found: Iterable[Sample],
        *,
        batch_size: int,
        max_pixels: int,
        on_bad: OnBad | None = None,
        progress: str | None = None,
    ) -> Iterator[Embedded]:
        """Embed pictures in order; pictures that follow each other in the same frame share a batch.

        With a batch size of 1 no picture is asked for before the one before it is done.
        """
        total = len(found) if isinstance(found, list) else None
        ahead = 1 if batch_size == 1 else 2 * batch_size
        with tqdm(total=total, desc=progress, unit="picture", disable=progress is None) as bar:
            batch: list[_Framed] = []
            for loaded in load(found, ahead=ahead, max_pixels=max_pixels, on_bad=on_bad):
                frame = self.frame(loaded.pixels.shape[:2])
                if batch and frame.window != batch[0].frame.window:
                    yield from self._embed(batch)
                    bar.update(len(batch))
                    batch = []
                try:
                    batch.append(_Framed(loaded, frame, self._image(loaded, frame)))
                except PictureError as error:  # its values are not what the recipe says
                    if on_bad is None:
                        raise
                    on_bad(error)
                if len(batch) == batch_size:
                    yield from self._embed(batch)
                    bar.update(len(batch))
                    batch = []
            if batch:
                yield from self._embed(batch)
                bar.update(len(batch))

    def frame(self, source: tuple[int, ...]) -> Frame:
        """Where a picture of (height, width) lies in the network's input."""
        recipe, (height, width) = self.recipe, source
        if recipe.resize == "stretch":
            return resize.stretch_frame((height, width), recipe.window)
        if recipe.resize == "area":
            return resize.area_frame((height, width), recipe.window, self._cell)
        if recipe.resize == "letterbox":
            return resize.letterbox_frame((height, width), recipe.window, self._cell)
        crop = recipe.window if recipe.crop else None
        assert isinstance(recipe.size, int)  # the recipe has checked it
        return resize.short_side_frame((height, width), recipe.size, crop, self._cell)

    def _embed(self, batch: list[_Framed]) -> list[Embedded]:
        begin = time.perf_counter()
        with torch.inference_mode():
            taps = self.backbone.extractor(torch.stack([one.image for one in batch]))
            if any(one.frame.inside != one.frame.window for one in batch):
                embeddings = [self._merge(_without_padding(taps, n, one.frame)) for n, one in enumerate(batch)]
            else:
                embeddings = list(self._merge(taps).split(1))
        seconds = (time.perf_counter() - begin) / len(batch)
        return [
            Embedded(one.loaded, one.frame, patches_of(embedding), (embedding.shape[2], embedding.shape[3]), seconds)
            for one, embedding in zip(batch, embeddings, strict=True)
        ]

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

    def _image(self, loaded: Loaded, frame: Frame) -> Tensor:
        """One picture as the network wants it: (3, H, W)."""
        image = to_tensor(loaded.pixels, loaded.sample.name, self.recipe.value_range).to(self.device)
        image = resize.place(image, frame, self._kernel)
        return resize.pad((image - self._mean) / self._std, frame)


def _without_padding(taps: list[Tensor], number: int, frame: Frame) -> list[Tensor]:
    """The taps of one picture of a batch, (1, C, h, w) each, cut to the cells that show picture."""
    cut = []
    for tap in taps:
        h, w = (
            side * inside // window
            for side, inside, window in zip(tap.shape[-2:], frame.inside, frame.window, strict=True)
        )
        cut.append(tap[number : number + 1, :, :h, :w])
    return cut
