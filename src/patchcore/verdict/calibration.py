"""Calibration: the scores of good images that set the thresholds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue, TypeAdapter

from patchcore.data.sample import uniform
from patchcore.errors import UsageError, counted
from patchcore.maths.thresholds import fit_threshold, lowest_rate, needed_scores, p_value

# Thresholds stand so much above the score that sets them, as a share of it. An image's score moves in its last
# digits: 3e-5 between fitting, which keeps patches in half precision, and predicting; 1e-5 between engines. Without
# the margin the very image that sets the threshold may fail when it is seen again.
MARGIN = 1e-4
_MOST_FOLDS = 10
_ALONE = 1.1  # times what the threshold would be without an image: worth a look at it
_OPTIONAL = ("images", "parts", "crossed", "confidence", "patches")  # files of earlier versions lack these


class Deciding(NamedTuple):
    """A good image near the threshold: its name and score, and what the threshold would be without it."""

    name: str
    score: float
    threshold_without: float


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
    images: tuple[str, ...] = ()  # their names, where these are known
    parts: tuple[str, ...] = ()  # the part that each shows; none if each shows another
    crossed: bool = False  # whether the bank holds these images too, and each was scored against one without its fold
    confidence: float | None = None  # that the rate is kept; None: it is kept on average
    patches: tuple[tuple[float, float], ...] = ()  # of each, if known: the median and the highest of its patch scores

    @classmethod
    def fit(
        cls,
        scores: Sequence[float],
        map_maxima: Sequence[float],
        rate: float,
        *,
        confidence: float | None = None,
        images: Sequence[str] = (),
        parts: Sequence[str] = (),
        crossed: bool = False,
        patches: Sequence[tuple[float, float]] = (),
    ) -> Calibration:
        """The thresholds that good images set, `MARGIN` above the scores that `fit_threshold` names."""
        parts = parts if len(set(parts)) < len(parts) else ()
        (threshold, enough), (pixel_threshold, _) = (
            fit_threshold(values, rate, confidence=confidence, parts=parts or None) for values in (scores, map_maxima)
        )
        return cls(
            scores=tuple(scores),
            map_maxima=tuple(map_maxima),
            false_reject_rate=rate,
            threshold=threshold * (1 + MARGIN),
            pixel_threshold=pixel_threshold * (1 + MARGIN),
            enough=enough,
            images=tuple(images),
            parts=tuple(parts),
            crossed=crossed,
            confidence=confidence,
            patches=tuple(patches),
        )

    def at_rate(self, rate: float, confidence: float | None = None) -> Calibration:
        """The thresholds that the same images set for another false-reject rate. Errors: UsageError."""
        for name, value in (("false_reject_rate", rate), ("confidence", confidence)):
            if value is not None and not 0 < value < 1:
                raise UsageError(f"{name} is {value}; it must be above 0 and below 1.")
        return Calibration.fit(
            self.scores,
            self.map_maxima,
            rate,
            confidence=confidence,
            images=self.images,
            parts=self.parts,
            crossed=self.crossed,
            patches=self.patches,
        )

    @property
    def units(self) -> int:
        """What the promise counts: parts, or images where each shows another part."""
        return len(set(self.parts)) if self.parts else len(self.scores)

    def p_value(self, score: float) -> float:
        """How probable so high a score is for a good image; at least 1 / (`units` + 1). See `thresholds.p_value`."""
        return p_value(score, self.scores, self.parts or None)

    def deciding(self, count: int = 3) -> list[Deciding]:
        """The good images whose scores are nearest to the threshold; none where names are not known.

        A threshold that one image alone sets far above that of the others is worth a look at this image.
        """
        near = sorted(range(len(self.images)), key=lambda n: abs(self.scores[n] - self.threshold))[:count]
        return [Deciding(self.images[n], self.scores[n], self._without(n)) for n in near]

    def _without(self, number: int) -> float:
        rest = [n for n in range(len(self.scores)) if n != number]
        parts = [self.parts[n] for n in rest] if self.parts else None
        scores = [self.scores[n] for n in rest]
        found, _ = fit_threshold(scores, self.false_reject_rate, confidence=self.confidence, parts=parts)
        return found * (1 + MARGIN)

    def outlier(self) -> Deciding | None:
        """The image that alone raises the threshold by more than a tenth, if there is one."""
        return next((one for one in self.deciding(1) if one.threshold_without < self.threshold / _ALONE), None)

    def summary(self) -> str:
        """One sentence for people: how the threshold was set, and what it is worth."""
        if not self.scores:
            return (
                "No good image was left to set a threshold with: every verdict will be 'unsure'. Fit on more "
                "images, or give other good ones to set it: calibration=, or --calibration DIR."
            )
        rate, sure = (
            f"{self.false_reject_rate:.3g}",
            f" with {self.confidence:.4g} confidence" if self.confidence else "",
        )
        images = counted(len(self.scores), "good image" if self.crossed else "held-out good image")
        images += f" of {counted(self.units, 'part')}" if self.parts else ""
        images += ", each scored against a bank without its fold" if self.crossed else ""
        if self.enough:
            return f"Threshold {self.threshold:.6g}, from {images}; false-reject rate {rate}{sure}."
        return (
            f"Threshold {self.threshold:.6g}: the largest score of only {images}, which keeps a false-reject rate of "
            f"{lowest_rate(self.units, self.confidence):.3g}{sure}, not {rate}: that needs at least "
            f"{needed_scores(self.false_reject_rate, self.confidence)}{' parts' if self.parts else ''}."
        )

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values; None where there is no threshold. What is not known is left out."""
        found: dict[str, JsonValue] = {}
        for name, value in vars(self).items():
            if name not in _OPTIONAL or value:
                found[name] = list(value) if isinstance(value, tuple) else None if value != value else value
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, JsonValue]) -> Calibration:
        """What `to_dict` gives. Errors: ValueError."""
        limits = {name: math.nan for name in ("threshold", "pixel_threshold") if data[name] is None}
        return TypeAdapter(cls).validate_python({**data, **limits})


