"""Betting: a test that nothing has changed which may be looked at after every value, however long it runs.

A gambler bets against the claim that a new value is like those before it: that its rank among them is uniform. While
the claim holds, no way of betting makes money on average, and from 1 the capital ever reaches c with probability 1 / c
at most (Ville 1939). Who stops when it has reached 1 / rate is wrong with probability `rate` at most, over all time.

Sources: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World (2022), 8 (conformal test martingales);
Vovk et al., Retrain or not retrain (2021), for bets that are linear in p.
"""

from __future__ import annotations

from collections.abc import Sequence

# Stakes for and against small p-values, of several heights: which is best depends on the size of a change.
UP = (-0.4, -0.8, -1.6)  # on small p-values
BOTH = (*UP, 0.4, 0.8, 1.6)


def smoothed(higher: int, equal: int, total: int, chance: float) -> float:
    """The smoothed conformal p-value of a value: of `total` others so many are higher and so many equal; `chance`, a
    uniform random number, decides between these.

    If all values, its own among them, are exchangeable, it is uniform on (0, 1), exactly, and independent of the
    p-values of the values before, each among those before it (Vovk et al., 2.9 and 11.2).
    """
    return (higher + chance * (equal + 1)) / (total + 1)


def gain(bet: float, p: float, tolerance: float) -> float:
    """What becomes of a stake of 1: on average 1 for a uniform p, and at most 1 if the mean of p is within `tolerance`
    of one half."""
    return 1 + bet * (p - 0.5) - abs(bet) * tolerance


def wagered(stakes: Sequence[float], bets: Sequence[float], p: float, number: int, tolerance: float) -> list[float]:
    """The stakes after p-value `number`, counted from 1.

    When a change comes is not known. Of the capital, 1 at first, 1 / (n (n + 1)) is staked with the n-th p-value, in
    equal shares on all bets, and stays there; the rest is kept. So it is a mixture over all times of a change, and a
    change after n undisturbed values is found later by the time that it takes to gain n (n + 1).
    """
    new = 1 / (number * (number + 1)) / len(bets)
    return [(own + new) * gain(bet, p, tolerance) for own, bet in zip(stakes, bets, strict=True)]


def capital(stakes: Sequence[float], number: int) -> float:
    """All of it after so many p-values: what is staked and what is kept."""
    return sum(stakes) + 1 / (number + 1)
