import numpy as np
import torch

from patchcore.maths.polygons import inside


def centres(n):
    return (torch.arange(n) + 0.5) / n


def test_a_square_holds_the_points_between_its_sides():
    found = inside([(0.25, 0.5), (0.75, 0.5), (0.75, 1), (0.25, 1)], centres(4), centres(8))
    wanted = np.zeros((4, 8), bool)
    wanted[2:, 2:6] = True
    assert np.array_equal(found.numpy(), wanted)


def test_neighbours_share_no_point_and_leave_none_out():
    points = torch.tensor([0.0, 0.25, 0.5, 0.75])  # also on the edges
    left = inside([(0, 0), (0.5, 0), (0.5, 1), (0, 1)], points, points)
    right = inside([(0.5, 0), (1, 0), (1, 1), (0.5, 1)], points, points)
    assert not (left & right).any()
    assert (left | right).all()


def test_a_concave_polygon_agrees_with_angles_summed_around_each_point():
    corners = np.array([(0.1, 0.1), (0.9, 0.2), (0.51, 0.52), (0.8, 0.9), (0.2, 0.8), (0.3, 0.4)])
    ys, xs = centres(23), centres(31)
    found = inside([tuple(one) for one in corners.tolist()], ys, xs).numpy()
    for i, y in enumerate(ys.tolist()):
        for j, x in enumerate(xs.tolist()):
            around = np.arctan2(corners[:, 1] - y, corners[:, 0] - x)
            turns = np.diff(np.append(around, around[0]))
            turns = (turns + np.pi) % (2 * np.pi) - np.pi
            assert found[i, j] == (abs(turns.sum()) > 3)


def test_an_edge_there_and_back_counts_for_nothing():
    ring = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9), (0.1, 0.1)]
    hole = [(0.37, 0.33), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7), (0.37, 0.33)]
    ys = xs = centres(50)
    both = inside([*ring, *hole, ring[0]], ys, xs)
    assert torch.equal(both, inside(ring, ys, xs) & ~inside(hole, ys, xs))


def test_rows_beyond_one_block_are_like_those_in_it():
    found = inside([(0, 0), (1, 0), (0, 1)], centres(600), centres(5))
    alone = torch.cat([inside([(0, 0), (1, 0), (0, 1)], one[None], centres(5)) for one in centres(600)])
    assert torch.equal(found, alone)
