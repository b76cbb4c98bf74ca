"""Appearance: what an image looks like as a whole, in five numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_LARGEST = 1_000_000  # pixels that are looked at in rows, and as many in columns; of a larger image others are left out
_FLOOR = 1e-4  # of contrast, so that an image without any has no sharpness
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Appearance(NamedTuple):
    """What an image looks like as a whole.

    Attributes:
        brightness: The mean of its grey values, from 0 to 1.
        contrast: Their standard deviation.
        sharpness: How far a pixel is from the mean of its two neighbours in a row or column, on average, as a share of
            the contrast: blur and compression change it, noise raises it, and light leaves it alone.
        across, down: Where its edges lie on average, as shares of width and height, each pixel's edge weighed by the
            square of its height: they move with the part.
    """

    brightness: float
    contrast: float
    sharpness: float
    across: float
    down: float


def appearance(image: Tensor) -> Appearance:
    """Of an image (C, H, W), C = 1 or 3, values from 0 to 1; rounded to six digits after the point."""
    step = -(-image.shape[1] * image.shape[2] // _LARGEST)
    rows = _grey(image[:, ::step])  # whole ones, so that neighbours stay neighbours
    columns = rows if step == 1 else _grey(image[:, :, ::step])
    lines = (rows, 1), (columns, 0)
    contrast = float(rows.std(dtype=np.float64))
    bends = [float(np.abs(np.diff(own, 2, axis)).mean(dtype=np.float64)) / 2 for own, axis in lines
             if own.shape[axis] > 2]  # fmt: skip
    sharpness = sum(bends) / max(1, len(bends)) / (contrast + _FLOOR)
    found = float(rows.mean(dtype=np.float64)), contrast, sharpness, *(_centre(*one) for one in lines)
    return Appearance(*(round(value, 6) for value in found))


def _grey(image: Tensor) -> NDArray[np.float32]:
    values = image.numpy()
    return values[0] if len(values) == 1 else np.tensordot(np.array(_LUMA, values.dtype), values, 1)


def _centre(grey: NDArray[np.float32], axis: int) -> float:
    """Where along an axis the squares of the steps lie on average, from 0 to 1; the middle without any."""
    weight = np.square(np.diff(grey, axis=axis)).sum(1 - axis, dtype=np.float64)
    total = float(weight.sum())
    return float((weight * np.arange(1, len(weight) + 1)).sum()) / total / grey.shape[axis] if total > 0 else 0.5
