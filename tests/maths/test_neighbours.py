import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.maths.neighbours import Points, nearest


def brute_force(queries, bank, k):
    """Distances (N, k), ascending, in float64, from differences."""
    queries, bank = (np.asarray(x, dtype=np.float64) for x in (queries, bank))
    distances = np.stack([np.linalg.norm(bank - query, axis=1) for query in queries])
    return np.sort(distances, axis=1)[:, :k], distances


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def check(queries, bank, k, rtol=1e-5, atol=1e-6):
    distances, rows = nearest(queries, Points(bank), k)
    expected, every = brute_force(queries, bank, k)
    np.testing.assert_allclose(distances, expected, rtol=rtol, atol=atol)
    # The rows are those that have these distances, and none is named twice.
    np.testing.assert_allclose(np.take_along_axis(every, rows.numpy(), 1), distances, rtol=rtol, atol=atol)
    assert all(len(set(row)) == len(row) for row in rows.tolist())


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 60),
    m=st.integers(1, 60),
    d=st.integers(1, 40),
    k=st.integers(1, 9),
    shift=st.sampled_from([0.0, 3.0, 100.0]),
    seed=st.integers(0, 1000),
)
def test_the_nearest_rows_are_those_of_brute_force(n, m, d, k, shift, seed):
    check(normal(n, d, seed) + shift, normal(m, d, seed + 1) + shift, k)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_a_query_that_is_a_bank_row_is_at_no_distance(k, offset):
    # |x| is about 12, 40 or 12,000 here; from |q|² - 2qb + |b|² the distance would be off by 0.03 or more.
    bank = normal(500, 152) + offset
    picked = torch.randperm(500, generator=torch.Generator().manual_seed(1))[:100]
    distances, rows = nearest(bank[picked], Points(bank), k)
    assert rows[:, 0].tolist() == picked.tolist()
    assert (distances[:, 0] == 0).all()
    check(bank[picked], bank, k)


def two_clusters(norm, spread, d):
    """No shift makes the products of two clusters small."""
    directions = torch.nn.functional.normalize(normal(2, d), dim=1)
    return torch.cat([norm * directions[c] + spread * normal(150, d, seed=c + 1) for c in (0, 1)])


@pytest.mark.parametrize("k", [1, 3])
def test_a_query_that_is_a_bank_row_is_at_no_distance_among_tight_clusters(k):
    # The norms of real patches, and the precision of a bank.
    bank = two_clusters(31, 0.01, 152).half().float()
    distances, rows = nearest(bank, Points(bank), k)
    assert rows[:, 0].tolist() == list(range(300))
    assert float(distances[:, 0].max()) == 0


@pytest.mark.parametrize("k", [1, 3])
def test_rows_closer_than_float32_can_tell_apart_are_mistaken_only_for_each_other(k):
    bank = two_clusters(1000, 0.01, 16)
    distances, rows = nearest(bank, Points(bank), k)
    assert float(distances[:, 0].max()) < 1e-4 * 1000
    # A distance belongs to its row even so.
    torch.testing.assert_close(distances, torch.linalg.vector_norm(bank[:, None] - bank[rows], dim=2))


@pytest.mark.parametrize("k", [2, 4])
def test_rounding_loses_no_neighbour_among_two_more_rows_that_are_as_near(k):
    # k + 2 rows to each cluster, whose order the products cannot tell.
    rows = k + 2
    bank = two_clusters(1000, 0.01, 16).unflatten(0, (2, 150))[:, :rows].flatten(0, 1)
    distances, _ = nearest(bank, Points(bank), k)
    expected, _ = brute_force(bank, bank, k)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 4])
def test_small_distances_at_large_norms_keep_five_digits(k):
    bank = 40 * normal(300, 64)
    queries = bank[:50] + 0.01 * normal(50, 64, seed=1)
    check(queries, bank, k, rtol=1e-4)


@pytest.mark.parametrize("k", [1, 2, 9, 40])
def test_more_neighbours_than_rows_gives_every_row(k):
    queries, bank = normal(7, 5), normal(4, 5, seed=1)
    distances, rows = nearest(queries, Points(bank), k)
    assert distances.shape == rows.shape == (7, min(k, 4))
    check(queries, bank, min(k, 4))


def test_one_row_is_nearest_to_everything():
    distances, rows = nearest(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), Points(torch.tensor([[0.0, 0.0]])))
    assert distances.tolist() == [[0.0], [5.0]]
    assert rows.tolist() == [[0], [0]]


def test_neighbours_by_hand():
    bank = torch.tensor([[0.0], [10.0], [4.0], [11.0]])
    distances, rows = nearest(torch.tensor([[9.0], [1.0]]), Points(bank), 3)
    assert distances.tolist() == [[1.0, 2.0, 5.0], [1.0, 3.0, 9.0]]
    assert rows.tolist() == [[1, 3, 2], [0, 2, 1]]


@pytest.mark.parametrize("k", [1, 3])
def test_queries_of_more_than_one_block(k):
    # One block holds 2**22 distances: 838 queries at 5000 rows.
    queries, bank = normal(1700, 4), normal(5000, 4, seed=1)
    check(queries, bank, k, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_duplicate_rows_each_count_as_a_neighbour(k):
    bank = torch.tensor([[1.0, 1.0], [1.0, 1.0], [5.0, 5.0], [1.0, 1.0]])
    distances, rows = nearest(torch.tensor([[1.0, 1.0]]), Points(bank), k)
    assert distances[0].tolist() == pytest.approx([0.0, 0.0, 0.0, 32**0.5][:k])
    assert len(set(rows[0].tolist())) == k
