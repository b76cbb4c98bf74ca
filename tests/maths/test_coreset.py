import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.errors import RecipeError, UsageError
from patchcore.maths import coreset
from patchcore.maths.coreset import k_center_greedy, merged, project, random_subset, select, starting_point
from patchcore.recipe import Recipe


def greedy(x, n_picks, start=0):
    """Farthest point first in plain float64; argmax takes the lowest index on ties."""
    x = np.asarray(x, dtype=np.float64)
    if isinstance(start, int):
        picks, nearest = [start], ((x - x[start]) ** 2).sum(1)
    else:
        picks, nearest = [], np.asarray(start, dtype=np.float64) ** 2
    while len(picks) < n_picks:
        nearest[picks] = -1
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((x - x[picks[-1]]) ** 2).sum(1))
    return picks


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def clustered(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = 30 * torch.randn(7, d, generator=generator)
    return centres[torch.randint(7, (n,), generator=generator)] + 0.01 * torch.randn(n, d, generator=generator)


def grid(n, d, seed=0):
    """Small integers: many duplicates, and many distances that are exactly equal."""
    return torch.randint(0, 3, (n, d), generator=torch.Generator().manual_seed(seed)).float()


CLOUDS = {
    "random": normal(900, 24),
    "one dimension": normal(400, 1),
    "clusters": clustered(900, 16),
    "grid with ties": grid(900, 4),
    "grid with few ties": grid(900, 12),
    "all the same": torch.full((60, 5), 3.25),
    "far from the origin": normal(700, 16) + 1000,
    "ties far from the origin": grid(700, 6) + 1000,
    "half precision": normal(700, 24).half(),
    "half precision, clusters": clustered(700, 16).half(),
    "half precision, far from the origin": (normal(700, 16) + 1000).half(),
    "float64": normal(500, 8).double(),
    "very small": normal(500, 8) * 1e-6,
    "very large": normal(500, 8) * 1e6,
    "one far outlier": torch.cat([normal(400, 8), torch.full((1, 8), 1e4)]),
}


@pytest.mark.parametrize("x", CLOUDS.values(), ids=CLOUDS.keys())
def test_picks_are_those_of_the_plain_greedy(x):
    n_picks = min(250, len(x))
    assert k_center_greedy(x, n_picks).tolist() == greedy(x, n_picks)


@pytest.mark.parametrize("offset", [1e3, 1e5, 1e7])
def test_float64_rows_are_told_apart_even_where_float32_cannot(offset):
    # At 1e7 float32 steps by 1: rows round to a few points.
    x = normal(600, 12).double() + offset
    assert k_center_greedy(x, 150).tolist() == greedy(x, 150)


@settings(max_examples=40)
@given(
    n=st.integers(1, 120),
    d=st.integers(1, 6),
    levels=st.integers(1, 6),
    half=st.booleans(),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_picks_are_those_of_the_plain_greedy_on_any_grid(n, d, levels, half, seed, data):
    x = torch.randint(0, levels, (n, d), generator=torch.Generator().manual_seed(seed)).float()
    n_picks = data.draw(st.integers(1, n))
    start = data.draw(st.integers(0, n - 1))
    got = k_center_greedy(x.half() if half else x, n_picks, start=start)
    assert got.tolist() == greedy(x, n_picks, start)


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize("name", ["random", "grid with ties", "clusters", "half precision"])
def test_the_number_of_groups_at_once_changes_no_pick(name, at_once, monkeypatch):
    monkeypatch.setattr(coreset, "_AT_ONCE", at_once)
    assert k_center_greedy(CLOUDS[name], 300).tolist() == greedy(CLOUDS[name], 300)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_scan_of_all_rows_as_on_an_accelerator_picks_the_same(name, monkeypatch):
    def scanned(x, groups, n_picks, first, squares, told):
        return coreset._scanned(x, n_picks, first, squares, told)

    monkeypatch.setattr(coreset, "_by_groups", scanned)
    n_picks, told = min(200, len(CLOUDS[name])), []
    got = k_center_greedy(CLOUDS[name], n_picks, on_progress=told.append)
    assert got.tolist() == greedy(CLOUDS[name], n_picks)
    assert told == [*range(64, n_picks, 64), n_picks]


@pytest.mark.parametrize("method", ["k_center", "merge", "random", "identity"])
@pytest.mark.parametrize("start", ["first", "random", "mean_of_ten"])
@pytest.mark.parametrize("name", ["random", "grid with ties", "half precision, clusters"])
def test_a_selection_among_some_rows_is_that_of_these_rows_alone(name, start, method):
    x, generator = CLOUDS[name], torch.Generator().manual_seed(4)
    among = torch.rand(len(x), generator=generator) < 0.6
    rows = among.nonzero()[:, 0]
    wanted = [(120, None), (90, among), (len(rows), among), (70, ~among)]
    told = []
    got = coreset.selections(x, wanted, method=method, start=start, seed=3, on_progress=told.append)
    for (n_picks, which), picks in zip(wanted, got, strict=True):
        own = torch.arange(len(x)) if which is None else which.nonzero()[:, 0]
        alone = coreset.selections(x[own], [(n_picks, None)], method=method, start=start, seed=3)[0]
        assert picks.tolist() == own[alone].tolist()
    assert told == sorted(told)
    if method == "k_center" and start == "first":
        assert got[1].tolist() == rows[greedy(x[rows], 90)].tolist()
        assert told[-1] == 120 + 90 + 70  # all of them need no choice


def test_what_there_is_to_choose_from_is_checked():
    x, among = normal(30, 4), torch.arange(30) < 10
    with pytest.raises(UsageError, match="n_picks is 11; it must be between 1 and the number of rows, 10"):
        coreset.Greedy(x).picks(11, among=among)
    with pytest.raises(UsageError, match="start is 12; it must be the index of one of the 10 rows"):
        coreset.Greedy(x).picks(3, 12, among=among)


@pytest.mark.parametrize("name", ["random", "grid with ties", "clusters"])
def test_the_number_of_threads_changes_no_pick(name):
    x = CLOUDS[name]
    expected = greedy(x, 300)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert k_center_greedy(x, 300).tolist() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize("name", ["random", "clusters", "grid with few ties", "half precision"])
def test_products_in_fewer_bits_change_no_pick(name, precision):
    x = CLOUDS[name]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        got = k_center_greedy(x, 200).tolist()
    finally:
        torch.set_float32_matmul_precision(before)
    assert got == greedy(x, 200)


def test_picks_are_those_of_the_plain_greedy_across_all_blocks():
    # More picks than one block of picks (2048), and more candidates than one block of rows.
    x = normal(3000, 6, seed=3)
    assert k_center_greedy(x, 2600).tolist() == greedy(x, 2600)


def test_picking_every_row_picks_each_once():
    x = grid(200, 3)
    picks = k_center_greedy(x, 200).tolist()
    assert sorted(picks) == list(range(200))
    assert picks == greedy(x, 200)


def test_a_line_is_picked_end_first_then_its_middle():
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]])
    assert k_center_greedy(x, 3).tolist() == [0, 4, 2]
    # 1 and 3 are equally far from a pick: the lower index comes first.
    assert k_center_greedy(x, 5).tolist() == [0, 4, 2, 1, 3]


