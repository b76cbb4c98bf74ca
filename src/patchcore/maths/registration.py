"""Registration: where the part of a reference image is in another image, by shift and angle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Kind = Literal["shift", "rigid"]
Grey: TypeAlias = NDArray[np.float32]  # (h, w)
Pair = tuple[int, int]
SIDE = 256  # pixels of the longer side of what is compared
_COARSE = 96  # the same, of what is searched first
_CORE = 0.6  # of each side: the middle of the image, which is searched for: shifts of up to a fifth are found
_ANGLES = range(-30, 31, 5)  # degrees; from the nearest one ECC finds the rest
_STEPS, _FINE, _SMOOTH = 60, 1e-5, 5  # of ECC: iterations, the gain at which it ends, pixels of its filter


Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Motion:
    """How the part lies in an image, compared with the reference. All sizes are (height, width).

    Attributes:
        source: The image's own size, in pixels.
        canvas: The size of the reference at the image's scale: what the network is shown.
        shift: Pixels of the image to the right and down, at its centre.
        angle: Degrees, counter-clockwise.
        residual: 1 - the correlation coefficient of the two grey images where both show something, after the motion:
            0 if they are the same up to brightness and contrast, 1 if they have nothing in common.
        found: Whether it was found: the residual is not above what good images had. Otherwise shift and angle are 0.
    """

    source: Pair
    canvas: Pair
    shift: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    residual: float = 0.0
    found: bool = True

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3): from points (x, y, 1) of the canvas to points of the image; a pixel has its centre at half integers.

        The canvas is turned about its centre, which comes to the image's centre, and shifted.
        """
        turn = _turn(self.angle)
        here, there = (np.array(size[::-1]) / 2 for size in (self.canvas, self.source))
        return np.hstack([turn, (there + self.shift - turn @ here)[:, None]])

    @cached_property
    def back(self) -> NDArray[np.float64]:
        """(2, 3): from the image to the canvas."""
        turn = self.matrix[:, :2].T
        return np.hstack([turn, -turn @ self.matrix[:, 2:]])

    def to_canvas(self, image: NDArray[Number]) -> NDArray[Number]:
        """An image (H, W, C) of any type as the canvas shows it; beyond its border, its outermost pixels."""
        return _moved(image, self.matrix, self.canvas)

    def to_image(self, values: NDArray[Number]) -> NDArray[Number]:
        """Values (h, w) on the canvas at the image's own place and size; beyond its border, its outermost ones."""
        return _moved(values, self.back, self.source)


def points(matrix: NDArray[Any], given: Any) -> NDArray[Any]:
    """Points (..., 2) through a matrix (2, 3)."""
    return np.asarray(given, dtype=float) @ matrix[:, :2].T + matrix[:, 2]


def _turn(angle: float) -> NDArray[Any]:
    """Counter-clockwise on an image, whose y axis points down: (2, 2)."""
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return np.array([[cosine, sine], [-sine, cosine]])


