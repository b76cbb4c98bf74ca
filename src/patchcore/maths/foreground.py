"""Foreground: the part in front of an even background, and the outline of a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # which loads its parts when they are first used
from numpy.typing import NDArray

from patchcore.maths.polygons import Polygon

SIDE = 128  # pixels of the longer side of what is looked at
_RING, _CLEAR = 0.04, 0.75  # share of the sides that is the border; how well two groups explain all distances from it
_SEEN, _LEAST, _MOST = 0.95, 0.02, 0.9  # share of images that show a shared pixel; shares of the image that are a part
_ROOM = 0.02  # of the longer side, added around the part, so that its rim is inside
_FINE = 4  # pixels of a finer mask along one pixel, on which outlines run


def foreground(image: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The part (h, w) in an image (h, w, C) in [0, 1], without holes; None where none stands out from the border.

    The background has the median colour of the image's border. Otsu's threshold (1979) parts the distances from that
    colour in two; the part is what is farther, if the two groups explain enough of the distances' variance, and if
    most of the border is background.
    """
    height, width = image.shape[:2]
    edge = max(1, round(_RING * max(height, width)))
    border = np.ones((height, width), dtype=bool)
    border[edge:-edge, edge:-edge] = False
    distance = np.sqrt(np.square(image - np.median(image[border], 0)).sum(2))
    values = np.sort(distance.ravel().astype(float))
    sums, total = np.cumsum(values)[:-1], float(values.sum())
    count = np.arange(1, len(values))
    gap = sums / count - (total - sums) / (len(values) - count)
    between = count * (len(values) - count) * gap**2 / len(values) ** 2  # variance between the groups
    at, whole = int(between.argmax()), float(values.var())
    if whole < 1e-6 or between[at] < _CLEAR * whole:
        return None
    found = np.asarray(scipy.ndimage.binary_fill_holes(distance > (values[at] + values[at + 1]) / 2), dtype=bool)
    return found if found[border].mean() < 0.5 else None


def shared(masks: Sequence[NDArray[np.bool_] | None]) -> NDArray[np.bool_] | None:
    """The part that images share, with some room around it, from the foreground of each; None where there is none.

    A pixel is shared if nearly all images have it; what is shared is at least half of what an image has, and neither a
    speck of the image nor nearly all of it.
    """
    known = [one for one in masks if one is not None]
    if not known or len(known) < _SEEN * len(masks) or len({one.shape for one in known}) > 1:
        return None
    stack = np.stack(known)
    found = stack.mean(0) >= _SEEN
    size = float(found.mean())
    if not _LEAST <= size <= _MOST or size < 0.5 * float(np.median(stack.mean((1, 2)))):
        return None
    room = max(1, round(_ROOM * max(found.shape)))
    return np.asarray(scipy.ndimage.binary_dilation(found, iterations=room))


def outlines(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Polygons, in shares of width and height, that hold just the centres of the pixels of a mask (H, W).

    Each is a connected part with its holes as one ring: to a hole and back on the same line, which counts for nothing.
    """
    import cv2

    fine: NDArray[Any] = np.pad(mask.repeat(_FINE, 0).repeat(_FINE, 1), 1).view(np.uint8)
    lines, family = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array(mask.shape[::-1]) * _FINE
    rings = [(cv2.approxPolyDP(line, 1, True)[:, 0] - 0.5) / scale for line in lines]
    found = []
    for number, ring in enumerate(rings):
        if family[0, number, 3] >= 0:
            continue
        holes = [rings[n] for n in range(len(rings)) if family[0, n, 3] == number]
        path = [ring] if not holes else [ring, ring[:1], *(p for hole in holes for p in (hole, hole[:1], ring[:1]))]
        found.append(tuple((float(x), float(y)) for x, y in np.concatenate(path).clip(0, 1).round(6)))
    return sorted(found)
