"""Joining scores of several banks: each lands on the place of the image that it is about."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchcore.maths.joining import join, side_matrix
from patchcore.maths.resize import Frame, resize_matrix

WHOLE = Frame((100, 100), (64, 64), (64, 64))


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape).astype(np.float32))


def test_scores_on_one_grid_are_averaged_in_their_units():
    first, second = noise(8, 8), noise(8, 8, seed=1)
    joined = join([first, second], [WHOLE, WHOLE], [2.0, 0.5])
    np.testing.assert_allclose(joined, (first.numpy() / 2 + second.numpy() / 0.5) / 2, rtol=1e-6)


def test_one_alone_is_only_divided_by_its_unit():
    assert torch.equal(join([noise(5, 7)], [WHOLE], [4.0]), noise(5, 7) / 4)


@given(st.integers(1, 40), st.integers(1, 40))
def test_where_both_show_the_whole_image_it_is_the_antialiased_resize(cells, target):
    matrix = side_matrix((cells, 8 * cells, 8 * cells, 0), (target, 16 * target, 16 * target, 0))
    np.testing.assert_allclose(matrix, resize_matrix(cells, target, "bilinear"), atol=1e-6)


def test_a_coarser_grid_is_brought_to_the_first_one():
    coarse = torch.tensor([[0.0, 4.0]]).expand(2, 2)
    joined = join([torch.zeros(4, 4), coarse], [WHOLE, WHOLE], [1.0, 1.0])
    np.testing.assert_allclose(joined, np.tile([0, 0.5, 1.5, 2], (4, 1)), atol=1e-6)  # 0, 1, 3, 4, halved


def test_a_spot_stays_where_it_is_in_the_image_whatever_the_frames():
    # The same spot of one image, seen by four ways to frame it, each on its own grid.
    source, spot = (120, 180), (0.6, 0.4)  # shares of height and width
    frames = [
        Frame(source, (96, 144), (96, 144)),  # whole, proportions kept
        Frame(source, (64, 64), (64, 64)),  # squashed
        Frame(source, (80, 120), (128, 128)),  # letterbox: padded below and to the right
        Frame(source, (80, 120), (64, 64), (-8, -28)),  # the centre
    ]
    scores = []
    for frame in frames:
        h, w = (side // 4 for side in frame.inside)
        values = torch.zeros(h, w)
        row, column = ((share * side + off) / 4 for share, side, off in zip(spot, frame.resized, frame.offset))  # noqa: B905
        values[int(row), int(column)] = 1
        scores.append(values)
    for first in range(len(frames)):
        order = [first, *(i for i in range(len(frames)) if i != first)]
        joined = join([scores[i] for i in order], [frames[i] for i in order], [1.0] * len(frames))
        assert joined.argmax() == scores[first].argmax()


def test_what_only_the_first_shows_is_its_own_score():
    first, second = Frame((64, 64), (64, 64), (64, 64)), Frame((64, 64), (64, 64), (32, 32), (-16, -16))
    joined = join([torch.full((8, 8), 2.0), torch.full((4, 4), 6.0)], [first, second], [1.0, 1.0])
    expected = np.full((8, 8), 2.0)
    expected[2:6, 2:6] = 4
    np.testing.assert_allclose(joined, expected, atol=1e-6)


def test_a_crop_first_takes_of_the_others_what_it_shows():
    whole, crop = Frame((64, 64), (64, 64), (64, 64)), Frame((64, 64), (64, 64), (32, 32), (-16, -16))
    values = noise(8, 8)
    joined = join([torch.zeros(4, 4), values], [crop, whole], [1.0, 1.0])
    np.testing.assert_allclose(joined, values[2:6, 2:6].numpy() / 2, rtol=1e-5)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 30), st.integers(0, 30))
def test_rows_are_means_or_nothing(cells, target, cut, other_cut):
    matrix = side_matrix((cells, 64 - cut, 64, -cut), (target, 64 - other_cut, 64, -other_cut))
    sums = matrix.sum(1)
    assert matrix.min() >= 0
    assert all(s == pytest.approx(1, abs=1e-5) or s == 0 for s in sums.tolist())
