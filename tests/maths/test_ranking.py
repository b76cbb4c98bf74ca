"""How sure an AUROC is, worked out in other ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from patchcore.maths.metrics import share_interval
from patchcore.maths.ranking import Difference, auroc_interval, difference, needed_units, wins


def scores(seed, n, m, gap=1.0):
    """Two recipes' scores of the same n good and m defective images, in one fold."""
    random = np.random.default_rng(seed)
    good, defective = random.normal(size=n), random.normal(gap, size=m)
    noise = random.normal(scale=0.5, size=n), random.normal(scale=0.5, size=m)
    one = np.zeros(n, int)
    return wins(good, defective[None], one), wins(good + noise[0], (defective + noise[1])[None], one)


def test_the_mean_of_wins_is_the_auroc_of_each_fold_by_its_good_images():
    random = np.random.default_rng(0)
    good, defective = random.integers(0, 9, 11).astype(float), random.integers(3, 12, (3, 7)).astype(float)
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    won = wins(good, defective, fold)
    assert won.shape == (7, 11)
    each = [
        roc_auc_score([0] * (fold == f).sum() + [1] * 7, np.concatenate([good[fold == f], defective[f]]))
        for f in range(3)
    ]
    assert [won[:, fold == f].mean() for f in range(3)] == pytest.approx(each)
    assert won.mean() == pytest.approx((4 * each[0] + 4 * each[1] + 3 * each[2]) / 11)


@settings(max_examples=50)
@given(st.floats(0, 1), st.integers(1, 300), st.integers(1, 300))
def test_limits_of_an_auroc_solve_newcombe_s_equation(auroc, m, n):
    low, high = auroc_interval(auroc, m, n)
    assert 0 <= low <= auroc + 1e-9
    assert auroc - 1e-9 <= high <= 1
    assert high - low > 0.001  # never of no width
    for limit in (low, high):
        if 1e-6 < limit < 1 - 1e-6:
            spread = 1 + ((m + n) / 2 - 1) * ((1 - limit) / (2 - limit) + limit / (1 + limit))
            variance = limit * (1 - limit) * spread / (m * n)
            assert abs(auroc - limit) == pytest.approx(1.959964 * variance**0.5, abs=1e-5)


def test_limits_of_an_auroc_cover_the_true_one_as_often_as_they_say():
    random = np.random.default_rng(1)
    true = stats.norm.cdf(2 / 2**0.5)
    inside = 0
    for _ in range(400):
        won = wins(random.normal(size=20), random.normal(2, size=(1, 15)), np.zeros(20, int))
        low, high = auroc_interval(won.mean(), 15, 20)
        inside += low <= true <= high
    assert 0.92 <= inside / 400 <= 0.995


def test_limits_of_a_difference_are_those_of_the_bootstrap():
    first, second = scores(0, 90, 60)
    found = difference(first, second, np.arange(60), np.arange(90))
    assert not found.few
    assert found.value == pytest.approx(first.mean() - second.mean())
    gap, random = first - second, np.random.default_rng(0)
    drawn = [gap[random.integers(0, 60, 60)][:, random.integers(0, 90, 90)].mean() for _ in range(3000)]
    assert found.half == pytest.approx(1.96 * np.std(drawn), rel=0.1)


def test_limits_of_a_difference_hold_nothing_as_often_as_they_say():
    # Two recipes of the same accuracy: the limits must hold 0 in about 95 of 100 cases.
    wrong = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        shared = random.normal(size=25), random.normal(1, size=20)
        one, other = (
            wins(shared[0] + random.normal(size=25), (shared[1] + random.normal(size=20))[None], np.zeros(25, int))
            for _ in range(2)
        )
        found = difference(one, other, np.arange(20), np.arange(25))
        wrong += not found.low <= 0 <= found.high
    assert wrong / 300 < 0.09


def test_copies_of_images_are_no_evidence():
    first, second = scores(3, 40, 30)
    found = difference(first, second, np.arange(30), np.arange(40))
    rows, columns = np.repeat(np.arange(30), 3), np.repeat(np.arange(40), 5)
    copied = difference(first[rows][:, columns], second[rows][:, columns], rows, columns)
    assert (copied.value, copied.low, copied.high) == pytest.approx((found.value, found.low, found.high))
    alone = difference(first[rows][:, columns], second[rows][:, columns], np.arange(90), np.arange(200))
    assert alone.half < 0.7 * found.half


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_hardly_any_difference_among_few_images_proves_nothing(wrong):
    first = np.ones((17, 28))
    second = first.copy()
    second[:wrong] = 0  # defects that only the first tells from all good images
    found = difference(first, second, np.arange(17), np.arange(28))
    assert found.few
    assert (found.low, found.high) == pytest.approx((-share_interval(0, 17)[1], share_interval(wrong, 17)[1]))
    assert found.low < 0 < found.high
    second[:wrong, 5:] = 1  # from some of them
    less = difference(first, second, np.arange(17), np.arange(28))
    assert less.few
    assert less.low == found.low
    assert less.high <= found.high
    assert less.high >= share_interval(0, 17)[1]


def test_a_recipe_that_is_clearly_worse_is_found_out():
    first, second = scores(5, 200, 100, gap=3)
    found = difference(first, second - 0.3 * (np.arange(100)[:, None] % 2), np.arange(100), np.arange(200))
    assert 0 < found.low < found.value < found.high


def test_so_many_images_would_settle_it():
    # Twice as wide as what is to be shown: four times the images. Enough already: what there is.
    assert needed_units(Difference(0.02, -0.02, 0.06, False), 30, 100, 0.01) == (120, 400)
    assert needed_units(Difference(0.0, -0.02, 0.02, False), 30, 100, 0.01) == (120, 400)
    assert needed_units(Difference(0.02, 0.01, 0.03, False), 30, 100, 0.01) == (30, 100)
    # None of so many ranked differently: Wilson's upper limit is then the tolerance.
    defective, good = needed_units(Difference(0.0, -0.2, 0.2, True), 5, 500, 0.01)
    assert share_interval(0, defective)[1] == pytest.approx(0.01, abs=1e-4)
    assert good == 500
