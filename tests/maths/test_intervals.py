"""Intervals of a quantile, and the rule of a verdict with two limits."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

from patchcore.maths.thresholds import VERDICTS, decide, fit_threshold, interval, percent, verdict


@pytest.mark.parametrize(("n", "rate", "sure"), [(100, 0.05, 0.95), (60, 0.2, 0.9), (500, 0.01, 0.8), (40, 0.5, 0.99)])
def test_the_ends_are_the_order_statistics_that_the_binomial_tails_leave(n, rate, sure):
    low, high = interval([float(i) for i in range(1, n + 1)], rate, sure)
    tail, q = (1 - sure) / 2, 1 - rate
    # One by one: the rank nearest to the quantile that is beyond it with no more than a tail's probability.
    lows = [k for k in range(1, n + 1) if sum(binom.pmf(range(k), n, q)) <= tail]
    highs = [k for k in range(1, n + 1) if sum(binom.pmf(range(k, n + 1), n, q)) <= tail]
    assert low == max(lows, default=-math.inf)
    assert high == min(highs, default=math.inf)


@pytest.mark.parametrize(("n", "rate", "sure"), [(150, 0.05, 0.9), (60, 0.2, 0.95), (30, 0.5, 0.8)])
def test_the_quantile_is_between_the_ends_as_often_as_promised(n, rate, sure):
    trials = 3000
    ends = [interval(scores, rate, sure) for scores in np.random.default_rng(0).random((trials, n)).tolist()]
    inside = sum(low <= 1 - rate <= high for low, high in ends)
    assert inside / trials >= sure - 3 * math.sqrt(sure * (1 - sure) / trials)


def test_with_parts_the_quantile_is_inside_as_often_as_promised_and_if_images_count_as_parts_it_is_not():
    # A score is what its part has, and a little noise: the quantile of new images is found from very many of them.
    rng, trials, rate, sure = np.random.default_rng(1), 800, 0.1, 0.9
    truth = np.quantile(rng.gamma(2.0, size=400_000) + rng.normal(0, 0.3, 400_000), 1 - rate)
    inside = naive = 0
    for _ in range(trials):
        parts = np.repeat(np.arange(80), rng.integers(1, 12, 80))
        scores = (rng.gamma(2.0, size=80)[parts] + rng.normal(0, 0.3, len(parts))).tolist()
        low, high = interval(scores, rate, sure, parts=parts.tolist())
        inside += low <= truth <= high
        low, high = interval(scores, rate, sure)
        naive += low <= truth <= high
    assert inside / trials >= sure - 3 * math.sqrt(sure * (1 - sure) / trials)
    assert naive / trials < sure - 0.1


def test_parts_of_one_image_each_change_nothing_and_copies_count_once():
    scores = np.random.default_rng(0).gamma(2.0, size=120).tolist()
    assert interval(scores, 0.1, parts=list(range(120))) == interval(scores, 0.1)
    assert interval(scores * 3, 0.1, parts=list(range(120)) * 3) == interval(scores, 0.1)
    assert interval(scores * 3, 0.1, parts=list(range(120)) * 3, largest=True) == interval(scores, 0.1)


def test_where_scores_are_too_few_an_end_is_open():
    assert interval([1.0, 2.0, 3.0], 0.05)[1] == math.inf
    assert interval([1.0], 0.5) == (-math.inf, math.inf)
    low, high = interval([float(i) for i in range(1, 72)], 0.05)  # 0.95^71 = 0.0262, which is above 0.025
    assert low > 0
    assert high == math.inf
    assert interval([float(i) for i in range(1, 73)], 0.05)[1] == 72  # 0.95^72 = 0.0249
    assert all(map(math.isnan, interval([], 0.05)))


@pytest.mark.parametrize(("n", "rate"), [(200, 0.05), (40, 0.3)])
def test_the_threshold_lies_in_its_interval(n, rate):
    for scores in np.random.default_rng(2).random((50, n)).tolist():
        low, high = interval(scores, rate)
        assert low <= fit_threshold(scores, rate)[0] <= high


def test_between_two_limits_a_score_is_unsure():
    scores, expected = (0.5, 1.0, 1.5, 2.0, 2.5, math.nan), ["pass", "pass", "unsure", "unsure", "fail", "unsure"]
    assert [decide(score, 2.0, 1.0) for score in scores] == expected
    assert [VERDICTS[number] for number in verdict(torch.tensor(scores), 2.0, 1.0).tolist()] == expected
    assert [decide(score, 2.0, 2.0) for score in scores] == [decide(score, 2.0) for score in scores]


def test_a_percentage_grows_and_each_threshold_halves_what_is_left():
    assert [percent(value) for value in (0.0, 0.5, 1.0, 1.5)] == pytest.approx([0, 50, 75, 87.5])
    values = [percent(value) for value in np.linspace(0, 8, 400)]
    assert values == sorted(set(values))
    assert values[-1] < 100
    assert math.isnan(percent(math.nan))
