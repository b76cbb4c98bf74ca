"""Calibration: the scores of good images that set the thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue, TypeAdapter

from patchcore.data.sample import uniform
from patchcore.errors import counted
from patchcore.maths.thresholds import fit_threshold, needed_scores

# Thresholds stand so much above the score that sets them, as a share of it. An image's score moves in its last
# digits: 3e-5 between fitting, which keeps patches in half precision, and predicting; 1e-5 between engines. Without
# the margin the very image that sets the threshold may fail when it is seen again.
MARGIN = 1e-4
_MOST_FOLDS = 10


@dataclass(frozen=True)
class Calibration:
    """The thresholds, and what they were set from. Defective images never take part.

    >>> Calibration.fit([2.0, 3.0, 4.0], [5.0, 6.0, 7.0], rate=0.25).threshold
    4.0004
    """

    scores: tuple[float, ...]  # of good images that the bank has not seen
    map_maxima: tuple[float, ...]  # the highest value of each of their maps
    false_reject_rate: float
    threshold: float  # NaN without scores
    pixel_threshold: float
    enough: bool  # whether there were enough scores for the rate

    @classmethod
    def fit(cls, scores: Sequence[float], map_maxima: Sequence[float], rate: float) -> Calibration:
        """The thresholds that good images set, `MARGIN` above the scores that `fit_threshold` names."""
        (threshold, enough), (pixel_threshold, _) = (fit_threshold(values, rate) for values in (scores, map_maxima))
        raised = 1 + MARGIN
        return cls(tuple(scores), tuple(map_maxima), rate, threshold * raised, pixel_threshold * raised, enough)

    def summary(self) -> str:
        """One sentence for people: how the threshold was set, and what it is worth."""
        images, rate = counted(len(self.scores), "held-out good image"), f"{self.false_reject_rate:.3g}"
        if not self.scores:
            return (
                "No good image was left to set a threshold with: every verdict will be 'unsure'. Fit on more "
                "images, or give other good ones to set it: calibration=, or --calibration DIR."
            )
        if self.enough:
            return f"Threshold {self.threshold:.6g}, from {images}; false-reject rate {rate}."
        return (
            f"Threshold {self.threshold:.6g}: the largest score of only {images}, which keeps a false-reject rate of "
            f"{1 / (len(self.scores) + 1):.3g}, not {rate}: that needs at least "
            f"{needed_scores(self.false_reject_rate)}."
        )

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values; None where there is no threshold."""
        fields = TypeAdapter(Calibration).dump_python(self, mode="json")
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in fields.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, JsonValue]) -> Calibration:
        """What `to_dict` gives. Errors: ValueError."""
        return TypeAdapter(cls).validate_python({k: math.nan if v is None else v for k, v in data.items()})


def hold_out(images: Sequence[bytes], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Which images make the bank, and which are held out to set the threshold.

    Those with the lowest random numbers, from the seed and the image's digest alone, are held
    out: the share of them, rounded. At least one image is in the bank and, from two on, at least one
    is held out, unless the share is 0.
    """
    n = len(images)
    if n < 2 or share == 0:
        return list(range(n)), []
    count = min(max(1, round(share * n)), n - 1)
    held = set(sorted(range(n), key=lambda index: uniform(seed, images[index], "calibration"))[:count])
    return [i for i in range(n) if i not in held], sorted(held)


def folds(images: Sequence[bytes], share: float, seed: int) -> list[int]:
    """Each image's fold, from 0, of about this share of them; none if the share is 0 or there is one image.

    It follows from the seed and the image's digest alone, so that another image moves no image. Of very few images each
    is a fold of its own. There are at most ten folds, whatever the share, as each costs a bank.
    """
    n, count = len(images), min(max(2, round(1 / share)), _MOST_FOLDS) if share else 0
    if n < 2 or not count:
        return []
    if n <= 2 * count:
        return list(range(n))
    drawn = [int(uniform(seed, image, "calibration") * count) for image in images]
    used = sorted(set(drawn))  # a fold without images needs no bank
    return [used.index(one) for one in drawn]