def hold_out(parts: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Which images make the bank, and which are held out to set the threshold.

    `parts`: for each image what names its part, or the image's digest. Parts with the lowest random numbers, from the
    seed and that name alone, are held out, until they have the share of the images, rounded. At least one part is in
    the bank and, from two on, at least one is held out, unless the share is 0.
    """
    sizes = Counter(parts)
    if len(sizes) < 2 or share == 0:
        return list(range(len(parts))), []
    wanted, held = max(1, round(share * len(parts))), set[str]()
    for part in sorted(sizes, key=lambda one: uniform(seed, one, "calibration"))[:-1]:
        if sum(sizes[one] for one in held) >= wanted:
            break
        held.add(part)
    each = range(len(parts))
    return [i for i in each if parts[i] not in held], [i for i in each if parts[i] in held]


def folds(parts: Sequence[str], share: float, seed: int) -> list[int]:
    """Each image's fold, from 0, of about this share of the parts; none if the share is 0 or there is one part.

    It follows from the seed and the part's name, or the image's digest, alone, so that another image moves no image. Of
    very few parts each is a fold of its own. There are at most ten folds, whatever the share, as each costs a bank.
    """
    names = list(dict.fromkeys(parts))
    count = min(max(2, round(1 / share)), _MOST_FOLDS) if share else 0
    if len(names) < 2 or not count:
        return []
    drawn = {name: int(uniform(seed, name, "calibration") * count) for name in names}
    if len(names) <= 2 * count:
        drawn = {name: number for number, name in enumerate(names)}
    used = sorted(set(drawn.values()))  # a fold without images needs no bank
    return [used.index(drawn[part]) for part in parts]
