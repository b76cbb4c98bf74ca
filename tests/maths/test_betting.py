"""A bet against a claim that holds makes no money: checked on all sequences, and by the sum that it stands for."""

from itertools import product

import numpy as np
import pytest

from patchcore.maths.betting import BOTH, UP, capital, gain, smoothed, wagered


def bet(ps, bets=BOTH, tolerance=0.0):
    """The capital after each p-value."""
    stakes, found = [0.0] * len(bets), []
    for number, p in enumerate(ps, 1):
        stakes = wagered(stakes, bets, p, number, tolerance)
        found.append(capital(stakes, number))
    return found


@pytest.mark.parametrize("values", [[3, 1, 2, 5, 4], [1, 1, 2], [7, 7, 7, 7], [0, 2, 2, 1, 1, 1]])
def test_p_values_are_exactly_uniform_whichever_value_is_the_last(values):
    # Each value may be the last, and the chance then takes it through an interval; together they cover (0, 1) evenly.
    ends = []
    for place, own in enumerate(values):
        others = values[:place] + values[place + 1 :]
        counts = sum(one > own for one in others), others.count(own), len(others)
        ends.append((smoothed(*counts, 0.0), smoothed(*counts, 1.0)))
    for t in np.linspace(0.01, 0.99, 50):
        below = np.mean([np.clip((t - low) / (high - low), 0, 1) for low, high in ends])
        assert below == pytest.approx(t)


def test_the_capital_is_the_mixture_over_all_times_of_a_change():
    ps = np.random.default_rng(0).random(40)
    expected = 1 / 41
    for start in range(1, 41):
        for own in BOTH:
            won = np.prod([1 + own * (p - 0.5) - abs(own) * 0.03 for p in ps[start - 1 :]])
            expected += won / len(BOTH) / start / (start + 1)
    assert bet(ps, tolerance=0.03)[-1] == pytest.approx(expected, rel=1e-12)


def test_no_bet_makes_money_on_average_and_the_capital_seldom_gets_high():
    # A gain is linear in p, so p-values of 0 and 1, equally often, are worth what uniform ones are.
    each = np.array([bet(ps) for ps in product((0.0, 1.0), repeat=12)])
    assert each.mean(0) == pytest.approx(1)
    for limit in (2, 5, 20):
        assert (each.max(1) >= limit).mean() <= 1 / limit  # Ville


def test_what_is_tolerated_is_no_gain():
    for own in BOTH:
        assert gain(own, 0.5 + 0.05 * np.sign(own), 0.05) == pytest.approx(1)
        assert gain(own, 0.0, 0.1) > 0
        assert gain(own, 1.0, 0.1) > 0


def test_a_bet_on_small_p_values_loses_by_large_ones():
    assert bet([0.01] * 40, UP)[-1] > 1e4
    assert bet([0.99] * 40, UP)[-1] < 0.1
    assert bet([0.99] * 40, BOTH)[-1] > 1e4
