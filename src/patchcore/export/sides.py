"""Linear steps along one side of an image, for sizes that are known only when the graph runs.

The same matrices as in `maths/resize.py`, `maths/maps.py` and `maths/joining.py`, from whole numbers in
float32: an exported graph has no float64 on every engine. Positions are compared as whole multiples
of half a pixel, which are exact, before anything is divided.

A `Size` is a number of pixels or cells: an int, or what `torch.export` makes of a dynamic one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from functools import wraps
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from patchcore.maths.maps import Border, Upsample
from patchcore.maths.resize import Kernel

F = TypeVar("F", bound=Callable[..., Tensor])
Size: TypeAlias = "int | torch.SymInt"
Place: TypeAlias = "Size | Tensor"  # a size that no shape depends on may stay a tensor


_constants: ContextVar[dict[Any, Tensor] | None] = ContextVar("constants", default=None)


@contextmanager
def constants() -> Iterator[None]:
    """Matrices whose sizes are all known are computed by the first pass in here, and are constants of later ones.

    So a graph that is captured after one pass holds the matrix, and not the steps to it.
    """
    token = _constants.set({})
    try:
        yield
    finally:
        _constants.reset(token)


def _constant(function: F) -> F:
    @wraps(function)
    def call(*sizes: Any) -> Tensor:
        known = _constants.get()
        if known is None or _is_open(sizes):
            return function(*sizes)
        key = (function.__name__, *sizes)
        if torch.compiler.is_exporting():
            return known[key] if key in known else function(*sizes)
        return known.setdefault(key, function(*sizes))

    return cast(F, call)


def _is_open(size: Any) -> bool:
    """Whether a size is known only when the graph runs."""
    return isinstance(size, Tensor | torch.SymInt) or (isinstance(size, tuple) and any(map(_is_open, size)))


def as_tensor(size: Place) -> Tensor:
    """A size as a whole number (), int64, that the graph computes with."""
    return size if isinstance(size, Tensor) else torch.scalar_tensor(size, dtype=torch.int64)


def as_size(value: Tensor, largest: int) -> Size:
    """A computed size that shapes may depend on, from 1 to `largest`."""
    size = value.item()
    assert isinstance(size, int | torch.SymInt)
    torch._check(size >= 1)
    torch._check(size <= largest)
    return size


def divided(a: Tensor, b: Tensor) -> Tensor:
    """floor(a / b) of whole numbers that are not negative.

    OpenVINO divides whole numbers as floats, and may say 255 for 30976 / 121: what is left says so.
    """
    quotient = torch.div(a, b, rounding_mode="trunc")
    left = a - quotient * b
    return quotient + (left >= b).long() - (left < 0).long()


def remainder(a: Tensor, b: Tensor) -> Tensor:
    """What `divided` leaves."""
    return a - divided(a, b) * b


def rounded(numerator: Tensor, denominator: Tensor) -> Tensor:
    """round(numerator / denominator), halves up, at least 1 (see `maths.resize.cells`)."""
    return divided(2 * numerator + denominator, 2 * denominator).clamp(min=1)


def rounded_root(share: Fraction, numerator: Tensor, denominator: Tensor) -> Tensor:
    """round(sqrt(share * numerator / denominator)), halves up, at least 1 (see `maths.resize.area_cells`).

    float32 has the square root of a whole number below 2**23 on the right side of every whole number.
    """
    share *= 4
    quotient = divided(share.numerator * numerator, share.denominator * denominator)
    return divided(quotient.float().sqrt().floor().long() + 1, torch.scalar_tensor(2, dtype=torch.int64)).clamp(min=1)


@_constant
def resize_rows(n_in: Size, n_out: Place, kernel: Kernel, start: Place = 0, count: Size | None = None) -> Tensor:
    """`count` rows from `start` of `resize_matrix(n_in, n_out, kernel)`: (count, n_in), float32."""
    n, out = as_tensor(n_in), as_tensor(n_out)
    wanted = n_out if count is None else count
    assert not isinstance(wanted, Tensor)
    rows = torch.arange(wanted, dtype=torch.int64) + start
    pixels = torch.arange(n_in, dtype=torch.int64)
    apart = ((2 * pixels + 1)[None] * out - ((2 * rows + 1) * n)[:, None]).abs()
    x = apart.float() / (2 * torch.maximum(n, out)).float()
    if kernel == "bilinear":
        weights = (1 - x).clamp(min=0)
    else:
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)


def upsample(n_in: Size, n_out: Size, mode: Upsample) -> Tensor:
    """`maths.maps.upsample_matrix`: (n_out, n_in)."""
    if mode == "bilinear":
        return resize_rows(n_in, n_out, "bilinear")
    source = divided(torch.arange(n_out, dtype=torch.int64) * as_tensor(n_in), as_tensor(n_out))
    return (source[:, None] == torch.arange(n_in, dtype=torch.int64)[None]).float()


def gaussian(n: Size, sigma: float, border: Border, least: int) -> Tensor:
    """`maths.maps.gaussian_matrix`: (n, n), for n >= `least`, which says how often reflections repeat."""
    index = torch.arange(n, dtype=torch.int64)
    if sigma == 0:
        return (index[:, None] == index[None]).float()
    radius = int(4 * sigma + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(radius + 1, dtype=torch.float64) / sigma) ** 2)
    kernel = torch.cat([kernel / (2 * kernel.sum() - 1), torch.zeros(1)]).float()  # the last: farther away
    size, matrix = as_tensor(n), torch.zeros(())
    period, mirrored = (2 * size, -1 - index) if border == "symmetric" else (2 * size - 2, -index)
    shortest = 2 * least if border == "symmetric" else 2 * least - 2
    repeats = math.ceil((radius + least) / max(1, shortest))
    for repeat in range(-repeats, repeats + 1):
        for images in (index, mirrored):
            far = (images[None] + repeat * period - index[:, None]).abs()
            weights = kernel[far.clamp(max=radius + 1)]
            if border == "mirror" and images is mirrored:  # the outermost pixels are their own reflections
                outermost = (index == 0) | (index == size - 1)
                weights = torch.where(outermost[None], 0.0, weights)
            matrix = matrix + weights
    return matrix


def back_rows(resized: Size, source: Size, start: Place, inside: Size, cut: bool) -> Tensor:
    """From `inside` pixels of the window to all of the image: (source, inside); NaN where it does not show."""
    back = resize_rows(resized, source, "bilinear")
    if not cut:
        return back
    back = back.index_select(1, torch.arange(inside, dtype=torch.int64) + start)
    shown = back.sum(1, keepdim=True)
    return torch.where(shown > 0.501, back / shown, torch.nan)


@_constant
def to_window(cells: Size, inside: Size, least: int, sigma: float, mode: Upsample, border: Border) -> Tensor:
    """From the grid to smoothed pixels of the window: (inside, cells)."""
    return gaussian(inside, sigma, border, least) @ upsample(cells, inside, mode)


@_constant
def to_image(window: tuple[Any, ...], back: tuple[Any, ...]) -> Tensor:
    """`maths.maps.side_matrix`, from the arguments of `to_window` and of `back_rows`: (source, cells)."""
    return back_rows(*back) @ to_window(*window)


@_constant
def join_rows(source: tuple[Size, Size, Place, Place], target: tuple[Size, Size, Place, Place]) -> Tensor:
    """`maths.joining.side_matrix`: (target cells, source cells), linear interpolation through the image.

    `source`, `target`: cells, pixels they cover, pixels of the whole image, and of those before the first.
    """
    cells, inside, resized, start = target
    step = as_tensor(inside).float() / as_tensor(cells).float()
    position = (torch.arange(cells).float() + 0.5) * step + as_tensor(start).float()  # pixels of the target's image
    own_cells, own_inside, own_resized, own_start = source
    zoom = as_tensor(own_resized).float() / as_tensor(resized).float()
    pitch = as_tensor(own_inside).float() / as_tensor(own_cells).float()
    centres = (position * zoom - as_tensor(own_start).float()) / pitch
    stretch = (step * zoom / pitch).clamp(min=1)
    apart = (centres[:, None] - torch.arange(own_cells).float()[None] - 0.5).abs() / stretch
    weights = (1 - apart).clamp(min=0)
    shown = (centres > -1e-4) & (centres < as_tensor(own_cells).float() + 1e-4)
    weights = torch.where(shown[:, None], weights, 0.0)
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-9)
