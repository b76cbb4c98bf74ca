"""Tiles: the taps of images that are larger than what a network sees at once."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from patchcore.backbones.engines import Engine
from patchcore.errors import BackboneError
from patchcore.maths.tiling import Merged, Tiling, split

_AT_ONCE = 8  # tiles in one pass on a device; on a CPU one by one is faster, and takes the least memory


def taps_of(engine: Engine, images: Tensor, tiles: tuple[tuple[int, int], tuple[int, int]] | None) -> list[Tensor]:
    """The taps (B, C, h, w) of images (B, 3, H, W), read tile by tile and joined on their full grids.

    `tiles`: size of the tiles and their stride, in pixels, or None to read each image whole. Every
    side is a multiple of every tap's stride. Taps are joined and not embeddings, so that pooling and
    aligning, which come next, look across the tiles' borders. Errors: BackboneError.
    """
    if tiles is None:
        return engine(images)
    size = (images.shape[2], images.shape[3])
    tile, stride = (_within(sides, size) for sides in tiles)  # an image smaller than a tile is read whole
    tiling = Tiling(size, tile, stride)
    at_once = 1 if images.device.type == "cpu" else max(1, _AT_ONCE // len(images))
    source, joined = split(images, tiling), list[Merged]()
    while batch := list(islice(source, at_once)):
        taps = engine(torch.cat(batch))
        joined = joined or [Merged(tiling.in_cells(_cell(tap, tiling.tile))) for tap in taps]
        for tap, merged in zip(taps, joined, strict=True):
            for tile in tap.split(len(images)):
                merged.add(tile)
    return [merged.total() for merged in joined]


def _within(sides: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    return min(sides[0], size[0]), min(sides[1], size[1])


def _cell(tap: Tensor, tile: tuple[int, int]) -> int:
    """Pixels per cell of a tap."""
    h, w = tap.shape[-2:]
    cell = tile[0] // h
    if (h * cell, w * cell) != tile:
        raise BackboneError(
            f"A tile of {tile[0]} x {tile[1]} pixels gives a tap of {h} x {w} cells, which are no whole numbers of "
            "pixels, so tiles cannot be joined. Choose other taps, a `tile` of another size, or none."
        )
    return cell
