import math

import pytest
import torch

from patchcore.verdict.gate import Gate, gate_limit

SQUARE = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [3.0, 4.0]])
PARTS = ["a", "b", "c", "d"]


def test_the_limit_is_half_the_median_distance_of_what_shows_nothing():
    nothing = torch.tensor([[23.0, 4.0], [3.0, 34.0], [-1000.0, 0.0]])  # 20, 30 and 1000 from the nearest
    assert gate_limit(SQUARE, PARTS, nothing) == 15


def test_where_good_images_are_far_from_each_other_the_limit_is_above_their_distances():
    assert gate_limit(SQUARE, PARTS, SQUARE + 0.1) == pytest.approx(1.5 * 3)  # each has its nearest at 3


def test_images_of_one_part_are_no_measure_of_how_unlike_parts_are():
    means = torch.cat([SQUARE, SQUARE + 0.01])
    assert gate_limit(means, PARTS * 2, SQUARE + 0.1) == pytest.approx(1.5 * 3, rel=0.01)


def test_where_nothing_tells_what_is_far_there_is_no_gate():
    assert gate_limit(SQUARE[:1], ["a"], SQUARE[:1]) is None


def test_an_image_is_measured_by_its_mean_patch_in_the_banks_scale():
    gate = Gate(SQUARE, torch.tensor([1.0, 10.0]), limit=5.0)
    patches = torch.tensor([[14.0, 0.4], [16.0, 0.4]])  # mean (15, 4) when scaled: 12 from (3, 4)
    assert gate.share(patches) == pytest.approx(12 / 5)
    assert gate.share(patches[:0]) == 0
    assert not math.isnan(gate.share(patches[:1]))
