import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.maths import neighbours
from patchcore.maths.groups import rounding
from patchcore.maths.neighbours import Points, nearest


def brute_force(queries, bank, k):
    """Distances (N, k), ascending, in float64, from differences."""
    queries, bank = (np.asarray(x, dtype=np.float64) for x in (queries, bank))
    distances = np.stack([np.linalg.norm(bank - query, axis=1) for query in queries])
    return np.sort(distances, axis=1)[:, :k], distances


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


WAYS = {"groups": 0, "products": 1 << 62}  # how much is searched by products first


def check(queries, bank, k, rtol=1e-5, atol=1e-6):
    for few in WAYS.values():
        distances, rows = nearest(queries, Points(bank, few), k)
        expected, every = brute_force(queries, bank, k)
        np.testing.assert_allclose(distances, expected, rtol=rtol, atol=atol)
        # The rows are those that have these distances, and none is named twice.
        np.testing.assert_allclose(np.take_along_axis(every, rows.numpy(), 1), distances, rtol=rtol, atol=atol)
        assert all(len(set(row)) == len(row) for row in rows.tolist())


@settings(max_examples=60)
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


# Either way. The bank has more than 1024 rows, so that there are many groups.


def low(n, d, rank=6, noise=0.02, seed=0):
    """Points near a plane of `rank` dimensions, in units of which the neighbours are far apart."""
    plane = normal(rank, d, seed=99)
    return normal(n, rank, seed) @ plane + noise * normal(n, d, seed + 1)


def with_outlier(x, length):
    return torch.cat([x, torch.full((1, x.shape[1]), length)])


BANKS = {
    "near a plane": low(1500, 160),
    "rank below the number of axes": normal(1500, 5) @ normal(5, 160, seed=7),
    "isotropic": normal(1500, 160),
    "far from the origin": low(1500, 160) + 1000,
    "one outlier rules the lengths": with_outlier(low(1500, 160), 5e3),
    "every row twice": low(750, 160).repeat(2, 1),
    "all the same": torch.full((1500, 160), 3.25),
    "one row apart from the rest": torch.cat([torch.zeros(1499, 160), torch.ones(1, 160)]),
}


def check_exact(queries, points, k, scale=None):
    """As brute force in float64; the rows are true neighbours up to ties within rounding, none of them twice."""
    bank = points.rows
    distances, rows = nearest(queries, points, k)
    every = np.stack([np.linalg.norm(bank.double().numpy() - q, axis=1) for q in queries.double().numpy()])
    # What float32 coordinates can say of a distance: a unit in the last place of the largest one.
    atol = 1e-6 if scale is None else scale
    np.testing.assert_allclose(distances, np.sort(every, 1)[:, :k], rtol=1e-5, atol=atol)
    np.testing.assert_allclose(distances, np.take_along_axis(every, rows.numpy(), 1), rtol=1e-5, atol=atol)
    assert (distances[:, 1:] >= distances[:, :-1]).all()
    assert all(len(set(row)) == len(row) for row in rows.tolist())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BANKS)
def test_bounds_lose_no_neighbour(name, way):
    bank = BANKS[name]
    own = bank[::50] + 0.01 * normal(len(bank[::50]), 160, seed=3)
    far = 1e3 * normal(3, 160, seed=4)
    points = Points(bank, WAYS[way])
    for k in (1, 2, 9, 70):
        check_exact(torch.cat([own, bank[::300], far]), points, k)


@settings(max_examples=60)
@given(
    m=st.sampled_from([1, 20, 63, 64, 65, 300, 1025, 1400]),
    d=st.sampled_from([1, 3, 16, 17, 40, 130]),
    rank=st.integers(1, 20),
    way=st.sampled_from(list(WAYS)),
    k=st.sampled_from([1, 2, 9, 70]),
    shift=st.sampled_from([0.0, 100.0]),
    far=st.sampled_from([0.0, 1.0, 1e4]),
    seed=st.integers(0, 1000),
)
def test_bounds_lose_no_neighbour_whatever_the_points(m, d, rank, way, k, shift, far, seed):
    bank = low(m, d, rank, seed=seed) + shift
    queries = low(9, d, rank, seed=seed + 5) + shift + far
    check_exact(queries, Points(bank, WAYS[way]), min(k, m), scale=1e-5 * float(queries.abs().max()))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("k", [1, 3, 9])
