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
# Thresholds stand so much above the score that sets them, as a share of it. An image's score moves in its last
# digits: 3e-5 between fitting, which keeps patches in half precision, and predicting; 1e-5 between engines. Without
# the margin the very image that sets the threshold may fail when it is seen again.
MARGIN = 1e-4


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
    ordered, n = _ordered(scores, parts, largest=confidence is not None)
    if confidence is None:
        wanted = (n + 1) * (1 - false_reject_rate)
    else:
        from scipy.stats import binom

        wanted = 1 + int(binom.ppf(confidence, n, 1 - false_reject_rate))
    found = _reaching(ordered, wanted)
    return (ordered[-1][0], False) if found == math.inf else (found, True)


def interval(
    scores: Sequence[float],
    false_reject_rate: float,
    confidence: float = 0.95,
    *,
    parts: Sequence[Hashable] | None = None,
    largest: bool = False,
) -> tuple[float, float]:
    """Between which scores the (1 - rate)-quantile of all good images lies, with this confidence.

    Whatever the distribution of the scores: the number of n draws below the quantile is binomial, and the ends are the
    order statistics that its two tails, of (1 - confidence) / 2 each, leave (David and Nagaraja 2003, 7.1). An end is
    infinite where n scores are too few for one.

    With `parts` every part weighs the same, as in `fit_threshold`: exact where the images of a part agree or each is
    alone, and else on the safe side. `largest`: the quantile of the largest scores of parts, which a threshold with a
    confidence stands for. No score at all gives NaN twice.
    """
    from scipy.stats import binom

    if not scores:
        return math.nan, math.nan
    ordered, n = _ordered(scores, parts, largest)
    tail, q = (1 - confidence) / 2, 1 - false_reject_rate
    low, high = int(binom.ppf(tail, n, q)), 1 + int(binom.ppf(1 - tail, n, q))
    return (_reaching(ordered, low) if low else -math.inf), _reaching(ordered, high)


def _ordered(
    scores: Sequence[float], parts: Sequence[Hashable] | None, largest: bool
) -> tuple[list[tuple[float, float]], int]:
    """The scores in order, each with its weight: 1 for each part, shared by its images or with its largest score
    alone; and the number of parts."""
    by_part: dict[Hashable, list[float]] = {}
    for number, score in enumerate(scores):
        by_part.setdefault(number if parts is None else parts[number], []).append(score)
    each = [[max(own)] if largest else own for own in by_part.values()]
    return sorted((score, 1 / len(own)) for own in each for score in own), len(each)


def _reaching(ordered: Sequence[tuple[float, float]], rank: float) -> float:
    """The score at which the weights reach a rank; inf if all together do not."""
    # Rounding up must not be triggered by the last bit of a product such as 20 * 0.95, or of a sum of shares.
    rank, total = round(rank, 9), 0.0
    for score, weight in ordered:
        total += weight
        if round(total, 9) >= rank:
            return score
    return math.inf


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


def verdict(score: N, threshold: float, lower: float | None = None) -> N:
    """The number of the verdict in `VERDICTS`, of one score or of each in a tensor (see `decide`)."""
    return 1 + 1 * (score > threshold) - 1 * (score <= (threshold if lower is None else lower))


def decide(score: float, threshold: float, lower: float | None = None) -> Verdict:
    """`fail` if and only if score > threshold, `pass` if and only if score <= lower, else `unsure`.

    This is the one rule, of images and of parts. `lower` is at most the threshold; None: the same, so that only a score
    or a threshold that is NaN, as where none could be set, is `unsure`.
    """
    return VERDICTS[int(verdict(score, threshold, lower))]


def normalise(score: N, threshold: float) -> N:
    """A score, or each in a tensor, on a scale where 0 is no distance at all and 0.5 is the threshold; 1 is twice it.

    Strictly increasing in the score and not clipped, so that extreme defects keep their order.
    """
    if threshold > 0:
        return 0.5 * score / threshold
    return 0.5 + score - threshold  # a threshold of 0: every good image was in the bank already


def percent(normalised: float) -> float:
    """A normalised score as a percentage for people: 0 at no distance at all, 50 at the threshold, never quite 100.

    100 (1 - 4^-normalised): each further threshold's worth of distance halves what is left to 100, so twice the
    threshold, a normalised score of 1, is 75, and three times 87.5. Increasing, so that images keep their order; it is
    no probability (`p_value` is one).
    """
    return -100 * math.expm1(-math.log(4) * normalised)
