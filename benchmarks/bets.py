"""Ways to bet against the claim that nothing changes, on numbers drawn from a Gaussian.

    python benchmarks/bets.py [--runs 20]

`linear`: what `maths.betting` does, with 10 % of defects allowed; `none allowed`: the same without; `powers`: stakes
e p^(e - 1), to both sides, for several e, over all times of a change, too (Vovk et al. 2003); `jumper`: the simple jumper
of Vovk et al. (2021). 200 values of calibration; an alarm at a capital of 600. Printed: after how many changed values
there is an alarm (median), for a change by 1, 2 and 4 deviations after 100, 1,000 and 10,000 unchanged ones; and in how many
runs of 10,000 unchanged values, with 0, 5 and 10 % of defects, there is one; with ranks among those of calibration alone,
too (`fixed`).
"""

from __future__ import annotations

import argparse
import json
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from patchcore.maths.betting import BOTH, capital, gain, wagered

Values = NDArray[np.float64]
Way = Callable[[Values], int | None]
LIMIT, CALIBRATION, LONG = 600, 200, 10_000
POWERS = np.array([0.1, 0.3, 0.5, 0.7])


def p_values(values: Values, reference: Values, rng: np.random.Generator, grow: bool = True) -> Values:
    known, found = sorted(reference), []
    for value, chance in zip(values, rng.random(len(values)), strict=True):
        place = bisect_left(known, value)
        found.append((len(known) - place + chance) / (len(known) + 1))
        if grow:
            known.insert(place, value)
    return np.array(found)


def linear(tolerance: float) -> Way:
    def run(ps: Values) -> int | None:
        stakes: Sequence[float] = [0.0] * len(BOTH)
        for number, p in enumerate(ps, 1):
            stakes = wagered(stakes, BOTH, float(p), number, tolerance)
            if capital(stakes, number) >= LIMIT:
                return number
        return None

    assert gain(1.0, 0.5, tolerance) <= 1
    return run


def powers(ps: Values) -> int | None:
    stakes = np.zeros(2 * len(POWERS))
    for number, p in enumerate(ps, 1):
        gains = np.concatenate([POWERS * p ** (POWERS - 1), POWERS * (1 - p) ** (POWERS - 1)])
        stakes = (stakes + 1 / (number * (number + 1)) / len(stakes)) * gains
        if stakes.sum() + 1 / (number + 1) >= LIMIT:
            return number
    return None


def jumper(ps: Values, rate: float = 0.01) -> int | None:
    bets, stakes = np.array([-1, 0, 1]), np.full(3, 1 / 3)
    for number, p in enumerate(ps, 1):
        stakes = ((1 - rate) * stakes + rate / 3 * stakes.sum()) * (1 + bets * (p - 0.5))
        if stakes.sum() >= LIMIT:
            return number
    return None


WAYS: dict[str, Way] = {"linear": linear(0.05), "none allowed": linear(0.0), "powers": powers, "jumper": jumper}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    for before in (100, 1000, 10_000):
        for change in (1, 2, 4):
            delays: dict[str, list[float]] = {name: [] for name in WAYS}
            for _ in range(options.runs):
                values = np.concatenate([rng.normal(size=before), rng.normal(size=1500) + change])
                ps = p_values(values, rng.normal(size=CALIBRATION), rng)
                for name, way in WAYS.items():
                    delays[name].append((way(ps) or math.inf) - before)
            print(
                json.dumps({"before": before, "change": change, **{n: float(np.median(d)) for n, d in delays.items()}}),
                flush=True,
            )
    for share in (0.0, 0.05, 0.1):
        wrong = dict.fromkeys([*WAYS, "fixed", "fixed, none allowed"], 0)
        for _ in range(options.runs):
            values = rng.normal(size=LONG) + 6 * (rng.random(LONG) < share)
            reference = rng.normal(size=CALIBRATION)
            ps, fixed = (p_values(values, reference, rng, grow) for grow in (True, False))
            for name, way in WAYS.items():
                wrong[name] += way(ps) is not None
            wrong["fixed"] += WAYS["linear"](fixed) is not None
            wrong["fixed, none allowed"] += WAYS["none allowed"](fixed) is not None
        print(json.dumps({"defects": share, **wrong}), flush=True)


if __name__ == "__main__":
    main()
