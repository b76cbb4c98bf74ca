"""Parts: the verdict of a part from the results of its images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from patchcore.detector import Detector
from patchcore.errors import UsageError
from patchcore.maths.thresholds import Verdict, decide
from patchcore.result import Result
from patchcore.verdict.calibration import Calibration, Rule, part_score


@dataclass(frozen=True)
class Part:
    """What a detector says about a part, of which it has seen one image or several.

    Attributes:
        name: The part, or the image where nothing says which part it shows.
        rule: `worst`: the score is that of its worst image; `mean`: the mean of all.
        score: See `rule`.
        threshold, lower_threshold: Limits as of a `Result`, from the scores of whole good parts.
        p_value: How probable so high a score is for a good part; NaN without good scores.
        results: Those of its images, in the order they were given.
        warnings: What is doubtful about the comparison with good parts.
        reason: Why one of its images has no score that counts (`Result.reason`): the part is `unsure` then, but if its
            worst other image fails.
    """

    name: str
    rule: Rule
    score: float
    threshold: float
    lower_threshold: float | None
    p_value: float
    results: tuple[Result, ...]
    warnings: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def decision(self) -> Verdict:
        """By the same rule as that of an image: `thresholds.decide`."""
        found = decide(self.score, self.threshold, self.lower_threshold)
        return "unsure" if self.reason and (found == "pass" or self.rule == "mean") else found

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain JSON values, as `patchcore predict --json` prints them."""
        return {
            "part": self.name,
            "images": [result.name for result in self.results],
            "rule": self.rule,
            "score": None if math.isnan(self.score) else self.score,
            "p_value": None if math.isnan(self.p_value) else self.p_value,
            "threshold": None if math.isnan(self.threshold) else self.threshold,
            "lower_threshold": self.lower_threshold,
            "decision": self.decision,
            "reason": self.reason,
            "warnings": list(self.warnings),
        }


def parts(detector: Detector, results: Iterable[Result], rule: Rule = "worst") -> list[Part]:
    """The verdict of each part from the results of its images (`Sample.part`), in the order of their first images.

    A part fails if its score is above the threshold that the scores of whole good parts set, by the same rule: those of
    the images that calibrated the detector. So a share of `false_reject_rate` of good parts fails, if new parts
    come from the same process, seen in as many images. Errors: UsageError for several images of a part, if the detector
    was calibrated without saying which images show one.

    >>> from patchcore import Detector, Sample, parts
    >>> images = [Sample(str(n), f"tests/images/hazelnut/train/good/0{n}.jpg", part=f"nut {n // 2}") for n in range(6)]
    >>> detector = Detector("fast").fit(images)
    >>> [(one.name, len(one.results)) for one in parts(detector, detector.predict(images))]
    [('nut 0', 2), ('nut 1', 2), ('nut 2', 2)]
    """
    if rule not in ("worst", "mean"):
        raise UsageError(f"rule is {rule!r}; expected 'worst' or 'mean'.")
    own: dict[str, list[Result]] = {}
    for result in results:
        own.setdefault(result.sample.part or result.name, []).append(result)
    calibration = detector.fitted.calibration
    several = next((name for name, found in own.items() if len(found) > 1), None)
    if several and calibration.scores and not calibration.parts:
        raise UsageError(
            f"The part {several!r} is seen in {len(own[several])} images, and this detector was calibrated without "
            "saying which good images show one part, so there is no threshold for parts. Fit with --part REGEX, "
            "with the column `part` of a table, or with Sample(part=...)."
        )
    limits, sizes = calibration.of_parts(rule), calibration.part_sizes()
    return [_part(name, found, rule, limits, sizes) for name, found in own.items()]


def _part(name: str, found: Sequence[Result], rule: Rule, limits: Calibration, sizes: Sequence[int]) -> Part:
    known = [result.score for result in found if not result.reason]
    score = part_score(known, rule) if known else math.nan
    low, high = min(sizes, default=len(found)), max(sizes, default=len(found))
    warnings = list[str]()
    if not low <= len(found) <= high:
        sizes_are = f"{low} to {high}" if low < high else str(low)
        warnings.append(
            f"it is seen in {len(found)} images; good parts that set the threshold are seen in {sizes_are}."
        )
    return Part(
        name=name,
        rule=rule,
        score=score,
        threshold=limits.threshold,
        lower_threshold=limits.lower_threshold,
        p_value=math.nan if math.isnan(score) or not limits.scores else limits.p_value(score),
        results=tuple(found),
        warnings=tuple(warnings),
        reason=next((f"{result.name}: {result.reason}" for result in found if result.reason), None),
    )
