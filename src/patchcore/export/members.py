"""The part of a graph from raw pixels to patches, for one recipe."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchcore.backbones import Extractor
from patchcore.backbones.folding import folded
from patchcore.errors import UsageError
from patchcore.export.frames import Side, sides_of
from patchcore.export.network import Taps
from patchcore.maths import tiling
from patchcore.maths.embedding import average_bins, pool_mean, pool_quarters, pooled_channels, resampled
from patchcore.maths.exposure import even
from patchcore.memory.bank import Bank
from patchcore.pipeline.embed import Embedder


class Reader(nn.Module):
    """The backbone: from the window's pixels (B, 3, H, W) to the taps."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        extractor = embedder.engine if isinstance(embedder.engine, Extractor) else folded(embedder.backbone.extractor)
        self.network = Taps(extractor)
        self.tiles = embedder.recipe.tiles

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.tiles is None:
            return self.network(images)
        return self._in_tiles(images)

    def _in_tiles(self, images: Tensor) -> list[Tensor]:
        """As `backbones.engines.taps_of`; all tiles go through the network as one batch."""
        size = (images.shape[2], images.shape[3])
        assert self.tiles is not None
        if not all(isinstance(side, int) for side in size):
            raise UsageError(
                "The number of tiles would depend on the image, which a graph does not support. Give the images' size "
                "(--static H W), or fit with resize='stretch', 'letterbox' or a crop."
            )
        tile, stride = ((min(a, size[0]), min(b, size[1])) for a, b in self.tiles)
        tiles = tiling.Tiling(size, tile, stride)
        joined, batch = [], torch.cat(list(tiling.split(images, tiles)))
        for tap in self.network(batch):
            own = tap.unflatten(0, (len(tiles.corners), -1))
            joined.append(tiling.merge(own.unbind(), tiles.in_cells(tile[0] // int(tap.shape[2]))))
        return joined


class Embedding(nn.Module):
    """From pixels to patches: resize, normalise, taps, pool, align, merge, scale."""

    mean: Tensor
    std: Tensor
    scales: Tensor
    merging: Tensor

    def __init__(self, embedder: Embedder, bank: Bank) -> None:
        super().__init__()
        self.embedder = embedder
        source, recipe = embedder.backbone.source, embedder.recipe
        self.kernel = source.interpolation if recipe.interpolation == "weights" else recipe.interpolation
        self.register_buffer("mean", torch.tensor(source.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(source.std).view(3, 1, 1))
        self.register_buffer("scales", bank.scales.clone())
        self.taps = Reader(embedder)
        extractor = embedder.backbone.extractor
        self.strides = extractor.strides * len(recipe.scales)
        channels = extractor.channels * len(recipe.scales)
        if recipe.pool == "bins":
            area = recipe.patch_size**2
            for number, count in enumerate(channels):
                matrix = average_bins(torch.eye(count * area), recipe.tap_bins).T  # bins, C*p*p
                size = recipe.patch_size
                self.register_buffer(f"bins{number}", matrix.reshape(recipe.tap_bins, count, size, size).contiguous())
        if recipe.merge == "bins":
            stacked = sum(pooled_channels(channels, recipe.pool, recipe.tap_bins))
            self.register_buffer("merging", average_bins(torch.eye(stacked), recipe.bins).contiguous())

    def forward(self, pixels: Tensor) -> tuple[Tensor, tuple[Side, Side]]:
        """(B, C, H, W) in [0, 1] -> patches (B, h, w, D), and the frame."""
        recipe, source = self.embedder.recipe, (pixels.shape[2], pixels.shape[3])
        frames = [sides_of(self.embedder, source, scale) for scale in recipe.scales]
        taps: list[Tensor] = []
        for rows, columns in frames:
            for tap in self.taps(self._image(pixels, rows, columns)):
                stride = self.strides[len(taps)]
                taps.append(_without_padding(tap, rows, columns, stride))
        grid: Any = None
        pooled = []
        for number, tap in enumerate(taps):
            value = self._pool(tap, number)
            if grid is None:
                grid = (value.shape[2], value.shape[3])
            elif recipe.scales != (1.0,) or self.strides[number] != self.strides[0]:
                value = resampled(value, grid, recipe.align)
            pooled.append(value)
        stacked = torch.cat(pooled, 1).permute(0, 2, 3, 1)  # B, h, w, D
        if recipe.merge == "bins":
            stacked = stacked @ self.merging
        return stacked * self.scales, frames[0]

    def _image(self, pixels: Tensor, rows: Side, columns: Side) -> Tensor:
        image = rows.matrix(self.kernel) @ pixels @ columns.matrix(self.kernel).T
        image = image.index_select(
            1, torch.arange(3).clamp(max=pixels.shape[1] - 1)
        )  # grey: the same channel three times
        shown = rows.shown[:, None] & columns.shown
        if self.embedder.recipe.exposure == "even":
            image = even(image, shown)
        image = (image - self.mean) / self.std
        return torch.where(shown, image, 0.0) if rows.padded or columns.padded else image

    def _pool(self, tap: Tensor, number: int) -> Tensor:
        recipe = self.embedder.recipe
        if recipe.pool == "quarters" and number == 0:
            return pool_quarters(tap, recipe.patch_size, recipe.patch_stride)
        if recipe.pool != "bins":
            return pool_mean(tap, recipe.patch_size, recipe.patch_stride, recipe.pool_border)
        pad = (recipe.patch_size - 1) // 2
        return F.conv2d(tap, getattr(self, f"bins{number}"), stride=recipe.patch_stride, padding=pad)


def _without_padding(tap: Tensor, rows: Side, columns: Side, stride: int) -> Tensor:
    for axis, side in ((2, rows), (3, columns)):
        if side.padded:
            tap = tap.index_select(axis, torch.arange(side.inside // stride))
    return tap
