"""Antialiased separable resize, and the frame that places an image in the network's input.

Every linear step along one side of an image is a matrix. Resizing is one product for the rows
and one for the columns, in float, so that any path and any exported graph can repeat it exactly.
(A resize that rounds to `uint8` between its two passes cannot be repeated by anything else.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from patchcore.maths.registration import Motion, points
from patchcore.maths.sizes import Size, Whole, half, precision, rounded, rounded_root, smallest, whole

Kernel = Literal["bilinear", "bicubic"]
Box = tuple[float, float, float, float]  # top, left, bottom, right

_BLOCK = 32  # output rows per product: few enough to skip most zeros, enough to fill the cores


def resize_matrix(n_in: Size, n_out: Size, kernel: Kernel, start: Whole = 0, count: Size | None = None) -> Tensor:
    """The (n_out, n_in) matrix that resizes one side of an image, rows summing to 1; of it, `count` rows from `start`.

    Pixel centres are at half integers. When shrinking, the kernel is stretched by the scale, which
    is what antialiasing means here; the weights are those of Pillow and of
    `torch.nn.functional.interpolate(antialias=True)` (bicubic with a = -0.5). Float32, on the CPU.
    """
    # Distances are whole multiples of half a pixel, of one grid and the other: exact until they are divided.
    n, out, dtype = whole(n_in), whole(n_out), precision(n_in, n_out, start)
    exact = torch.int64 if dtype == torch.float32 else dtype  # float32 holds whole numbers up to 2**24 only
    rows = ((2 * (torch.arange(n_out if count is None else count) + start) + 1) * n).to(exact)
    pixels = ((2 * torch.arange(n_in) + 1) * out).to(exact)
    x = (pixels - rows[:, None]).abs().to(dtype) / (2 * torch.maximum(n, out)).to(dtype)
    if kernel == "bilinear":
        weights = (1 - x).clamp(min=0)
    else:
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return (weights / weights.sum(1, keepdim=True)).float()


@lru_cache(maxsize=512)
@torch.inference_mode(False)  # what is cached must serve every caller
def _bands(n_in: int, n_out: int, kernel: Kernel) -> tuple[tuple[int, int, Tensor], ...]:
    """The rows of `resize_matrix` in blocks, each cut to the columns that are not all zero."""
    bands = []
    for block in resize_matrix(n_in, n_out, kernel).split(_BLOCK):
        columns = block.any(0).nonzero().flatten()
        low, high = int(columns[0]), int(columns[-1]) + 1
        bands.append((low, high, block[:, low:high].contiguous()))
    return tuple(bands)


def resize(image: Tensor, size: tuple[int, int], kernel: Kernel) -> Tensor:
    """Resize (..., H, W) to (..., *size), antialiased; float in, float out."""
    height, width = image.shape[-2:]
    if height != size[0]:
        bands = _bands(height, size[0], kernel)
        image = torch.cat([w.to(image) @ image[..., a:b, :] for a, b, w in bands], -2)
    if width != size[1]:
        bands = _bands(width, size[1], kernel)
        image = torch.cat([image[..., a:b] @ w.to(image).T for a, b, w in bands], -1)
    return image


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the network's input window; all sizes are (height, width) in pixels.

    The image of size `source` is resized to `resized`, and its top left corner is put at
    `offset`, never positive, in a window of size `window`. A negative offset means that the window
    cuts the image (a crop); a larger window is padded at its bottom and right (a letterbox).
    With a `motion`, what is resized is the canvas that the image was brought to.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    window: tuple[int, int]
    offset: tuple[int, int] = (0, 0)
    motion: Motion | None = None

    @property
    def canvas(self) -> tuple[int, int]:
        """Size of what is resized: of the image, or of the reference's canvas."""
        return self.source if self.motion is None else self.motion.canvas

    @property
    def inside(self) -> tuple[int, int]:
        """Height and width of the part of the window, from its top left, that shows image."""
        (top, left), (h, w), (height, width) = self.offset, self.resized, self.window
        return min(height, h + top), min(width, w + left)

    @property
    def coverage(self) -> float:
        """The share of the image's area that the window shows: 1 unless it was cropped."""
        return (self.inside[0] * self.inside[1]) / (self.resized[0] * self.resized[1])


