"""From scores of good images to a threshold, and from a score to a verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal, TypeVar

from torch import Tensor

Verdict = Literal["pass", "unsure", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "unsure", "fail")
N = TypeVar("N", float, Tensor)


def fit_threshold(
    scores: Sequence[float],
    false_reject_rate: float,
    *,
    confidence: float | None = None,
    parts: Sequence[Hashable] | None = None,
) -> tuple[float, bool]:
    """The threshold that rejects a good image with probability at most `false_reject_rate`.

    With n scores of good images that the bank has not seen, the ceil((n + 1)(1 - rate))-th
    smallest keeps the promise for the next exchangeable image (split conformal prediction:
    Vovk et al. 2005), on average over all such sets of n. With a `confidence` it is kept by all but a share of
    1 - confidence of these sets: the rank is the smallest k that a binomial number of n draws, each below the quantile
    with probability 1 - rate, stays below with that confidence (a tolerance limit: Wilks 1941).

    `parts`: which part each image shows, if several show one, as images of one part are not independent. Then every
    part weighs the same, and the promise is for the next image of a new part (Lee et al. 2023, hierarchical conformal
    prediction); with a confidence it is for all images of a part, from the largest score of each.
    When there are too few for such a rank, the largest score is returned.

    Returns the threshold, and whether there were enough scores. No score at all gives NaN.
    """
    if not scores:
        return math.nan, False
    by_part: dict[Hashable, list[float]] = {}
    for number, score in enumerate(scores):
        by_part.setdefault(number if parts is None else parts[number], []).append(score)
    n = len(by_part)
    if confidence is not None:
        from scipy.stats import binom

        ordered = sorted(map(max, by_part.values()))
        rank = 1 + int(binom.ppf(confidence, n, 1 - false_reject_rate))
        return ordered[min(rank, n) - 1], rank <= n
    # Rounding up must not be triggered by the last bit of a product such as 20 * 0.95, or of a sum of shares.
    wanted = round((n + 1) * (1 - false_reject_rate), 9)
    weights = sorted((score, 1 / len(own)) for own in by_part.values() for score in own)
    total = 0.0
    for score, weight in weights:
        total += weight
        if round(total, 9) >= wanted:
            return score, True
    return weights[-1][0], False


def needed_scores(false_reject_rate: float, confidence: float | None = None) -> int:
    """The smallest number of scores, or of parts, for which `fit_threshold` can keep its promise."""
    if not false_reject_rate > 0:
        return 0
    if confidence is None:
        return math.ceil(round(1 / false_reject_rate - 1, 9))
    return math.ceil(round(math.log1p(-confidence) / math.log1p(-false_reject_rate), 9))


def lowest_rate(n: int, confidence: float | None = None) -> float:
    """The lowest false-reject rate that n scores, or parts, can promise: the inverse of `needed_scores`."""
    return 1 / (n + 1) if confidence is None else -math.expm1(math.log1p(-confidence) / max(n, 1)) if n else 1.0


def p_value(score: float, scores: Sequence[float], parts: Sequence[Hashable] | None = None) -> float:
    """How probable so high a score is for a good image, among `scores` of good ones: small for defects.

    (1 + those that are as high) / (n + 1), the conformal p-value; with `parts` each part weighs the same. For the next
    exchangeable good image it is at most p with probability p or less.
    """
    if parts is None:  # of every image that is predicted
        return (1 + sum(own >= score for own in scores)) / (len(scores) + 1)
    sizes = Counter(parts)
    higher = sum(1 / sizes[name] for name, own in zip(parts, scores, strict=True) if own >= score)
    return (1 + higher) / (len(sizes) + 1)


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
