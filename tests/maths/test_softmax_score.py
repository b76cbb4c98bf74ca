"""The image score of anomalib before 0.3.7, against numbers worked out by hand and in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from patchcore.maths.softmax_score import softmax_score


def in_numpy(distances: np.ndarray) -> float:
    own = distances[distances[:, 0].argmax()].astype(np.float64)
    shares = np.exp(own - own.max())
    return float((1 - shares.max() / shares.sum()) * own[0])


def test_two_neighbours_by_hand():
    # The second patch is farthest; softmax(2, 3) = (0.26894, 0.73106).
    score = softmax_score(torch.tensor([[1.0, 5.0], [2.0, 3.0]]))
    assert float(score) == pytest.approx((1 - 0.7310585786) * 2, abs=1e-6)


def test_equal_distances_weigh_as_their_number():
    assert float(softmax_score(torch.full((4, 9), 1.5))) == pytest.approx(1.5 * 8 / 9)


def test_one_neighbour_gives_zero():
    assert float(softmax_score(torch.tensor([[3.0], [4.0]]))) == 0


def test_large_distances_do_not_overflow():
    assert float(softmax_score(torch.tensor([[500.0, 500.0]]))) == pytest.approx(250)


@given(arrays(np.float32, (3, 7, 9), elements=st.floats(0, 20, width=32)))
def test_every_image_has_its_own_score(values):
    distances = np.sort(values, -1)
    scores = softmax_score(torch.from_numpy(distances))
    assert scores.shape == (3,)
    np.testing.assert_allclose(scores, [in_numpy(one) for one in distances], rtol=1e-4, atol=1e-5)
