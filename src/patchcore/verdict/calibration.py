"""Calibration: the scores of good images that set the thresholds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue, TypeAdapter

from patchcore.data.sample import uniform
from patchcore.errors import counted
from patchcore.maths.appearance import Appearance
from patchcore.maths.thresholds import MARGIN, fit_threshold, interval, lowest_rate, needed_scores, p_value
from patchcore.verdict.defects import Defects, check_share

_MOST_FOLDS = 10
_ALONE = 1.1  # times what the threshold would be without an image: worth a look at it
SURE = 0.95  # of the interval of a threshold, where nobody asks for another
# Files of earlier versions lack these.
_OPTIONAL = ("images", "parts", "crossed", "confidence", "patches", "unsure", "lower_threshold", "defects", "looks")


Rule = Literal["worst", "mean"]


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
    unsure: float | None = None  # confidence of the interval of the threshold, inside which verdicts are unsure
    lower_threshold: float | None = None  # a score up to it passes; None: one up to the threshold
    defects: Defects | None = None  # that set how high a score may be and still pass
    looks: tuple[Appearance, ...] = ()  # what each image looks like as a whole, if known

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
        unsure: float | None = None,
        defects: Defects | None = None,
        looks: Sequence[Appearance] = (),
    ) -> Calibration:
        """The thresholds that good images set, `MARGIN` above the scores that `fit_threshold` names.

        `unsure`: verdicts are unsure inside the threshold's `interval` with this confidence: the threshold is its upper
        end then, or the highest score if that is open, and `lower_threshold` its lower end. With `defects`, a score
        passes if it keeps their miss rate, and if it is not over the threshold.
        """
        parts = parts if len(set(parts)) < len(parts) else ()
        (threshold, enough), (pixel_threshold, _) = (
            fit_threshold(values, rate, confidence=confidence, parts=parts or None) for values in (scores, map_maxima)
        )
        threshold, lower = threshold * (1 + MARGIN), None
        found = cls(
            scores=tuple(scores),
            map_maxima=tuple(map_maxima),
            false_reject_rate=rate,
            threshold=threshold,
            pixel_threshold=pixel_threshold * (1 + MARGIN),
            enough=enough,
            images=tuple(images),
            parts=tuple(parts),
            crossed=crossed,
            confidence=confidence,
            patches=tuple(patches),
            unsure=unsure,
            defects=defects,
            looks=tuple(looks),
        )
        if unsure and scores:
            lower, high = found.interval(unsure)
            threshold = max(threshold, min(high, max(scores) * (1 + MARGIN)))
        if defects:
            lower = defects.threshold
        return replace(found, threshold=threshold, lower_threshold=None if lower is None else min(lower, threshold))

    def at_rate(self, rate: float, confidence: float | None = None) -> Calibration:
        """The thresholds that the same images set for another false-reject rate. Errors: UsageError."""
        check_share("false_reject_rate", rate)
        check_share("confidence", confidence)
        return _again(self, rate=rate, confidence=confidence)

    def with_unsure(self, unsure: float | None) -> Calibration:
        """The same with another interval in which verdicts are unsure, or with none. Errors: UsageError."""
        check_share("unsure", unsure)
        return _again(self, unsure=unsure)

    def with_defects(self, defects: Defects | None) -> Calibration:
        """The same with a second threshold, which keeps the miss rate of known defects, or without one.

        >>> good = Calibration.fit([2.0, 3.0, 4.0], [5.0, 6.0, 7.0], rate=0.25)
        >>> both = good.with_defects(Defects.fit([3.5, 9.0, 9.0], miss_rate=0.25))
        >>> both.lower_threshold, both.threshold
        (3.49965, 4.0004)
        """
        return _again(self, defects=defects)

    def without(self, image: str | None) -> Calibration:
        """The thresholds that the other images set; the same where this one is not known, or alone."""
        kept = [number for number, name in enumerate(self.images) if name != image]
        if len(kept) in (0, len(self.scores)):
            return self
        each = {name: getattr(self, name) for name in ("scores", "map_maxima", "images", "parts", "patches", "looks")}
        return _again(self, **{name: [own[n] for n in kept] if own else () for name, own in each.items()})

    def of_parts(self, rule: Rule = "worst") -> Calibration:
        """The thresholds for the scores of whole parts, which the same images set. See `part_score`."""
        names = self.parts or tuple(map(str, range(len(self.scores))))
        scores, maxima = (by_part(names, values, rule) for values in (self.scores, self.map_maxima))
        defects, again = self.defects, None
        if defects:
            own = by_part(defects.parts or tuple(map(str, range(len(defects.scores)))), defects.scores, rule)
            again = Defects.fit(list(own.values()), defects.miss_rate, confidence=defects.confidence, images=list(own))
        return Calibration.fit(
            list(scores.values()),
            list(maxima.values()),
            self.false_reject_rate,
            confidence=self.confidence,
            images=list(scores) if self.parts else self.images,
            crossed=self.crossed,
            unsure=self.unsure,
            defects=again,
        )

    def part_sizes(self) -> list[int]:
        """How many images each part was seen in."""
        return list(Counter(self.parts).values()) or [1] * len(self.scores)

    def interval(self, confidence: float = SURE) -> tuple[float, float]:
        """Where the threshold would lie with good images without end, with this confidence.

        The upper end is inf where the scores are too few for one; NaN twice without any. See `thresholds.interval`; in
        folds it is measured, as the threshold is.
        """
        one_side = self.confidence is not None
        low, high = interval(
            self.scores, self.false_reject_rate, confidence, parts=self.parts or None, largest=one_side
        )
        return (low if math.isnan(low) else max(0.0, low * (1 + MARGIN))), high * (1 + MARGIN)

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
        more = "".join(f" {sentence}" for sentence in (self.spread(), self.unsure_between()) if sentence)
        if self.enough:
            return f"Threshold {self.threshold:.6g}, from {images}; false-reject rate {rate}{sure}.{more}"
        return (
            f"Threshold {self.threshold:.6g}: the largest score of only {images}, which keeps a false-reject rate of "
            f"{lowest_rate(self.units, self.confidence):.3g}{sure}, not {rate}: that needs at least "
            f"{needed_scores(self.false_reject_rate, self.confidence)}{' parts' if self.parts else ''}.{more}"
        )

    def spread(self) -> str:
        """The interval, for people; empty without scores."""
        if not self.scores:
            return ""
        sure = self.unsure or SURE
        low, high = self.interval(sure)
        ends = f"from {low:.6g} to {high:.6g}" if high < math.inf else f"at least {low:.6g}; so few set no upper limit"
        return f"Good images without end would set it, with {sure:.4g} confidence, {ends}."

    def unsure_between(self) -> str:
        """Which scores are unsure and why, for people; empty where none is."""
        if self.lower_threshold is None:
            return ""
        why = [self.defects.summary()] if self.defects else []
        if self.lower_threshold < self.threshold:
            return " ".join([*why, f"A score above {self.lower_threshold:.6g}, up to {self.threshold:.6g}, is unsure."])
        if self.enough and self.defects and self.defects.enough:
            why.append("No score is unsure: one threshold keeps both rates.")
        return " ".join(why)

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values; None where there is no threshold. What is not known is left out."""
        found: dict[str, JsonValue] = {}
        for name, value in vars(self).items():
            if isinstance(value, Defects):
                found[name] = asdict(value)
            elif name not in _OPTIONAL or value:
                found[name] = list(value) if isinstance(value, tuple) else None if value != value else value
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, JsonValue]) -> Calibration:
        """What `to_dict` gives. Errors: ValueError."""
        limits = {name: math.nan for name in ("threshold", "pixel_threshold") if data[name] is None}
        return TypeAdapter(cls).validate_python({**data, **limits})


def part_score(scores: Sequence[float], rule: Rule) -> float:
    """The score of a part from those of its images: the highest (`worst`), or their mean."""
    return max(scores) if rule == "worst" else math.fsum(scores) / len(scores)


def by_part(parts: Sequence[str], scores: Sequence[float], rule: Rule) -> dict[str, float]:
    """The score of each part, by its name, in the order of their first images."""
    own: dict[str, list[float]] = {}
    for name, score in zip(parts, scores, strict=True):
        own.setdefault(name, []).append(score)
    return {name: part_score(values, rule) for name, values in own.items()}


def _again(calibration: Calibration, **changed: Any) -> Calibration:
    """The thresholds set once more, with some arguments of `Calibration.fit` changed."""
    same = {name: getattr(calibration, name) for name in (*_OPTIONAL, "scores", "map_maxima")}
    del same["lower_threshold"]
    return Calibration.fit(**{"rate": calibration.false_reject_rate, **same, **changed})


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
