"""The position of an image in the network's input, for images whose size is known only when the graph runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from patchcore.export.capturing import as_size, constant
from patchcore.maths import joining, maps, resize
from patchcore.maths.resize import Kernel
from patchcore.maths.sizes import Size, Whole, is_open, whole
from patchcore.pipeline.embed import Embedder

LARGEST_CELLS = 4096  # bound for `torch.export`: cells along a side of the window, if it depends on the image
LARGEST_PIXELS = 1 << 20  # bound for `torch.export`: pixels along a resized side

resize_matrix = constant(resize.resize_matrix)
window_matrix = constant(maps.window_matrix)
join_matrix = constant(joining.join_matrix)


@constant
def side_matrix(image: tuple[Any, ...], window: tuple[Any, ...]) -> Tensor:
    """`maths.maps.side_matrix`, from the arguments of `image_matrix` and `window_matrix`."""
    return maps.image_matrix(*image) @ window_matrix(*window)


@dataclass(frozen=True)
class Side:
    """One side of a frame (see `maths.resize.Frame`), in pixels."""

    source: Size
    resized: Size
    window: Size
    inside: Size
    offset: Whole = 0

    @property
    def padded(self) -> bool:
        """Whether the window may be larger than the image in it."""
        return self.window is not self.inside

    @property
    def shown(self) -> Tensor:
        """Which pixels of the window show the image."""
        return torch.arange(self.window) < self.inside

    def matrix(self, kernel: Kernel) -> Tensor:
        """The matrix (window, source) from the image to the window, including padding."""
        rows = resize_matrix(self.source, self.resized, kernel, -self.offset, self.window)
        return torch.where(self.shown[:, None], rows, 0.0) if self.padded else rows


def sides_of(embedder: Embedder, source: tuple[Size, Size], scale: float) -> tuple[Side, Side]:
    """`Embedder.frame` for images of (height, width) at one scale."""
    given = tuple(map(whole, source)) if is_open(source) else source
    frame = embedder.frame(cast("tuple[int, int]", given), scale)
    rows, columns = (
        _side(*side, embedder.cell) for side in zip(source, frame.resized, frame.window, frame.offset, strict=True)
    )
    return rows, columns


def _side(source: Size, resized: Whole, window: Whole, offset: Whole, cell: int) -> Side:
    if isinstance(resized, Tensor):
        if isinstance(window, Tensor):  # the whole image, in whole cells
            size = as_size(resized // cell, LARGEST_CELLS) * cell
            return Side(source, size, size, size)
        if isinstance(offset, Tensor):  # a crop
            size = as_size(resized, LARGEST_PIXELS)
            torch._check(size >= window)
            return Side(source, size, window, window, offset)
        size = as_size(resized // cell, window // cell) * cell  # a letterbox
        return Side(source, size, window, size)
    assert isinstance(window, int | torch.SymInt)
    assert isinstance(offset, int | torch.SymInt)
    inside = min(window, resized + offset)
    return Side(source, resized, window, window if inside == window else inside, offset)