def cell_box(cell: tuple[int, int], grid: tuple[int, int], frame: Frame, side: int = 1) -> Box:
    """Top, left, bottom, right of `side` x `side` cells around a cell (row, column), in pixels of the source image.

    The cells of the grid (h, w) cover what the frame's window shows of the image, as in `maps.side_matrix`. Near
    the border the box may reach beyond the image.
    """
    low, high = [], []
    for axis in (0, 1):
        pitch = frame.inside[axis] / grid[axis]
        back = frame.canvas[axis] / frame.resized[axis]
        centre = (cell[axis] + 0.5) * pitch - frame.offset[axis]
        low.append((centre - side * pitch / 2) * back)
        high.append((centre + side * pitch / 2) * back)
    box = low[0], low[1], high[0], high[1]
    return box if frame.motion is None else upright(frame.motion, box)


def upright(motion: Motion, box: Box) -> Box:
    """The upright box in an image around a box on its canvas, which may be turned."""
    top, left, bottom, right = box
    corners = points(motion.matrix, [(x, y) for y in (top, bottom) for x in (left, right)])
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    return top, left, bottom, right


def short_side_frame(source: tuple[int, int], short: int, crop: tuple[int, int] | None, multiple: int) -> Frame:
    """The shorter side brought to `short`, then the centre cut to `crop`.

    Without a crop the whole image is kept at its own proportions, each side rounded to a
    `multiple` of pixels, so that the network's grid has whole cells.
    """
    shorter = smallest(*source)
    if crop is None:
        h, w = (rounded(side * short, shorter * multiple) * multiple for side in source)
        return Frame(source, (h, w), (h, w))
    # The longer side is cut to whole pixels, as torchvision's Resize does; both families use it.
    h, w = (side * short // shorter for side in source)
    return Frame(source, (h, w), crop, (-half(h - crop[0]), -half(w - crop[1])))


def area_frame(source: tuple[int, int], size: tuple[int, int], multiple: int) -> Frame:
    """The whole image at its own proportions, with the area of `size`.

    Each side is rounded to a `multiple` of pixels. A square image fills a square `size` exactly;
    images of other shapes keep the scale of their details, and cost the same.
    """
    area, cell = size[0] * size[1], multiple * multiple
    common = math.gcd(area, cell)  # an engine may compute in 32 bits
    share, cells = area // common, cell // common
    h, w = (rounded_root(share * a, cells * b) * multiple for a, b in (source, source[::-1]))
    return Frame(source, (h, w), (h, w))


def letterbox_frame(source: tuple[int, int], size: tuple[int, int], multiple: int) -> Frame:
    """The whole image, as large as fits in `size`, at its own proportions.

    Each side is rounded to a `multiple` of pixels (the cell of the network's grid), so that no
    cell holds both image and padding: padding can then be left out exactly.
    """
    sides = list(zip(source, size, strict=True))
    h, w = (
        smallest(most, *(rounded(side * fits, own * multiple) * multiple for own, fits in sides))
        for side, most in sides
    )
    return Frame(source, (h, w), size)


def place(image: Tensor, frame: Frame, kernel: Kernel) -> Tensor:
    """Resize (..., H, W) and cut it to the part that the frame's window shows."""
    image = resize(image, frame.resized, kernel)
    top, left = -frame.offset[0], -frame.offset[1]
    return image[..., top : top + frame.inside[0], left : left + frame.inside[1]]


def pad(image: Tensor, frame: Frame) -> Tensor:
    """Fill the frame's window with zeros, to the right of what `place` gave and below it."""
    bottom, right = (side - shown for side, shown in zip(frame.window, frame.inside, strict=True))
    return torch.nn.functional.pad(image, (0, right, 0, bottom)) if bottom or right else image
