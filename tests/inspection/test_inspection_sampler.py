import inspection_golden as golden
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchcore import UsageError
from patchcore.inspection import (
    ApproximateGreedyCoresetSampler,
    GreedyCoresetSampler,
    IdentitySampler,
    RandomSampler,
)

SAMPLERS = {
    "greedy": lambda share: GreedyCoresetSampler(share, "cpu"),
    "approximate": lambda share: ApproximateGreedyCoresetSampler(share, torch.device("cpu")),
    "random": RandomSampler,
}


def rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def indices(kept: np.ndarray, x: np.ndarray) -> list[int]:
    return [int(np.flatnonzero((x == row).all(1))[0]) for row in np.asarray(kept)]


def test_identity_keeps_everything():
    x = rows(5, 3)
    assert IdentitySampler().run(x) is x


@pytest.mark.parametrize("kind", SAMPLERS)
@given(n=st.integers(10, 60), share=st.floats(0.1, 0.95))
def test_samplers_keep_whole_and_different_rows_as_many_as_asked(kind, n, share):
    x = rows(n, 6)
    kept = SAMPLERS[kind](share).run(x)
    assert kept.shape == (int(n * share), 6)
    assert len(set(indices(kept, x))) == len(kept)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_what_comes_back_is_of_the_kind_that_was_given(kind):
    x = rows(40, 6)
    as_array = SAMPLERS[kind](0.3).run(x)
    assert isinstance(as_array, np.ndarray)
    as_tensor = SAMPLERS[kind](0.3).run(torch.from_numpy(x))
    assert isinstance(as_tensor, torch.Tensor)
    np.testing.assert_array_equal(as_array, as_tensor)
    half = SAMPLERS[kind](0.3).run(x.astype(np.float16))
    assert half.dtype == np.float16


@pytest.mark.parametrize("kind", SAMPLERS)
def test_the_seed_of_torch_decides_whatever_was_drawn_before(kind):
    x = rows(60, 200)
    torch.manual_seed(3)
    first = SAMPLERS[kind](0.2).run(x)
    torch.rand(5)
    np.testing.assert_array_equal(SAMPLERS[kind](0.2).run(x), first)
    torch.manual_seed(4)
    assert not np.array_equal(SAMPLERS[kind](0.2).run(x), first)


def test_greedy_begins_with_the_row_that_is_farthest_from_all_others():
    x = rows(50, 128)  # as many as the projection has: nothing is projected
    every = np.sqrt(golden.squared_distances(x, x))
    start = int(np.linalg.norm(every, axis=1).argmax())
    assert indices(GreedyCoresetSampler(0.3, "cpu").run(x), x) == golden.greedy(x, 15, start)


def test_approximate_greedy_begins_with_mean_distances_to_points_that_are_no_picks():
    x = rows(50, 128)
    torch.manual_seed(11)
    drawn = torch.randperm(50, generator=torch.Generator().manual_seed(11))[:7].numpy()
    start = np.sqrt(golden.squared_distances(x, x[drawn])).mean(1)
    kept = ApproximateGreedyCoresetSampler(0.3, "cpu", number_of_starting_points=7).run(x)
    assert indices(kept, x) == golden.greedy(x, 15, start)


def test_more_starting_points_than_rows_are_all_rows():
    x = rows(9, 128)
    start = np.sqrt(golden.squared_distances(x, x)).mean(1)
    kept = ApproximateGreedyCoresetSampler(0.5, "cpu", number_of_starting_points=20).run(x)
    assert indices(kept, x) == golden.greedy(x, 4, start)


def test_selection_happens_on_a_projection_and_keeps_the_originals():
    x = rows(80, 600)
    # Values that only a projection could miss: every row is far from the others along its own axis.
    kept = GreedyCoresetSampler(0.5, "cpu", dimension_to_project_features_to=2).run(x)
    assert kept.shape == (40, 600)
    flat = rows(80, 2)
    start = int(((flat - flat.mean(0)) ** 2).sum(1).argmax())
    assert indices(GreedyCoresetSampler(0.5, "cpu", 2).run(flat), flat) == golden.greedy(flat, 40, start)
    assert indices(kept, x) != golden.greedy(x, 40, int(((x - x.mean(0)) ** 2).sum(1).argmax()))


def test_a_chosen_row_is_not_chosen_again_where_all_are_the_same():
    x = np.ones((10, 128), np.float32)
    x[3] = 2
    kept = GreedyCoresetSampler(0.5, "cpu").run(x)
    assert (kept == 2).all(1).sum() == 1


@pytest.mark.parametrize("share", [0, 1, 1.0, -0.1, 1.5, True, "0.1", None, float("nan")])
@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_share_lies_between_0_and_1(kind, share):
    with pytest.raises(ValueError, match="expected a share between 0 and 1, both excluded"):
        SAMPLERS[kind](share)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_share_of_less_than_one_row_says_what_would_do(kind):
    with pytest.raises(UsageError, match=r"percentage 0.001 of 200 rows is less than one row. Use at least 0.005"):
        SAMPLERS[kind](0.001).run(rows(200, 4))
    with pytest.raises(UsageError, match="0 rows"):
        SAMPLERS[kind](0.5).run(rows(0, 4))
    with pytest.raises(UsageError, match=r"features has shape \(3, 4, 5\)"):
        SAMPLERS[kind](0.5).run(np.zeros((3, 4, 5), np.float32))


def test_numbers_of_dimensions_and_points_are_at_least_one():
    with pytest.raises(UsageError, match="dimension_to_project_features_to is 0"):
        GreedyCoresetSampler(0.1, "cpu", 0)
    with pytest.raises(UsageError, match="number_of_starting_points is 0"):
        ApproximateGreedyCoresetSampler(0.1, "cpu", 0)


def test_a_subclass_computes_its_own_indices_of_the_rows_as_they_are_compared():
    class EveryThird(GreedyCoresetSampler):
        def _compute_greedy_coreset_indices(self, features):
            self.compared = tuple(features.shape)
            return np.arange(0, len(features), 3)

    sampler = EveryThird(0.3, "cpu", 4)
    rows = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    np.testing.assert_array_equal(sampler.run(rows), rows[::3])
    assert sampler.compared == (30, 4)
