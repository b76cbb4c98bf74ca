"""Regions: the connected parts of a defect, measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # which loads its parts when they are first used
from numpy.typing import NDArray

_ROUNDING = 1e-6  # of pixels that were millimetres


@dataclass(frozen=True)
class Region:
    """A connected part of the defect of an image that fails.

    Attributes:
        number: From 1, which has the highest peak; as on the overlay.
        box: Left, top, width and height, in pixels.
        polygons: Outlines, points (x, y) in pixels from the image's top left corner, exact to half a pixel, holes
            filled; several where parts are joined by `region_gap`.
        peak: The highest value of the map.
        area: Of its pixels, without holes, in `unit` squared.
        length, width: Sides of the smallest rectangle around it, at any angle, in `unit`.
        unit: `mm` if the recipe has `mm_per_pixel`, otherwise `px`.
    """

    number: int
    box: tuple[int, int, int, int]
    polygons: tuple[tuple[tuple[float, float], ...], ...]
    peak: float
    area: float
    length: float
    width: float
    unit: str = "px"


def labelled(mask: NDArray[np.bool_], gap: float = 0) -> NDArray[np.int32]:
    """The region, from 1, that each pixel (H, W) is in: sides are shared, or fewer than `gap` pixels lie between."""
    labels, count = scipy.ndimage.label(mask)
    pairs, reach = [(0, 0)], math.ceil(gap) + 1
    for label, place in enumerate(scipy.ndimage.find_objects(labels) if gap else (), 1):
        window = labels[tuple(slice(max(0, side.start - reach), side.stop + reach) for side in place)]
        near = window[scipy.ndimage.distance_transform_edt(window != label) < gap + 1 - _ROUNDING]
        pairs += [(label, other) for other in np.unique(near[near > 0])]
    if len(pairs) <= count + 1:  # each is near itself
        return np.asarray(labels)
    graph = scipy.sparse.coo_array((np.ones(len(pairs)), tuple(np.transpose(pairs))))
    return np.asarray(scipy.sparse.csgraph.connected_components(graph, directed=False)[1][labels])


def large(mask: NDArray[np.bool_], anomaly_map: NDArray[Any], least: float, gap: float) -> NDArray[np.bool_]:
    """The mask without regions of fewer than `least` pixels, but with that of the highest peak whatever its size."""
    labels = labelled(mask, gap)
    kept = np.bincount(labels.ravel()) >= least - _ROUNDING
    kept[labels.flat[np.where(mask, anomaly_map, -np.inf).argmax()]] = True
    kept[0] = False
    return np.asarray(kept[labels])


def measured(mask: NDArray[np.bool_], anomaly_map: NDArray[Any], gap: float, mm: float | None) -> tuple[Region, ...]:
    """The regions of a mask (H, W), that with the highest peak first. `mm`: the side of a pixel."""
    import cv2

    found, side, unit, labels = list[Region](), mm or 1.0, "mm" if mm else "px", labelled(mask, gap)
    places = scipy.ndimage.find_objects(labels)
    peaks = [float(anomaly_map[place][labels[place] == label].max()) for label, place in enumerate(places, 1)]
    for at in np.argsort(np.negative(peaks), kind="stable"):
        rows, columns = places[at]
        own, origin = labels[rows, columns] == at + 1, (2 * columns.start, 2 * rows.start)
        fine = np.pad(own.repeat(2, 0).repeat(2, 1), 1).view(np.uint8)  # half pixels: what is apart stays apart
        corners = fine[1:, 1:] | fine[1:, :-1] | fine[:-1, 1:] | fine[:-1, :-1]
        outlines, _ = cv2.findContours(corners, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=origin)
        lines = [(cv2.approxPolyDP(outline, 1, True)[:, 0] / 2).tolist() for outline in outlines]
        polygons = tuple(tuple((x, y) for x, y in line) for line in lines)
        width, length = (side / 2 * value for value in sorted(cv2.minAreaRect(np.concatenate(outlines))[1]))
        box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        area = float(own.sum() * side**2)
        found.append(Region(len(found) + 1, box, polygons, peaks[at], area, length, width, unit))
    return tuple(found)
