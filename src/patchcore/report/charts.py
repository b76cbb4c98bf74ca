"""Charts: the coordinates that `charts.html` draws, in units of a chart's view box, from its top left corner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Tick = tuple[float, str]  # position and label
LEFT, TOP, BOTTOM = 46.0, 22.0, 40.0  # margins around the plot
_BINS = 32


@dataclass(frozen=True)
class Area:
    """The plot area: the view box without its margins, and the values at its sides."""

    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return LEFT, TOP, self.width - 14, self.height - BOTTOM

    def x(self, values: Any) -> Any:
        left, _, right, _ = self.box
        low, high = self.x_range
        return left + (np.asarray(values, float) - low) / (high - low) * (right - left)

    def y(self, values: Any) -> Any:
        _, top, _, bottom = self.box
        low, high = self.y_range
        return bottom - (np.asarray(values, float) - low) / (high - low) * (bottom - top)


@dataclass(frozen=True)
class Curve:
    """A line in an area, with a point for the detector's threshold."""

    title: str
    x_label: str
    y_label: str
    about: str  # text for screen readers
    area: Area
    points: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    chance: str = ""
    marker: tuple[float, float] | None = None
    limits: tuple[Tick, ...] = ()


def curve(
    title: str,
    x_label: str,
    y_label: str,
    x: Floats,
    y: Floats,
    *,
    about: str,
    chance: tuple[Floats, Floats] | None = None,
    marker: tuple[float, float] | None = None,
    x_high: float = 1.0,
    limits: Sequence[float] = (),
) -> Curve:
    """A curve of rates, cut at `x_high`, where its last point is interpolated."""
    area = Area(340, 300, (0.0, x_high), (0.0, 1.0))
    inside = np.asarray(x) <= x_high
    if not inside.all():  # false positive rates only grow
        y = np.append(np.asarray(y)[inside], np.interp(x_high, x, y))
        x = np.append(np.asarray(x)[inside], x_high)
    return Curve(
        title,
        x_label,
        y_label,
        about,
        area,
        _points(area, x, y),
        [(float(area.x(at)), f"{at:g}") for at in nice(0, x_high, 6)],
        [(float(area.y(at)), f"{at:g}") for at in nice(0, 1, 6)],
        _points(area, *chance) if chance else "",
        (float(area.x(marker[0])), float(area.y(marker[1]))) if marker else None,
        tuple((float(area.x(at)), f"{at:g}") for at in limits),
    )


def _points(area: Area, x: Floats, y: Floats) -> str:
    """The points of a line, rounded to 0.1 units, without consecutive equal points."""
    points = np.stack([area.x(x), area.y(y)], 1).round(1)
    moved = np.append(True, (np.diff(points, axis=0) != 0).any(1))
    return " ".join(f"{left:g},{top:g}" for left, top in points[moved])


@dataclass(frozen=True)
class Histogram:
    """Bars of good images upwards and of defective images downwards, on a common axis of scores."""

    about: str
    area: Area
    good: list[tuple[float, float, float, float]]  # x, y, width, height
    defective: list[tuple[float, float, float, float]]
    axis: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    threshold: float | None
    lower: float | None  # where verdicts begin to be unsure, if they are


def histogram(
    good: Sequence[float], defective: Sequence[float], threshold: float, about: str, lower: float | None = None
) -> Histogram:
    """The share of each class per bin of scores; the range includes both thresholds. Needs at least one score.

    `lower`: the score up to which an image passes, where that is not the threshold.
    """
    limits = [] if math.isnan(threshold) else [threshold, threshold if lower is None else lower]
    values = [*good, *defective, *limits]
    low, high = min(values), max(values)
    alike = high - low <= 1e-6 * abs(high) + 1e-9  # too close for distinct bins and ticks
    pad = 0.5 * max(abs(high), 1e-3) if alike else 0.02 * (high - low)
    edges = np.linspace(low - pad, high + pad, _BINS + 1)
    up, down = (np.histogram(scores, edges)[0] / max(len(scores), 1) for scores in (good, defective))
    top = 1.06 * max(up.max(), down.max())
    area = Area(520, 320, (edges[0], edges[-1]), (-top if defective else 0.0, top if good else 0.0))
    axis, lefts = float(area.y(0)), area.x(edges)
    width = float(lefts[1] - lefts[0])

    def bars(shares: Floats) -> list[tuple[float, float, float, float]]:
        return [
            (round(float(left) + 0.75, 2), round(min(axis, end), 2), round(width - 1.5, 2), round(abs(axis - end), 2))
            for left, end, share in zip(lefts, area.y(shares).tolist(), shares, strict=False)
            if share
        ]

    shares = [at for at in nice(-top, top, 7) if area.y_range[0] <= at <= area.y_range[1]]
    return Histogram(
        about,
        area,
        bars(up),
        bars(-down),
        axis,
        [(float(area.x(at)), f"{at:.6g}") for at in nice(edges[0], edges[-1], 7)],
        [(float(area.y(at)), f"{abs(100 * at):.3g} %") for at in shares],
        None if math.isnan(threshold) else float(area.x(threshold)),
        None if lower is None or math.isnan(threshold) else float(area.x(lower)),
    )


def nice(low: float, high: float, most: int) -> list[float]:
    """About `most` round numbers between two limits, in equal steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= most)
    return [
        round(number * step, 12) for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
