"""Cells of the grid in the image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchcore.maths.maps import anomaly_map
from patchcore.maths.resize import Frame, area_frame, cell_box, letterbox_frame, short_side_frame

sides = st.integers(40, 300)


@given(sides, sides, st.sampled_from(["area", "crop", "letterbox"]), st.data())
def test_the_map_of_one_hot_cell_is_hottest_in_its_box(height, width, kind, data):
    frame = {
        "area": lambda: area_frame((height, width), (64, 64), 8),
        "crop": lambda: short_side_frame((height, width), 72, (64, 64), 8),
        "letterbox": lambda: letterbox_frame((height, width), (64, 64), 8),
    }[kind]()
    grid = frame.inside[0] // 8, frame.inside[1] // 8
    cell = data.draw(st.integers(0, grid[0] - 1)), data.draw(st.integers(0, grid[1] - 1))
    scores = torch.zeros(grid)
    scores[cell] = 1
    values = anomaly_map(scores, frame, sigma=0.0, upsample="nearest", border="symmetric").numpy()
    hot = np.argwhere(np.nan_to_num(values) > 0.5)
    top, left, bottom, right = cell_box(cell, grid, frame)
    # To the pixel: those whose centres are inside.
    assert hot.min(0) + 0.5 == pytest.approx((top, left), abs=1.51)
    assert hot.max(0) + 0.5 == pytest.approx((bottom, right), abs=1.51)


def test_several_cells_reach_equally_far_to_all_sides():
    frame = Frame((100, 200), (50, 100), (50, 100))
    assert cell_box((2, 3), (5, 10), frame) == pytest.approx((40, 60, 60, 80))
    assert cell_box((2, 3), (5, 10), frame, 3) == pytest.approx((20, 40, 80, 100))
    assert cell_box((0, 0), (5, 10), frame, 3) == pytest.approx((-20, -20, 40, 40))


def test_a_crop_moves_the_cells():
    frame = Frame((100, 100), (50, 50), (40, 40), (-5, -5))
    assert cell_box((0, 0), (4, 4), frame) == pytest.approx((10, 10, 30, 30))
