"""Defects: the scores of defective images that set how high a score may be and still pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchcore.errors import UsageError, counted
from patchcore.maths.thresholds import MARGIN, fit_threshold, interval, lowest_rate, needed_scores

LEAST = 1e-9


def check_share(name: str, value: float | None) -> None:
    """Errors: UsageError for a rate or a confidence that is not between 0 and 1, well apart from both.

    A smaller rate takes a billion parts to promise.
    """
    if value is not None and not LEAST <= value <= 1 - LEAST:
        raise UsageError(f"{name} is {value}; it must be above 0 and below 1, by at least {LEAST:g}.")


@dataclass(frozen=True)
class Defects:
    """Known defective images, and the threshold below which so few defective ones score.

    >>> Defects.fit([5.0, 6.0, 7.0], miss_rate=0.25).threshold
    4.9995
    """

    scores: tuple[float, ...]
    miss_rate: float
    threshold: float  # a new defective image scores no more with at most this probability
    enough: bool  # whether there were enough scores for the rate
    confidence: float | None = None  # that the rate is kept; None: it is kept on average
    images: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()  # the part that each shows; none if each shows another

    @classmethod
    def fit(
        cls,
        scores: Sequence[float],
        miss_rate: float,
        *,
        confidence: float | None = None,
        images: Sequence[str] = (),
        parts: Sequence[str] = (),
    ) -> Defects:
        """The mirror image of `fit_threshold`: an order statistic from below, and `MARGIN` below it.

        The promise is for defective images like these: of the same kinds, as often. Errors: UsageError.
        """
        check_share("miss_rate", miss_rate)
        check_share("confidence", confidence)
        if not scores:
            raise UsageError("There is no defective image to set a miss rate with; give some.")
        parts = parts if len(set(parts)) < len(parts) else ()
        found, enough = fit_threshold([-s for s in scores], miss_rate, confidence=confidence, parts=parts or None)
        return cls(tuple(scores), miss_rate, -found * (1 - MARGIN), enough, confidence, tuple(images), tuple(parts))

    @property
    def units(self) -> int:
        """What the promise counts: parts, or images where each shows another part."""
        return len(set(self.parts)) if self.parts else len(self.scores)

    @property
    def missing(self) -> int:
        """How many more defective parts the rate needs."""
        return max(0, needed_scores(self.miss_rate, self.confidence) - self.units)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Where the threshold would lie with defective images without end; the lower end 0 where it is open."""
        mirrored = [-score for score in self.scores]
        one_side = self.confidence is not None
        low, high = interval(mirrored, self.miss_rate, confidence, parts=self.parts or None, largest=one_side)
        return max(0.0, -high * (1 - MARGIN)), -low * (1 - MARGIN)

    def summary(self) -> str:
        """One sentence for people."""
        sure = f" with {self.confidence:.4g} confidence" if self.confidence else ""
        images = counted(len(self.scores), "defective image")
        images += f" of {counted(self.units, 'part')}" if self.parts else ""
        if self.enough:
            return f"Up to {self.threshold:.6g} a score keeps a miss rate of {self.miss_rate:.3g}{sure}, by {images}."
        return (
            f"Up to {self.threshold:.6g}, the smallest score of only {images}, a score keeps a miss rate of "
            f"{lowest_rate(self.units, self.confidence):.3g}{sure}, not {self.miss_rate:.3g}: you need "
            f"{counted(self.missing, 'more defective part', 'more defective parts')}."
        )
