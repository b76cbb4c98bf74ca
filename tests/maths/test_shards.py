import numpy as np
import pytest
import torch
from test_coreset import CLOUDS, normal

from patchcore.maths.coreset import Greedy, k_center_greedy
from patchcore.maths.shards import Shard, picked


def from_shards(x, n_picks, count, start=0, among=None):
    """The picks from rows that lie at random in so many shards, how many rounds they took, and how many offers."""
    owner = np.random.default_rng(count).integers(0, count, len(x))
    own = [rows for rows in (np.flatnonzero(owner == shard) for shard in range(count)) if len(rows)]
    squares = np.full(len(x), np.inf) if isinstance(start, int) else start.double().square().numpy()
    squares = squares if among is None else np.where(among, squares, -1.0)
    first = start if isinstance(start, int) else int(squares.argmax())
    shards, rounds = [Shard(x[rows], rows, count) for rows in own], []
    for shard, rows in zip(shards, own, strict=True):
        shard.begin(5, squares[rows])

    def ask(news):
        rounds.append([shard.offers(news) for shard in shards])
        return rounds[-1]

    found = picked(
        {5: (first, x[first].double().numpy())},
        {5: n_picks},
        ask,
        lambda selection, most: [shard.equal(selection, most) for shard in shards],
    )[5]
    return found.tolist(), len(rounds), sum(len(one[5].values) for answers in rounds for one in answers)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_picks_from_shards_are_those_from_one_place(cloud):
    x = CLOUDS[cloud]
    for count in (1, 2, 7):
        for n_picks in (1, len(x) // 10, len(x)):
            assert from_shards(x, n_picks, count)[0] == k_center_greedy(x, n_picks).tolist()


@pytest.mark.parametrize("cloud", ["clusters", "grid with ties", "half precision"])
def test_they_are_with_a_start_and_with_rows_that_may_not_be_chosen_too(cloud):
    x, generator = CLOUDS[cloud], torch.Generator().manual_seed(1)
    start, among = 1 + torch.rand(len(x), generator=generator), torch.rand(len(x), generator=generator) < 0.7
    assert from_shards(x, 60, 3, start)[0] == k_center_greedy(x, 60, start=start).tolist()
    first = int(among.nonzero()[0, 0])
    wanted = Greedy(x).picks(60, first, among=among).tolist()
    assert from_shards(x, 60, 3, first, among.numpy())[0] == wanted


def test_a_round_makes_several_picks_and_offers_little_more_than_them():
    _, rounds, offered = from_shards(normal(20_000, 16), 1000, 4)
    assert rounds <= 250
    assert offered <= 3000


def test_a_pick_far_from_all_rows_of_a_shard_does_not_make_its_bounds_too_tight():
    near, far = normal(300, 8), normal(300, 8) * 1e-3 + 5e3
    x = torch.cat([near, far])[torch.randperm(600, generator=torch.Generator().manual_seed(2))]
    assert from_shards(x, 200, 2)[0] == k_center_greedy(x, 200).tolist()
