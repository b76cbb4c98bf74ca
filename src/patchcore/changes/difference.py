"""Difference: two fitted detectors, compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.maths.thresholds import Verdict
from patchcore.model.fitted import Fitted

if TYPE_CHECKING:
    from patchcore.detector import Detector
    from patchcore.result import Result


@dataclass(frozen=True)
class Verdicts:
    """What two detectors say of an image."""

    name: str
    kind: str | None  # its label, if it has one
    before: Result
    after: Result

    @property
    def way(self) -> tuple[Verdict, Verdict]:
        return self.before.decision, self.after.decision

    @property
    def changes(self) -> bool:
        return self.way[0] != self.way[1]


def stated(before: Fitted, after: Fitted) -> dict[str, JsonValue]:
    """What differs in what two fits have learned: `recipe` (fields, each before and after), `images` (`added` and
    `removed`), and before and after `version`, `rows`, `threshold` and `pixel_threshold`."""
    own, other = before.recipe.to_dict(), after.recipe.to_dict()
    recipe: dict[str, JsonValue] = {
        n: [own.get(n), other.get(n)] for n in sorted({**own, **other}) if own.get(n) != other.get(n)
    }
    known, now = set(before.images), set(after.images)
    found: dict[str, JsonValue] = {
        "recipe": recipe,
        "images": {"added": list[JsonValue](sorted(now - known)), "removed": list[JsonValue](sorted(known - now))},
        "version": [len(one.history) + 1 for one in (before, after)],
        "rows": [one.rows for one in (before, after)],
    }
    for name in ("threshold", "pixel_threshold"):
        values = [getattr(one.calibration, name) for one in (before, after)]
        found[name] = [value if value == value else None for value in values]
    return found


def verdicts(
    before: Detector, after: Detector, samples: Sequence[Sample], reading: Reading | None = None, progress: bool = False
) -> Iterator[Verdicts]:
    """What both say of each image that both can read."""
    results = before.stream(samples, reading=reading), after.stream(samples, reading=reading, progress=progress)
    for one, two in zip(*results, strict=True):
        yield Verdicts(one.name, one.sample.kind, one, two)
