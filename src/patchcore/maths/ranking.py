"""How sure an AUROC is, and the difference of two that were measured on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[Any]
_ENOUGH = 5  # units that must differ before their mean is taken for normally distributed


def wins(good: Floats, defective: Floats, fold: Floats) -> Floats:
    """For every defective image (m) against every good one (n), 1 where it scores higher, 1/2 where equal; (m, n).

    `good` (n,): each scored by the detector of its `fold` (n,), which has not seen it; `defective` (k, m): scored by
    the detectors of all k folds. Only scores of the same detector are compared. The mean is the AUROC, each fold's
    by its number of good images; so is it over the columns of one fold.
    """
    against = defective[fold].T
    return (against > good) + 0.5 * (against == good)


def auroc_interval(auroc: float, defective: int, good: int, confidence: float = 0.95) -> tuple[float, float]:
    """Between what limits the true AUROC may lie, given how many images of either kind there were.

    Newcombe's method 5 (Statistics in Medicine 25, 2006, 559-573): as Wilson's interval for a share, with the
    variance of Hanley and McNeil. A perfect separation of few images has a wide one, where DeLong's has no width.
    """
    return _lower(auroc, defective, good, confidence), 1 - _lower(1 - auroc, defective, good, confidence)


def _lower(value: float, m: int, n: int, confidence: float) -> float:
    z = stats.norm.ppf((1 + confidence) / 2)

    def gap(theta: float) -> float:
        spread = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return float(value - theta - z * math.sqrt(theta * (1 - theta) * spread / (m * n)))

    return float(optimize.brentq(gap, 0.0, value * (1 - 1e-12))) if value > 1e-9 else 0.0


@dataclass(frozen=True)
class Difference:
    """How much higher one AUROC is than another, and between what limits the true difference may lie."""

    value: float
    low: float
    high: float
    few: bool  # too few images are ranked differently for a normal distribution: limits are those of shares

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def difference(
    first: Floats, second: Floats, defective_units: Floats, good_units: Floats, confidence: float = 0.95
) -> Difference:
    """The difference of two AUROCs from their `wins` (m, n) on the same images, paired.

    DeLong et al. (Biometrics 44, 1988), with Student's quantile. `defective_units` (m,) and `good_units` (n,): which
    part each image shows; images of one part are no independent evidence and count as one (Obuchowski, Biometrics
    53, 1997). Where fewer than 5 units of either kind are ranked differently, nothing speaks for a normal
    distribution, least of all a spread of 0: the limits are then Wilson's for the share of pairs that only one of
    the two ranks right, as if there were no more pairs than units of the rarer kind (a mean of values between 0 and 1
    varies at most as a share does).
    """
    gap = first - second
    sides = [_by_unit(gap.mean(1), defective_units), _by_unit(gap.mean(0), good_units)]
    value = float(gap.mean())
    if min(np.count_nonzero(sums) for sums, _ in sides) < _ENOUGH:
        units, z = min(len(sums) for sums, _ in sides), stats.norm.ppf((1 + confidence) / 2)
        up, down = (_most(float(np.maximum(one, 0).mean()), units, z) for one in (gap, -gap))
        return Difference(value, -down, up, True)
    variances = [len(sums) / (len(sums) - 1) * float(((sums - counts * value) ** 2).sum()) / counts.sum() ** 2
                 for sums, counts in sides]  # fmt: skip
    degrees = sum(variances) ** 2 / sum(
        variance**2 / (len(sums) - 1) for variance, (sums, _) in zip(variances, sides, strict=True)
    )
    half = float(stats.t.ppf((1 + confidence) / 2, degrees)) * math.sqrt(sum(variances))
    return Difference(value, value - half, value + half, False)


def _most(share: float, n: int, z: float) -> float:
    """The upper limit of a share of n (Wilson 1927); the share need not be a whole number of n-ths."""
    return float(
        (share + z**2 / (2 * n) + z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)) / (1 + z**2 / n)
    )


def _by_unit(values: Floats, units: Floats) -> tuple[Floats, Floats]:
    """The sums of the values of each unit, and how many there are."""
    _, index = np.unique(units, return_inverse=True)
    sums = np.bincount(index, np.where(np.abs(values) < 1e-12, 0, values))
    return sums, np.bincount(index)


def needed_units(found: Difference, defective: int, good: int, tolerance: float) -> tuple[int, int]:
    """Roughly how many defective and good units would settle whether a loss is at most `tolerance`, or is one.

    Limits narrow with the root of the number of images. Where too few of them were ranked differently to tell how
    wide they are, it is the number with which no difference at all would do.
    """
    if found.few:
        z = stats.norm.ppf(0.975)
        least = math.ceil(z**2 * (1 - tolerance) / tolerance)
        return max(least, defective), max(least, good)
    target = max(abs(found.value), tolerance - found.value)
    factor = max(1.0, (found.half / target) ** 2)
    return math.ceil(factor * defective), math.ceil(factor * good)
