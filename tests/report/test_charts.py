"""Numbers to coordinates."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from patchcore.report import charts

scores = st.lists(st.floats(0, 1e4, width=32), max_size=30)


@given(scores, scores, st.floats(0, 1e4) | st.just(math.nan))
@example([], [513.0], 512.9999999999982)
@example([1e-30], [0.0], 0.0)
def test_bars_are_shares_of_each_class_and_everything_is_in_the_plot(good, defective, threshold):
    if not good and not defective:
        return
    chart = charts.histogram(good, defective, threshold, "")
    left, top, right, bottom = chart.area.box
    low, high = chart.area.y_range
    unit = (bottom - top) / (high - low)  # of a share of 1
    for bars, found in ((chart.good, good), (chart.defective, defective)):
        assert sum(height for *_, height in bars) == pytest.approx(unit if found else 0, abs=0.3)
        for x, y, width, height in bars:
            assert left <= x < x + width <= right
            assert top - 0.1 <= y <= y + height <= bottom + 0.1
    assert all(y + height == pytest.approx(chart.axis, abs=0.02) for _, y, _, height in chart.good)
    assert all(y == pytest.approx(chart.axis, abs=0.02) for _, y, _, _ in chart.defective)
    if math.isnan(threshold):
        assert chart.threshold is None
    else:
        assert left < chart.threshold < right
    assert all(left <= at <= right for at, _ in chart.x_ticks)
    assert all(top <= at <= bottom for at, _ in chart.y_ticks)


def test_a_band_lies_between_both_thresholds_also_below_all_scores():
    chart = charts.histogram([5.0, 6.0], [9.0], 8.0, "", 2.0)
    left, _, right, _ = chart.area.box
    assert left < chart.lower < chart.threshold < right
    assert (chart.threshold - chart.lower) * 3 == pytest.approx(6 * float(chart.area.x(5.0) - chart.area.x(2.0)))
    assert charts.histogram([5.0], [], math.nan, "", 2.0).lower is None
    assert charts.histogram([5.0], [], 6.0, "").lower is None


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(3, 10))
def test_ticks_are_round_numbers_between_the_limits(low, width, most):
    ticks = charts.nice(low, low + width, most)
    assert 1 <= len(ticks) <= most + 1
    slack = 1e-9 * max(abs(low), width)
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)
    for step in np.diff(ticks):
        leading = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(leading - round_one) for round_one in (1, 2, 5, 10)) < 1e-3


def test_a_curve_is_cut_between_its_points():
    drawn = charts.curve("t", "x", "y", np.array([0, 0.2, 0.4, 1]), np.array([0, 0.5, 0.7, 1]), about="", x_high=0.3)
    points = [tuple(float(v) for v in point.split(",")) for point in drawn.points.split()]
    # The plot is 280 by 238 units, its corner at (46, 260).
    assert points == [(46, 260), (round(46 + 280 * 2 / 3, 1), 141), (326, round(260 - 238 * 0.6, 1))]


def test_a_long_curve_is_drawn_with_few_points():
    x = np.linspace(0, 1, 1_000_001)
    drawn = charts.curve("t", "x", "y", x, np.sqrt(x), about="")
    assert len(drawn.points) < 60_000
