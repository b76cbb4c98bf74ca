"""Channel: one number of every image, and the bet that it stays what it was."""

from __future__ import annotations

import hashlib
import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from patchcore.maths.appearance import Appearance
from patchcore.maths.betting import BOTH, UP, capital, gain, smoothed, wagered

CHANNELS = (*Appearance._fields, "score")
LEAST = 50  # values that there must be before the betting begins
_RECENT = 10
_DIGITS = 4  # of a value: a state file keeps how often each occurred


@dataclass
class Run:
    """How long a bet has been winning, as a CUSUM: `gained` (a logarithm) since an image, by its number and name."""

    gained: float = 0.0
    number: int = 0
    name: str = ""


@dataclass
class Channel:
    """One number of every image.

    Attributes:
        what: Its name.
        values, counts: The values so far, in order, and how often each has occurred.
        number: Of p-values.
        stakes: On each bet (see `betting.wagered`).
        runs: Of each bet.
        recent: The last values, each with the number of its image.
        centre, spread: The median of the values before the betting began, and their deviation from it (1.48 times the
            median of the absolute ones, which a few odd values do not move).
        limit: The capital at which something has changed.
        changed: Whether it has been reached; nothing is bet any more.
    """

    what: str
    limit: float
    tolerance: float
    values: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    number: int = 0
    stakes: list[float] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    recent: list[tuple[int, float]] = field(default_factory=list)
    centre: float = math.nan
    spread: float = math.nan
    changed: bool = False

    def __post_init__(self) -> None:
        self.stakes = self.stakes or [0.0] * len(self.bets)
        self.runs = self.runs or [Run() for _ in self.bets]

    @property
    def bets(self) -> Sequence[float]:
        """Scores matter if they rise: those of new images are lower than those of calibration, whose banks held fewer
        images, and a bet on the other side would win by that alone."""
        return UP if self.what == "score" else BOTH

    @property
    def total(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def learn(self, value: float) -> None:
        """Take a value in, without betting on it."""
        value = _rounded(value)
        place = bisect_left(self.values, value)
        if place < len(self.values) and self.values[place] == value:
            self.counts[place] += 1
        else:
            self.values.insert(place, value)
            self.counts.insert(place, 1)

    def see(self, value: float, number: int, name: str) -> bool:
        """Bet on the value of an image, and take it in; whether it has shown that something has changed."""
        self.recent = [*self.recent, (number, value)][-_RECENT:]
        if not self.changed and self.total >= LEAST:
            if math.isnan(self.centre):
                self._settle()
            self.number += 1
            p = self._p_value(_rounded(value))
            self.stakes = wagered(self.stakes, self.bets, p, self.number, self.tolerance)
            for bet, run in zip(self.bets, self.runs, strict=True):
                if run.gained <= 0:
                    run.gained, run.number, run.name = 0.0, number, name
                run.gained += math.log(gain(bet, p, self.tolerance))
            self.changed = capital(self.stakes, self.number) >= self.limit
        if not self.changed:
            self.learn(value)
        return self.changed

    def _p_value(self, value: float) -> float:
        place = bisect_left(self.values, value)
        equal = self.counts[place] if place < len(self.values) and self.values[place] == value else 0
        higher = sum(self.counts[place + (equal > 0) :])
        return smoothed(higher, equal, self.total, _chance(self.what, self.number))

    def _settle(self) -> None:
        """What the reference is, in two numbers."""
        known = [value for value, count in zip(self.values, self.counts, strict=True) for _ in range(count)]
        self.centre = statistics.median(known)
        self.spread = 1.4826 * statistics.median(abs(value - self.centre) for value in known)

    @property
    def since(self) -> Run:
        """The run of the bet that has won most: the image at which it began is about where the change did."""
        return max(self.runs, key=lambda run: run.gained)

    @property
    def now(self) -> float:
        """The median of the last values since the change."""
        return statistics.median([value for number, value in self.recent if number >= self.since.number])


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _chance(what: str, number: int) -> float:
    """A random number in (0, 1) that decides between equal values, the same after a restart."""
    digest = hashlib.blake2b(f"{what}:{number}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + 0.5) / 2**64
