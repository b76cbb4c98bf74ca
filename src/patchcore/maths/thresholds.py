"""From scores of good images to a threshold, and from a score to a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

from torch import Tensor

Verdict = Literal["pass", "unsure", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "unsure", "fail")
N = TypeVar("N", float, Tensor)


def fit_threshold(scores: Sequence[float], false_reject_rate: float) -> tuple[float, bool]:
    """The threshold that rejects a good image with probability at most `false_reject_rate`.

    With n scores of good images that the bank has not seen, the ceil((n + 1)(1 - rate))-th
    smallest keeps the promise for the next exchangeable image (split conformal prediction:
    Vovk et al. 2005). When n is too small for that rank to exist, the largest score is returned.

    Returns the threshold, and whether there were enough scores. No score at all gives NaN.
    """
    ordered = sorted(scores)
    if not ordered:
        return math.nan, False
    # Rounding up must not be triggered by the last bit of a product such as 20 * 0.95.
    rank = math.ceil(round((len(ordered) + 1) * (1 - false_reject_rate), 9))
    return ordered[min(max(rank, 1), len(ordered)) - 1], rank <= len(ordered)


def needed_scores(false_reject_rate: float) -> int:
    """The smallest number of scores for which `fit_threshold` can keep its promise."""
    return math.ceil(round(1 / false_reject_rate - 1, 9)) if false_reject_rate > 0 else 0


def verdict(score: N, threshold: float) -> N:
    """The number of the verdict in `VERDICTS`, of one score or of each in a tensor (see `decide`)."""
    return 1 + 1 * (score > threshold) - 1 * (score <= threshold)


def decide(score: float, threshold: float) -> Verdict:
    """`fail` if and only if score > threshold; `unsure` where no threshold could be set or the score is NaN."""
    return VERDICTS[int(verdict(score, threshold))]


def normalise(score: N, threshold: float) -> N:
    """A score, or each in a tensor, on a scale where 0 is no distance at all and 0.5 is the threshold; 1 is twice it.

    Strictly increasing in the score and not clipped, so that extreme defects keep their order.
    """
    if threshold > 0:
        return 0.5 * score / threshold
    return 0.5 + score - threshold  # a threshold of 0: every good image was in the bank already


def normalise_by_range(values: Tensor, threshold: float, low: float, high: float) -> Tensor:
    """Scores on a scale where 0.5 is the threshold and 1 is half the range from `low` to `high` above it.

    anomalib's min-max normalisation, (x - threshold) / (high - low) + 0.5, but not clipped: strictly
    increasing, so that extreme defects keep their order. A range of 0 counts as 1.
    """
    return (values - threshold) / (high - low if high > low else 1.0) + 0.5
