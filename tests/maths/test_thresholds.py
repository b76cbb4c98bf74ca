import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.maths.thresholds import (
    VERDICTS,
    decide,
    fit_threshold,
    lowest_rate,
    needed_scores,
    normalise,
    p_value,
    verdict,
)

positive = st.floats(1e-6, 1e6)


@pytest.mark.parametrize(
    ("n", "rate", "rank", "enough"),
    [
        # rank = ceil((n + 1)(1 - rate)), by hand
        (19, 0.05, 19, True),  # 20 * 0.95 = 19
        (18, 0.05, 18, False),  # 19 * 0.95 = 18.05: the 19th of 18
        (20, 0.05, 20, True),  # 21 * 0.95 = 19.95
        (39, 0.05, 38, True),  # 40 * 0.95 = 38
        (100, 0.05, 96, True),  # 101 * 0.95 = 95.95
        (19, 0.01, 19, False),
        (99, 0.01, 99, True),  # 100 * 0.99 = 99
        (98, 0.01, 98, False),  # 99 * 0.99 = 98.01
        (100, 0.01, 100, True),  # 101 * 0.99 = 99.99
        (199, 0.01, 198, True),  # 200 * 0.99 = 198
        (18, 0.1, 18, True),  # 19 * 0.9 = 17.1
        (19, 0.1, 18, True),  # 20 * 0.9 = 18
        (20, 0.1, 19, True),  # 21 * 0.9 = 18.9
        (100, 0.1, 91, True),  # 101 * 0.9 = 90.9
        (8, 0.1, 8, False),
        (9, 0.1, 9, True),
        (1, 0.05, 1, False),
        (1, 0.5, 1, True),
        (3, 0.5, 2, True),
    ],
)
def test_the_threshold_is_the_score_of_the_conformal_rank(n, rate, rank, enough):
    scores = [float(i) for i in range(1, n + 1)]
    shuffled = list(np.random.default_rng(n).permutation(scores))
    assert fit_threshold(shuffled, rate) == (rank, enough)


@settings(max_examples=100)
@given(n=st.integers(1, 600), percent=st.integers(1, 99))
def test_the_rank_is_the_smallest_that_keeps_the_promise(n, percent):
    # In whole numbers: the smallest r with r / (n + 1) >= 1 - percent / 100.
    rank = next(r for r in range(1, n + 2) if 100 * r >= (n + 1) * (100 - percent))
    threshold, enough = fit_threshold([float(i) for i in range(1, n + 1)], percent / 100)
    assert threshold == min(rank, n)
    assert enough == (rank <= n)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (50, 0.05), (99, 0.01), (30, 0.1), (9, 0.1)])
def test_good_images_fail_no_more_often_than_promised(n, rate):
    rng = np.random.default_rng(0)
    trials, failed = 4000, 0
    for scores in rng.gamma(2.0, size=(trials, n + 1)):
        threshold, enough = fit_threshold(scores[:-1].tolist(), rate)
        assert enough
        failed += decide(float(scores[-1]), threshold) == "fail"
    # Three standard deviations above the promise.
    assert failed / trials <= rate + 3 * math.sqrt(rate * (1 - rate) / trials)
    # Not by failing nothing: the true rate lies within 1 / (n + 1) below it.
    assert failed / trials >= rate - 1 / (n + 1) - 3 * math.sqrt(rate * (1 - rate) / trials)


def test_no_score_gives_no_threshold_and_every_verdict_is_unsure():
    threshold, enough = fit_threshold([], 0.05)
    assert math.isnan(threshold)
    assert not enough
    assert decide(0.0, threshold) == decide(1e9, threshold) == "unsure"


def test_equal_scores_give_their_value():
    assert fit_threshold([2.5] * 40, 0.05) == (2.5, True)


@pytest.mark.parametrize(("rate", "needed"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.5, 1), (0.001, 999), (0.3, 3)])
def test_needed_scores_is_the_first_number_that_is_enough(rate, needed):
    assert needed_scores(rate) == needed
    assert fit_threshold([1.0] * needed, rate)[1]
    assert not fit_threshold([1.0] * (needed - 1), rate)[1]


@pytest.mark.parametrize(("rate", "needed"), [(0.05, 59), (0.02, 149), (0.01, 299)])  # 0.95**59 = 0.0485
def test_a_confidence_needs_more_scores(rate, needed):
    assert needed_scores(rate, 0.95) == needed
    assert fit_threshold([1.0] * needed, rate, confidence=0.95)[1]
    assert not fit_threshold([1.0] * (needed - 1), rate, confidence=0.95)[1]
    assert lowest_rate(needed, 0.95) <= rate < lowest_rate(needed - 1, 0.95)
    assert lowest_rate(19) == pytest.approx(0.05)
    assert lowest_rate(0) == lowest_rate(0, 0.9) == 1


