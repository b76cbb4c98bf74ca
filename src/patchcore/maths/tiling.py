"""Tiling: images larger than what a network sees at once, cut into tiles and put together again.

Tiles lie on a grid, `stride` apart. The last of a row or column is moved back until it ends where
the image ends, so that no tile looks beyond the image unless the image is smaller than a tile:
then zeros are added to its right and below it, and what comes of them is cut off again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from patchcore.errors import UsageError


@dataclass(frozen=True)
class Tiling:
    """Where the tiles of an image lie; all sizes are (height, width), in pixels or in cells of a grid."""

    size: tuple[int, int]  # of the image
    tile: tuple[int, int]
    stride: tuple[int, int]  # from one tile to the next; at most the tile's side

    def __post_init__(self) -> None:
        if not all(0 < step <= side for step, side in zip(self.stride, self.tile, strict=True)):
            raise UsageError(
                f"The stride of the tiles is {self.stride} and their size {self.tile}: expected a stride from 1 to "
                "the tile's side, or parts of the image would be left out."
            )

    @property
    def starts(self) -> tuple[list[int], list[int]]:
        """The first row of each row of tiles, and the first column of each column of tiles."""
        rows, columns = (_starts(*side) for side in zip(self.size, self.tile, self.stride, strict=True))
        return rows, columns

    @property
    def corners(self) -> list[tuple[int, int]]:
        """(top, left) of every tile, row by row."""
        rows, columns = self.starts
        return [(top, left) for top in rows for left in columns]

    def in_cells(self, cell: int) -> Tiling:
        """The same tiles on a grid of which each cell covers `cell` x `cell` pixels."""
        if any(side % cell for side in (*self.size, *self.tile, *self.stride)):
            raise UsageError(f"Tiles {self.tile}, {self.stride} apart, of {self.size}: not all multiples of {cell}.")
        (h, w), (tile_h, tile_w), (step_h, step_w) = self.size, self.tile, self.stride
        return Tiling((h // cell, w // cell), (tile_h // cell, tile_w // cell), (step_h // cell, step_w // cell))

    def weights(self) -> tuple[Tensor, Tensor]:
        """How much each tile counts: (tile rows, h) along the height, (tile columns, w) along the width.

        The weight of a tile's cell is the product of the two. It falls smoothly towards the tile's
        border, whose cells know least of what is around them: a squared sine (Hann) window, divided
        by the sum of those of all tiles there. So at each place of the image the weights sum to 1.
        """
        rows, columns = (
            _weights(starts, side, tile) for starts, side, tile in zip(self.starts, self.size, self.tile, strict=True)
        )
        return rows, columns


def split(images: Tensor, tiling: Tiling) -> Iterator[Tensor]:
    """The tiles (B, C, h, w) of images (B, C, H, W), in the order of `tiling.corners`."""
    if tuple(images.shape[-2:]) != tiling.size:
        raise UsageError(f"Images of {tuple(images.shape[-2:])} pixels; these tiles are for {tiling.size}.")
    beyond = [max(0, tile - side) for side, tile in zip(tiling.size, tiling.tile, strict=True)]
    padded = torch.nn.functional.pad(images, (0, beyond[1], 0, beyond[0])) if any(beyond) else images
    for top, left in tiling.corners:
        yield padded[..., top : top + tiling.tile[0], left : left + tiling.tile[1]]


def merge(tiles: Iterable[Tensor], tiling: Tiling) -> Tensor:
    """Tiles (B, C, h, w), in the order of `tiling.corners` -> their weighted mean (B, C, H, W).

    Where tiles overlap and agree, that is their value. They are taken one by one and not kept.
    """
    merged = Merged(tiling)
    for tile in tiles:
        merged.add(tile)
    return merged.total()


class Merged:
    """What `merge` gives, for tiles that come one by one."""

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling
        self._weights = tiling.weights()
        self._total: Tensor | None = None
        self._added = 0

    def add(self, tile: Tensor) -> None:
        """The next tile (B, C, h, w), in the order of `tiling.corners`."""
        tiling, (rows, columns) = self.tiling, self._weights
        if tuple(tile.shape[-2:]) != tiling.tile or self._added == len(rows) * len(columns):
            raise UsageError(
                f"Tile {self._added} has the size {tuple(tile.shape[-2:])}; expected {len(rows) * len(columns)} of "
                f"{tiling.tile}."
            )
        row, column = divmod(self._added, len(columns))
        (top, left), (height, width) = tiling.corners[self._added], tiling.size
        if self._total is None:
            self._total = tile.new_zeros(*tile.shape[:-2], height, width)
        place = self._total[..., top : top + tiling.tile[0], left : left + tiling.tile[1]]
        inside = tile[..., : place.shape[-2], : place.shape[-1]]
        weight = rows[row][:, None] * columns[column]
        place += inside * weight[: place.shape[-2], : place.shape[-1]].to(inside)
        self._added += 1

    def total(self) -> Tensor:
        """(B, C, H, W), when every tile has been added."""
        expected = len(self.tiling.corners)
        if self._total is None or self._added < expected:
            raise UsageError(f"{self._added} of {expected} tiles have come; the others are missing.")
        return self._total


def _starts(side: int, tile: int, stride: int) -> list[int]:
    last = max(0, side - tile)
    return [*range(0, last, stride), last]


def _weights(starts: list[int], side: int, tile: int) -> Tensor:
    """(tiles, tile): along one side, each tile's window over the sum of the windows at the same place."""
    window = torch.sin(math.pi * (torch.arange(tile, dtype=torch.float64) + 0.5) / tile).square()
    total = torch.zeros(max(side, tile), dtype=torch.float64)
    for start in starts:
        total[start : start + tile] += window
    return torch.stack([window / total[start : start + tile] for start in starts])
