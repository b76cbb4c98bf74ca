import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.maths.scoring import image_score, patch_scores, reweighted_score, top_share_score
from patchcore.memory.bank import Bank


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def equation_7(patches, bank, b):
    """The image score of the paper, section 3.3, with N_b(m*) holding m* itself as both seeds' code does."""
    patches, bank = (np.asarray(x, dtype=np.float64) for x in (patches, bank))
    distances = np.linalg.norm(patches[:, None] - bank[None], axis=2)
    top = int(distances.min(1).argmax())
    s, m = float(distances[top].min()), int(distances[top].argmin())
    around = np.linalg.norm(bank - bank[m], axis=1)
    around[m] = -1  # m* is the first of its own neighbours, also where the bank holds it twice
    members = np.argsort(around, kind="stable")[:b]
    d = [float(np.linalg.norm(patches[top] - bank[j])) for j in members]
    weight = 1 - math.exp(d[0]) / sum(math.exp(value) for value in d)
    return weight * s


def bank_of(rows):
    return Bank(rows, torch.zeros(len(rows), 3, dtype=torch.int32), torch.ones(rows.shape[1]))


def scored(patches, bank):
    distances = torch.linalg.vector_norm(patches[:, None] - bank[None], dim=2)
    scores, rows = distances.min(1)
    return scores, rows


@settings(max_examples=50)
@given(
    n=st.integers(1, 30),
    m=st.integers(1, 40),
    d=st.integers(1, 12),
    b=st.integers(2, 12),
    seed=st.integers(0, 1000),
)
def test_the_reweighted_score_is_equation_7(n, m, d, b, seed):
    patches, bank = 2 * normal(n, d, seed), normal(m, d, seed + 1)
    scores, rows = scored(patches, bank)
    got = reweighted_score(scores, patches, rows, bank_of(bank), b)
    assert float(got) == pytest.approx(equation_7(patches, bank, b), rel=1e-4, abs=1e-6)


def test_the_reweighted_score_by_hand():
    # p* = 10, m* = 7, and the two rows around m* are 7 and 6: distances 3 and 4.
    bank = torch.tensor([[0.0], [6.0], [7.0]])
    patches = torch.tensor([[0.5], [10.0]])
    scores, rows = scored(patches, bank)
    weight = 1 - math.exp(3) / (math.exp(3) + math.exp(4))
    assert float(reweighted_score(scores, patches, rows, bank_of(bank), 2)) == pytest.approx(3 * weight, rel=1e-6)


@pytest.mark.parametrize("b", [0, 1])
def test_without_neighbours_the_score_is_not_reweighted(b):
    patches, bank = normal(5, 3), normal(8, 3, seed=1)
    scores, rows = scored(patches, bank)
    assert reweighted_score(scores, patches, rows, bank_of(bank), b) == scores.max()


def test_a_bank_smaller_than_b_uses_all_of_it():
    patches, bank = normal(5, 3) * 3, normal(4, 3, seed=1)
    scores, rows = scored(patches, bank)
    got = float(reweighted_score(scores, patches, rows, bank_of(bank), 9))
    assert got == pytest.approx(equation_7(patches, bank, 4), rel=1e-5)


@pytest.mark.parametrize("twins", [1, 3, 8, 12])
def test_twins_of_the_nearest_row_count_as_neighbours_of_their_own(twins):
    # With many twins the nearest row itself need not be among the first b that a search lists.
    bank = torch.cat([normal(20, 4), torch.full((twins + 1, 4), 6.0)])
    patches = torch.full((1, 4), 8.0)
    for row in range(20, 20 + twins + 1):
        got = float(reweighted_score(torch.tensor([4.0]), patches, torch.tensor([row]), bank_of(bank), 9))
        near = [4.0] * min(twins + 1, 9)
        others = sorted(
            (float(torch.linalg.vector_norm(bank[j] - 6)), float(torch.linalg.vector_norm(bank[j] - 8)))
            for j in range(20)
        )
        d = (near + [distance for _, distance in others])[:9]
        weight = 1 - math.exp(4.0) / sum(math.exp(value) for value in d)
        assert got == pytest.approx(4 * weight, rel=1e-5)


def test_large_distances_do_not_overflow_the_weight():
    # exp(1000) is infinite; the softmax must not be.
    bank = torch.tensor([[0.0], [1.0], [2.0]])
    patches = torch.tensor([[1002.0]])
    got = float(reweighted_score(torch.tensor([1000.0]), patches, torch.tensor([2]), bank_of(bank), 3))
    assert got == pytest.approx(1000 * (1 - 1 / (1 + math.exp(1) + math.exp(2))), rel=1e-4)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.01, 10.0), (0.1, 10.0), (0.2, 9.5), (0.3, 9.0), (0.5, 8.0), (1.0, 5.5)],
)
def test_the_top_share_is_the_mean_of_the_highest(share, expected):
    scores = torch.tensor([3.0, 1, 10, 2, 9, 4, 8, 5, 7, 6])
    assert float(top_share_score(scores, share)) == pytest.approx(expected)


def test_a_patch_score_is_the_mean_distance_to_its_neighbours():
    distances = torch.tensor([[1.0, 3.0], [2.0, 2.0]])
    assert patch_scores(distances, "l2").tolist() == [2.0, 2.0]
    assert patch_scores(distances, "squared_l2").tolist() == [5.0, 4.0]


def test_the_score_of_an_image_by_each_of_the_three_ways():
    patches, bank = 2 * normal(40, 6), normal(30, 6, seed=1)
    scores, rows = scored(patches, bank)
    ways = {
        kind: float(image_score(scores, patches, rows, bank_of(bank), kind=kind, top_share=0.1, neighbours=9))
        for kind in ("max", "reweighted", "top_share")
    }
    assert ways["max"] == float(scores.max())
    assert ways["reweighted"] == pytest.approx(equation_7(patches, bank, 9), rel=1e-4)
    assert ways["top_share"] == pytest.approx(np.sort(scores.numpy())[-4:].mean(), rel=1e-5)