@pytest.mark.parametrize(("n", "rate", "confidence"), [(59, 0.05, 0.95), (120, 0.05, 0.9), (60, 0.1, 0.8)])
def test_with_a_confidence_few_sets_of_good_images_break_the_promise(n, rate, confidence):
    # Scores are uniform, so a threshold of t fails a share of 1 - t of all good images.
    rng = np.random.default_rng(1)
    trials = 3000
    broken = sum(
        fit_threshold(scores.tolist(), rate, confidence=confidence)[0] < 1 - rate for scores in rng.random((trials, n))
    )
    allowed = 1 - confidence
    assert broken / trials <= allowed + 3 * math.sqrt(allowed * (1 - allowed) / trials)
    # Nor is it kept by failing nothing: one rank lower would break it too often.
    lower = sum(
        sorted(scores)[sorted(scores).index(fit_threshold(scores, rate, confidence=confidence)[0]) - 1] < 1 - rate
        for scores in rng.random((trials, n)).tolist()
    )
    assert lower / trials > allowed - 3 * math.sqrt(allowed * (1 - allowed) / trials)


def test_parts_with_many_images_promise_no_more_than_parts_with_one():
    # An image scores what its part has, and a little: images of a part are nearly the same.
    rng = np.random.default_rng(2)
    trials, n_parts, rate = 1500, 30, 0.1
    failed, naive = 0, 0
    for _ in range(trials):
        sizes = rng.integers(1, 15, n_parts)
        own = rng.gamma(2.0, size=n_parts + 1)
        parts = np.repeat(np.arange(n_parts), sizes)
        scores = (own[parts] + 0.01 * rng.random(len(parts))).tolist()
        new = float(own[-1] + 0.01 * rng.random())
        failed += new > fit_threshold(scores, rate, parts=parts.tolist())[0]
        naive += new > fit_threshold(scores, rate)[0]
    assert failed / trials <= rate + 3 * math.sqrt(rate * (1 - rate) / trials)
    assert failed < naive  # which takes every image for a part


def test_parts_of_one_image_each_change_nothing():
    scores = np.random.default_rng(0).gamma(2.0, size=100).tolist()
    for confidence in (None, 0.9):
        alone = fit_threshold(scores, 0.05, confidence=confidence)
        assert fit_threshold(scores, 0.05, confidence=confidence, parts=list(range(100))) == alone


def test_a_p_value_is_uniform_for_good_images():
    rng = np.random.default_rng(3)
    values = np.array([p_value(float(row[-1]), row[:-1].tolist()) for row in rng.random((4000, 20))])
    for level in (0.05, 0.1, 0.25, 0.5):
        assert (values <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / 4000)
    assert p_value(math.inf, [1.0, 2.0]) == pytest.approx(1 / 3)


def test_a_score_at_the_threshold_passes_and_the_next_above_fails():
    assert decide(1.5, 1.5) == "pass"
    assert decide(math.nextafter(1.5, 2), 1.5) == "fail"
    assert decide(0.0, 1.5) == "pass"


@pytest.mark.parametrize("threshold", [1.5, math.nan, math.inf])
def test_a_score_that_is_no_number_is_unsure(threshold):
    assert decide(math.nan, threshold) == "unsure"


@settings(max_examples=100)
@given(threshold=positive)
def test_normalised_the_threshold_is_one_half_and_no_distance_is_zero(threshold):
    assert normalise(threshold, threshold) == 0.5
    assert normalise(0.0, threshold) == 0.0
    assert normalise(2 * threshold, threshold) == 1.0


@settings(max_examples=100)
@given(threshold=st.one_of(positive, st.just(0.0)), a=st.one_of(positive, st.just(0.0)), factor=st.floats(1.001, 100))
def test_normalising_keeps_the_order_and_the_verdict(threshold, a, factor):
    b = a * factor + 1e-3
    assert normalise(a, threshold) < normalise(b, threshold)
    for score in (a, b):
        assert (normalise(score, threshold) > 0.5) == (decide(score, threshold) == "fail")


def test_normalising_at_a_threshold_of_zero():
    assert normalise(0.0, 0.0) == 0.5
    assert normalise(0.25, 0.0) == 0.75


@pytest.mark.parametrize("threshold", [0.0, 0.5, math.nan])
def test_of_many_scores_each_has_the_verdict_and_the_scale_of_one_alone(threshold):
    scores = torch.tensor([0.0, 0.25, 0.5, 0.75, math.inf, math.nan])
    found = [VERDICTS[number] for number in verdict(scores, threshold).tolist()]
    assert found == [decide(score, threshold) for score in scores.tolist()]
    expected = torch.tensor([normalise(score, threshold) for score in scores.tolist()])
    torch.testing.assert_close(normalise(scores, threshold), expected, equal_nan=True)