def _moved(image: NDArray[Any], matrix: NDArray[Any], size: Pair, beyond: bool = True) -> NDArray[Any]:
    """What an image has at `matrix` times each pixel of the result, whose size (h, w) is given; linear.

    `beyond`: its border goes on for ever; else there is 0.
    """
    import cv2

    centres = matrix.copy()  # OpenCV has the centre of a pixel at whole numbers
    centres[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    moved = cv2.warpAffine(
        np.ascontiguousarray(image), centres, size[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE if beyond else cv2.BORDER_CONSTANT,
    )  # fmt: skip
    return np.asarray(moved.reshape(*size, *image.shape[2:]))


def small(image: NDArray[Any], side: int = SIDE) -> NDArray[Any]:
    """An image (H, W, ...) with its longer side brought to so many pixels, if it is longer, by the means of areas."""
    return resized(image, small_size(image.shape[:2], side))


def small_size(size: Pair, side: int = SIDE) -> Pair:
    """The size (h, w) that `small` brings one to."""
    scale = min(1.0, side / max(size))
    height, width = (max(1, round(length * scale)) for length in size)
    return height, width


def resized(image: NDArray[Any], size: Pair) -> NDArray[Any]:
    """An image (H, W, ...) of any type brought to a size (h, w), by the means of areas."""
    import cv2

    if image.shape[:2] == size:
        return image
    found = cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(found.reshape(*size, *image.shape[2:]))


def canvas_of(source: Pair, reference: Pair) -> Pair:
    """The size of a canvas with the proportions of the reference and the area of an image; its own where they agree."""
    scale = math.sqrt(source[0] * source[1] / (reference[0] * reference[1]))
    height, width = (max(1, round(side * scale)) for side in reference)
    near = abs(height - source[0]) <= 0.01 * height and abs(width - source[1]) <= 0.01 * width
    return source if near else (height, width)


def register(grey: Grey, reference: Grey, kind: Kind) -> tuple[tuple[float, float], float, float]:
    """Shift (x, y) in pixels, angle in degrees and residual (see `Motion`) of an image against a reference.

    Both are (h, w), of one size. The middle of the image is searched for in the reference, turned by several angles if
    the kind is `rigid`; from the best place, ECC finds shift and angle to a fraction of a pixel (Evangelidis and
    Psarakis, PAMI 2008).
    """
    import cv2

    few, known = small(grey, _COARSE), small(reference, _COARSE)
    scale = np.array([grey.shape[1] / few.shape[1], grey.shape[0] / few.shape[0]])
    tried = []
    for turned in _ANGLES if kind == "rigid" else (0,):
        shift = _coarse_shift(few, known, turned)
        tried.append((_residual(few, known, _motion(shift, turned, known.shape)), shift, float(turned)))
    _, shift, angle = min(tried, key=_first)
    begin = _motion(shift * scale, angle, reference.shape)
    centred = begin.matrix.copy()
    centred[:, 2] += begin.matrix[:, :2] @ (0.5, 0.5) - 0.5
    how = cv2.MOTION_EUCLIDEAN if kind == "rigid" else cv2.MOTION_TRANSLATION
    ends = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, _FINE)
    everywhere = np.ones(reference.shape, np.uint8)
    try:
        _, fine = cv2.findTransformECC(reference, grey, centred.astype(np.float32), how, ends, everywhere, _SMOOTH)
    except cv2.error:  # it does not converge: they have little in common
        return (float(begin.shift[0]), float(begin.shift[1])), angle, _residual(grey, reference, begin)
    middle = np.array(reference.shape[::-1]) / 2 - 0.5
    x, y = points(np.asarray(fine, float), middle) - middle
    motion = _motion(np.array([x, y]), math.degrees(math.atan2(fine[0, 1], fine[0, 0])), reference.shape)
    return min(
        ((one.shift, one.angle, _residual(grey, reference, one)) for one in (motion, begin)), key=lambda one: one[2]
    )


def _first(one: tuple[float, NDArray[Any], float]) -> float:
    return one[0]


def _motion(shift: NDArray[Any], angle: float, size: tuple[int, ...]) -> Motion:
    return Motion((size[0], size[1]), (size[0], size[1]), (float(shift[0]), float(shift[1])), angle)


def _coarse_shift(grey: Grey, reference: Grey, angle: float) -> NDArray[Any]:
    """The shift (x, y) to whole pixels of an image that is turned by an angle."""
    import cv2

    straight = _motion(np.zeros(2), angle, grey.shape).to_canvas(grey)
    low = [round(side * (1 - _CORE) / 2) for side in grey.shape]
    core = straight[low[0] : grey.shape[0] - low[0], low[1] : grey.shape[1] - low[1]]
    found = cv2.matchTemplate(reference, np.ascontiguousarray(core), cv2.TM_CCOEFF_NORMED)
    row, column = divmod(int(np.nan_to_num(found, nan=-1, posinf=-1, neginf=-1).argmax()), found.shape[1])
    return np.asarray(_turn(angle) @ (low[1] - column, low[0] - row))


def _residual(grey: Grey, reference: Grey, motion: Motion) -> float:
    """See `Motion`; 1 where fewer than half of the pixels show something of both, or one of them is flat."""
    both = _moved(np.ones_like(grey), motion.matrix, motion.canvas, beyond=False) > 0.999
    if 2 * int(both.sum()) < both.size:
        return 1.0
    one, other = (values[both].astype(float) for values in (motion.to_canvas(grey), reference))
    one, other = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(one @ one) * float(other @ other))
    return 1 - float(one @ other) / scale if scale > 1e-9 else 1.0