def test_start_is_the_first_pick():
    x = CLOUDS["random"]
    assert k_center_greedy(x, 40, start=123).tolist() == greedy(x, 40, 123)
    assert k_center_greedy(x, 1, start=123).tolist() == [123]


@pytest.mark.parametrize("name", ["random", "grid with ties", "half precision", "far from the origin"])
def test_start_distances_count_as_picks_made_already(name):
    x = CLOUDS[name]
    distances = torch.linalg.vector_norm(x.double() - x[:3].double().mean(0), dim=1)
    assert k_center_greedy(x, 120, start=distances).tolist() == greedy(x, 120, distances.numpy())


def test_start_distances_decide_the_first_pick():
    x = torch.tensor([[0.0], [1.0], [10.0]])
    assert k_center_greedy(x, 1, start=torch.tensor([5.0, 6.0, 1.0])).tolist() == [1]


def test_progress_is_told_up_to_the_last_pick():
    told = []
    k_center_greedy(CLOUDS["random"], 100, on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 100


@pytest.mark.parametrize("n_picks", [0, -1, 6])
def test_a_number_of_picks_that_cannot_be_is_an_error(n_picks):
    with pytest.raises(UsageError, match=rf"n_picks is {n_picks}; it must be between 1 and the number of rows, 5"):
        k_center_greedy(torch.zeros(5, 2), n_picks)


@pytest.mark.parametrize("start", [-1, 5])
def test_a_start_outside_the_rows_is_an_error(start):
    with pytest.raises(UsageError, match=rf"start is {start}; it must be the index of one of the 5 rows"):
        k_center_greedy(torch.zeros(5, 2), 2, start=start)


def test_start_distances_of_another_length_are_an_error():
    with pytest.raises(UsageError, match=r"start has shape \(4,\); expected \(5,\)"):
        k_center_greedy(torch.zeros(5, 2), 2, start=torch.zeros(4))


@settings(max_examples=30)
@given(n=st.integers(1, 500), seed=st.integers(0, 2**32), data=st.data())
def test_a_random_subset_is_distinct_ascending_and_the_same_for_a_seed(n, seed, data):
    size = data.draw(st.integers(1, n))
    picks = random_subset(n, size, seed).tolist()
    assert picks == sorted(set(picks))
    assert len(picks) == size
    assert set(picks) <= set(range(n))
    assert random_subset(n, size, seed).tolist() == picks


def test_a_random_subset_depends_on_the_seed_and_leaves_torch_s_own_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert random_subset(1000, 100, 0).tolist() != random_subset(1000, 100, 1).tolist()
    assert torch.equal(torch.get_rng_state(), before)


def test_no_projection_gives_the_rows_themselves():
    x = normal(20, 8)
    assert project(x, "none", 4, 0) is x


def test_a_dense_projection_is_skipped_when_there_is_nothing_to_reduce():
    x = normal(20, 8)
    assert project(x, "dense", 8, 0) is x


def test_a_dense_projection_is_linear_with_uniform_weights():
    weights = project(torch.eye(400), "dense", 128, seed=1)  # the rows of the identity show the matrix
    assert weights.shape == (400, 128)
    limit = 1 / 400**0.5
    assert float(weights.abs().max()) <= limit
    # A uniform distribution in ±a has mean 0 and variance a²/3; 51,200 draws.
    assert float(weights.mean()) == pytest.approx(0, abs=limit / 50)
    assert float(weights.var()) == pytest.approx(limit**2 / 3, rel=0.02)
    x = normal(50, 400)
    torch.testing.assert_close(project(x, "dense", 128, seed=1), x @ weights, atol=1e-4, rtol=1e-4)


def test_a_sparse_projection_has_the_johnson_lindenstrauss_size():
    from sklearn.random_projection import johnson_lindenstrauss_min_dim

    x = normal(500, 400)
    dims = int(johnson_lindenstrauss_min_dim(500, eps=0.9))
    assert project(x, "sparse", 128, seed=0).shape == (500, dims)


def test_a_sparse_projection_has_weights_of_two_signs_and_mostly_zeros():
    # Li et al. 2006 with density s = 1/sqrt(D): ± 1/sqrt(s d), each with probability s/2, otherwise 0.
    x = torch.eye(400)
    weights = project(x, "sparse", 0, seed=0)
    dims = weights.shape[1]
    density = 1 / 400**0.5
    values = weights[weights != 0]
    torch.testing.assert_close(values.abs(), torch.full_like(values, (1 / (density * dims)) ** 0.5))
    assert float((weights != 0).float().mean()) == pytest.approx(density, rel=0.05)
    assert float((values > 0).float().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_projection_is_the_same_for_a_seed_and_another_for_another(kind):
    x = normal(60, 200)
    first = project(x, kind, 32, seed=7)
    assert torch.equal(project(x, kind, 32, seed=7), first)
    assert not torch.equal(project(x, kind, 32, seed=8), first)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_projection_takes_the_largest_seed_that_a_recipe_takes(kind):
    seed = next(seed for seed in (2**64 - 1, 2**63 - 1, 2**32 - 1) if accepted(seed))
    assert torch.isfinite(project(normal(60, 200), kind, 32, seed)).all()


def accepted(seed):
    try:
        return bool(Recipe(seed=seed))
    except RecipeError:
        return False


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_projection_takes_half_precision_and_gives_float32(kind):
    x = normal(60, 200).half()
    torch.testing.assert_close(project(x, kind, 32, seed=7), project(x.float(), kind, 32, seed=7))
    assert project(x, kind, 32, seed=7).dtype == torch.float32


def test_a_sparse_projection_does_not_depend_on_uninitialised_memory():
    # In this mode torch fills what nobody has written to with NaN.
    torch.use_deterministic_algorithms(True)
    try:
        projected = project(normal(60, 200), "sparse", 0, seed=0)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.isfinite(projected).all()


@pytest.mark.parametrize(("n", "d"), [(2000, 152), (60, 20)])
def test_a_sparse_projection_of_few_dimensions_still_allows_a_selection(n, d):
    # Lite0's patches have 152 dimensions, fewer than Johnson-Lindenstrauss asks for.
    picks = select(normal(n, d), 10, **options(projection="sparse"))
    assert len(set(picks.tolist())) == 10


def test_starting_at_the_first_row():
    assert starting_point(normal(30, 4), "first", 5) == 0


def test_starting_at_a_random_row_depends_on_the_seed_alone():
    starts = [starting_point(normal(1000, 4), "random", seed) for seed in range(20)]
    assert starts == [starting_point(normal(1000, 4, seed=9), "random", seed) for seed in range(20)]
    assert all(0 <= start < 1000 for start in starts)
    assert len(set(starts)) > 15


def test_starting_from_the_mean_distance_to_ten_rows():
    x = normal(12, 4)
    distances = starting_point(x, "mean_of_ten", 3)
    assert distances.shape == (12,)
    # Which ten of twelve: the only choice of two to leave out that explains every distance.
    pairs = np.linalg.norm(x.double().numpy()[:, None] - x.double().numpy()[None], axis=2)
    left_out = [
        (a, b)
        for a in range(12)
        for b in range(a)
        if np.allclose((pairs.sum(1) - pairs[:, a] - pairs[:, b]) / 10, distances.numpy(), atol=1e-9)
    ]
    assert len(left_out) == 1


def test_starting_from_the_mean_distance_takes_what_rows_there_are():
    x = normal(6, 4).half()
    expected = torch.cdist(x.double(), x.double()).mean(1)
    torch.testing.assert_close(starting_point(x, "mean_of_ten", 3), expected)


def options(**changes):
    return {
        "method": "k_center",
        "projection": "none",
        "projection_dims": 128,
        "projection_from": 1,
        "start": "first",
        "seed": 0,
        **changes,
    }


def test_select_by_k_center_is_the_greedy():
    x = normal(300, 8)
    assert select(x, 30, **options()).tolist() == greedy(x, 30)


def test_select_by_k_center_works_on_the_projection():
    x = normal(300, 200)
    projected = project(x, "dense", 16, 0)
    assert select(x, 30, **options(projection="dense", projection_dims=16)).tolist() == greedy(projected, 30)


def test_select_projects_rows_of_so_many_values_or_more():
    x = normal(300, 200)
    projected = greedy(project(x, "dense", 16, 0), 30)
    for least, expected in ((1, projected), (200, projected), (201, greedy(x, 30))):
        picks = select(x, 30, **options(projection="dense", projection_dims=16, projection_from=least))
        assert picks.tolist() == expected


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_projection_does_not_depend_on_the_number_of_threads(kind):
    x, before = normal(9000, 600).half(), torch.get_num_threads()
    try:
        made = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(project(x, kind, 64, 0))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_select_by_chance_draws_rows():
    picks = select(normal(300, 8), 30, **options(method="random")).tolist()
    assert len(set(picks)) == 30
    assert picks != select(normal(300, 8), 30, **options(method="random", seed=1)).tolist()


def test_select_by_identity_keeps_every_row_whatever_the_number():
    assert select(normal(30, 8), 3, **options(method="identity")).tolist() == list(range(30))


@pytest.mark.parametrize("method", ["k_center", "random", "identity"])
def test_select_gives_every_row_when_asked_for_more(method):
    assert select(normal(30, 8), 99, **options(method=method)).tolist() == list(range(30))


# On top of searching by bounds


def low(n, d, rank=5, noise=0.02, seed=0):
    return normal(n, rank, seed) @ normal(rank, d, seed=99) + noise * normal(n, d, seed + 1)


def permuted(n, d, seed=0):
    """Rows with one set of halves in many orders: very many distances that are equal, and summed in another order."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-40, 40, (d,), generator=generator).float() / 8
    return torch.stack([values[torch.randperm(d, generator=generator)] for _ in range(n)])


HARD = {
    "near a plane": low(600, 40),
    "near a plane, half precision": low(600, 40).half(),
    "near a plane, double precision": low(600, 40).double() + 1e5,
    "permuted coordinates": permuted(500, 5),
    "permuted coordinates, half precision": permuted(600, 24).half(),
    "every row three times": low(200, 40).repeat(3, 1),
    "ties on a grid": grid(500, 5),
    "clusters": clustered(600, 40),
    "one far outlier": torch.cat([low(500, 40), torch.full((1, 40), 3e3)]),
}


@pytest.mark.parametrize("at_once", [1, 3, 64])
@pytest.mark.parametrize("name", HARD)
def test_hard_rows_are_picked_as_by_the_plain_greedy(name, at_once, monkeypatch):
    monkeypatch.setattr(coreset, "_AT_ONCE", at_once)
    assert k_center_greedy(HARD[name], 330, start=7).tolist() == greedy(HARD[name], 330, 7)


@pytest.mark.parametrize("spread", [3e-4, 1e-2])
def test_tight_clusters_far_apart_are_told_apart_beyond_float32(spread):
    # About the centre, float32 steps by 6e-5: no picks within a cluster can be compared in it.
    sides = torch.where(torch.arange(700) % 2 == 0, 1000.0, -1000.0).double()[:, None]
    x = sides + spread * normal(700, 3).double()
    assert k_center_greedy(x, 500).tolist() == greedy(x, 500)


@settings(max_examples=40)
@given(
    n=st.integers(2, 400),
    d=st.integers(1, 24),
    kind=st.sampled_from(["low", "grid", "permuted", "clusters"]),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    at_once=st.sampled_from([1, 2, 64]),
    distances=st.booleans(),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_picks_are_those_of_the_plain_greedy_whatever_the_rows(n, d, kind, dtype, at_once, distances, seed, data):
    # In eighths, so that distances are exact in float64 in whatever order they are summed.
    x = {"low": low, "grid": grid, "permuted": permuted, "clusters": clustered}[kind](n, d, seed=seed)
    x = ((x * 8).round() / 8).clamp(-200, 200).to(dtype)
    n_picks = data.draw(st.integers(1, n))
    start = (x.double() - 1).norm(dim=1) if distances else data.draw(st.integers(0, n - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreset, "_AT_ONCE", at_once)
        got = k_center_greedy(x, n_picks, start=start)
    assert got.tolist() == greedy(x, n_picks, start.numpy() if distances else start)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_many_picks_are_those_of_the_plain_greedy(dtype, threads):
    # More groups than are brought up to date at once.
    x = low(6000, 80, rank=4, noise=0.01).to(dtype)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got = k_center_greedy(x, 1500).tolist()
    finally:
        torch.set_num_threads(before)
    assert got == MANY.setdefault(dtype, greedy(x, 1500))


MANY = {}


def radius(x, picks):
    return float(torch.cdist(x.double(), x[picks].double(), compute_mode="donot_use_mm_for_euclid_dist").amin(1).max())


@settings(max_examples=30)
@given(
    n=st.integers(2, 11), n_picks=st.integers(1, 4), d=st.integers(1, 3), shard=st.integers(1, 8), seed=st.integers()
)
def test_merged_covers_within_four_times_the_best_radius(n, n_picks, d, shard, seed):
    x = normal(n, d, seed % 2**32)
    n_picks = min(n_picks, n)
    picks = merged(x, n_picks, shard=shard).tolist()
    assert len(set(picks)) == len(picks) == n_picks
    assert set(picks) <= set(range(n))
    best = min(radius(x, list(subset)) for subset in itertools.combinations(range(n), n_picks))
    assert radius(x, picks) <= 4 * best * (1 + 1e-9)


@pytest.mark.parametrize("x", [low(2000, 20), clustered(2000, 20), grid(2000, 4), torch.full((600, 3), 2.0)])
def test_merged_over_shards_covers_nearly_as_well_as_the_greedy(x):
    picks = merged(x, 50, shard=300)
    assert len(set(picks.tolist())) == 50
    # Not promised; the greedy itself is within 2 times of the best, and merged within 4.
    assert radius(x, picks) <= 1.6 * radius(x, k_center_greedy(x, 50))
    assert torch.equal(merged(x, 50, shard=300), picks)


def test_merged_of_one_shard_is_the_greedy():
    x = low(500, 20)
    assert merged(x, 60).tolist() == greedy(x, 60)


def test_merged_works_through_every_shard(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        coreset,
        "k_center_greedy",
        lambda x, n, **options: sizes.append((len(x), n)) or k_center_greedy(x, n, **options),
    )
    merged(normal(1030, 4), 20, shard=500)
    # 30 rows are left for the last shard, and what the three gave is chosen from.
    assert sizes == [(500, 20), (500, 20), (30, 20), (60, 20)]


def test_a_last_shard_of_fewer_rows_than_picks_gives_them_all():
    picks = merged(normal(1005, 4), 20, shard=500)
    assert len(set(picks.tolist())) == 20


def test_select_by_merge_is_merged_and_tells_its_progress(monkeypatch):
    x, told = low(900, 20), []
    monkeypatch.setattr(merged, "__defaults__", (None, 200, None))
    got = select(x, 30, **options(method="merge"), on_progress=told.append)
    assert got.tolist() == merged(x, 30, shard=200).tolist()
    assert told == sorted(told)
    assert told[-1] == 30
    assert select(x, 990, **options(method="merge")).tolist() == list(range(900))


# Rows that are equal: black borders, exposures of a fixed scene


@pytest.mark.parametrize("distinct", [1, 2, 30, 300])
@pytest.mark.parametrize("kind", ["in turn", "in a row", "shuffled"])
def test_picks_are_those_of_the_plain_greedy_where_most_rows_are_copies(distinct, kind):
    rows = torch.arange(900) % distinct if kind == "in turn" else torch.arange(900) * distinct // 900
    if kind == "shuffled":
        rows = rows[torch.randperm(900, generator=torch.Generator().manual_seed(distinct))]
    x = normal(distinct, 6).half()[rows]
    for start in (0, 450, 899):
        assert k_center_greedy(x, 400, start=start).tolist() == greedy(x, 400, start)
    distances = torch.linalg.vector_norm(x.double() - 1, dim=1)
    assert k_center_greedy(x, 400, start=distances).tolist() == greedy(x, 400, distances.numpy())


def test_copies_whose_start_distances_differ_wait_for_their_own_turn():
    x = torch.zeros(60, 3)
    x[30:] = 5.0
    distances = torch.arange(60.0) % 7
    assert k_center_greedy(x, 40, start=distances).tolist() == greedy(x, 40, distances.numpy())


def test_rows_may_carry_gradients_and_lie_in_any_order_in_memory():
    x = CLOUDS["random"]
    expected = greedy(x, 100)
    assert k_center_greedy(x.clone().requires_grad_(), 100).tolist() == expected
    assert k_center_greedy(x.T.contiguous().T, 100).tolist() == expected
    assert k_center_greedy(x.half()[::2, ::3], 100).tolist() == greedy(x.half()[::2, ::3], 100)