def test_of_equal_distances_the_lower_index_comes_first(k, way):
    # Small integers: distances are exact, and most of them shared by many rows.
    bank = torch.randint(0, 2, (1500, 40), generator=torch.Generator().manual_seed(0)).float()
    bank[:, 6:] = 0
    queries = bank[::40] + 0.5
    distances, rows = nearest(queries, Points(bank, WAYS[way]), k)
    every = ((queries.double()[:, None] - bank.double()) ** 2).sum(2).numpy()
    assert np.array_equal(rows.numpy(), np.argsort(every, axis=1, kind="stable")[:, :k])
    assert np.array_equal(distances.numpy(), np.sqrt(np.sort(every, 1)[:, :k].astype(np.float32)))


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_bit_for_bit_the_same_either_way_and_by_any_number_of_threads(k):
    bank, queries = low(3000, 160, rank=20, noise=0.2), low(700, 160, rank=20, noise=0.3, seed=3)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found += [nearest(queries, Points(bank, few), k) for few in WAYS.values()]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(d, found[0][0]) and torch.equal(rows, found[0][1]) for d, rows in found)


def test_points_are_sorted_into_groups_once_enough_was_searched():
    bank, queries = low(1500, 160), low(20, 160, seed=3)
    points = Points(bank, few=3 * bank.numel() * len(queries))
    found = [nearest(queries, points, 2) for _ in range(3)]
    assert "groups" not in points.__dict__
    found += [nearest(queries, points, 2) for _ in range(3)]
    assert "groups" in points.__dict__
    assert all(torch.equal(d, found[0][0]) and torch.equal(rows, found[0][1]) for d, rows in found)


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize("name", ["near a plane", "isotropic", "far from the origin", "every row twice"])
def test_products_in_fewer_bits_lose_no_neighbour(name, precision):
    bank = BANKS[name]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        for few in WAYS.values():
            check_exact(bank[::60] + 0.01, Points(bank, few), 3)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch has one precision for all devices"
)
@pytest.mark.parametrize(("value", "bits"), [("ieee", 24), ("tf32", 11)])
def test_a_precision_that_is_set_for_one_kind_of_device_is_no_error(value, bits):
    # torch.get_float32_matmul_precision raises then.
    kind = torch.backends.cuda.matmul
    before = kind.fp32_precision
    try:
        kind.fp32_precision = value
        assert rounding(0) == 16 * 2.0**-bits
        check_exact(low(20, 40, seed=3), Points(low(1500, 40)), 2)
    finally:
        kind.fp32_precision = before


@pytest.mark.parametrize("few", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_query_that_is_no_number_is_at_no_distance_and_changes_no_other(value, few):
    bank = low(1500, 160)
    queries = bank[:10] + 0.01
    expected, rows = nearest(queries, Points(bank, few), 2)
    broken = queries.clone()
    broken[[0, 4, 9], [3, 5, 159]] = value
    distances, found = nearest(broken, Points(bank, few), 2)
    sound = [1, 2, 3, 5, 6, 7, 8]
    torch.testing.assert_close(distances[sound], expected[sound])
    assert torch.equal(found[sound], rows[sound])
    assert distances[[0, 4, 9]].isnan().all()
    assert found[[0, 4, 9]].tolist() == [[0, 1]] * 3
    assert nearest(broken[[0, 4]], Points(bank, few), 2)[0].isnan().all()


def test_blocks_do_not_change_a_neighbour(monkeypatch):
    bank, queries = low(1500, 160), low(100, 160, seed=3)
    expected = nearest(queries, Points(bank), 5)
    monkeypatch.setattr(neighbours, "_CELLS", 1 << 14)
    distances, rows = nearest(queries, Points(bank), 5)
    torch.testing.assert_close(distances, expected[0])
    assert torch.equal(rows, expected[1])


@pytest.mark.parametrize("few", WAYS.values(), ids=WAYS)
def test_a_search_leaves_points_and_queries_as_they_were(few):
    bank, queries = low(1500, 160), low(20, 160, seed=3)
    before = bank.clone(), queries.clone()
    nearest(queries, Points(bank, few), 3)
    assert torch.equal(bank, before[0])
    assert torch.equal(queries, before[1])


@pytest.mark.parametrize("few", WAYS.values(), ids=WAYS)
def test_points_and_queries_may_carry_gradients_and_lie_in_any_order_in_memory(few):
    bank, queries = low(1500, 160), low(20, 160, seed=3)
    expected = nearest(queries, Points(bank, few), 3)
    for own, other in ((bank.requires_grad_(), queries), (bank.detach().T.contiguous().T, queries.T.contiguous().T)):
        found = nearest(other, Points(own, few), 3)
        torch.testing.assert_close(found[0].detach(), expected[0])
        assert torch.equal(found[1], expected[1])
