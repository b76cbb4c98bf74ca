"""Test vectors: images with the outputs that the library gave, beside the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore_runtime import cases
from patchcore_runtime.engines import Arrays
from patchcore_runtime.errors import ExportError
from patchcore_runtime.model import Model, load


@dataclass(frozen=True)
class Agreement:
    """How far outputs are from those of the library, over some images."""

    images: int = 0
    score: float = 0.0  # largest difference, as a share of the score
    map: float = 0.0  # the same of the map, as a share of its highest value
    decisions: int = 0  # that differ although the score is farther from the threshold than the tolerance
    within: bool = True  # the tolerance

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.images + other.images,
            max(self.score, other.score),
            max(self.map, other.map),
            self.decisions + other.decisions,
            self.within and other.within,
        )

    def __str__(self) -> str:
        return (
            f"{self.images} images, largest difference of a score {self.score:.1e}, of a map {self.map:.1e}, "
            f"{self.decisions or 'no'} different verdict{'s' * (self.decisions != 1)}"
        )


def compare(found: Arrays, expected: dict[str, Any], manifest: dict[str, Any]) -> Agreement:
    """Outputs of the graph for one batch against expected ones (score, verdict, and maps that are there)."""
    tolerance, floor = manifest["tolerance"], manifest["floor"]
    limits = [one for one in (manifest["threshold"], manifest.get("lower_threshold")) if one is not None]
    total = Agreement()
    for number, score in enumerate(expected["score"]):
        apart = abs(float(found["score"][number]) - score)
        allowed = max(tolerance["score"] * abs(score), floor)
        same = int(found["decision"][number]) == expected["decision"][number]
        near = any(abs(score - limit) <= allowed for limit in limits)
        maps = [_apart(found[key][number], expected[key][number]) for key in ("patch_scores", "map") if key in expected]
        far = max((share for share, _ in maps), default=0.0)
        fine = (
            apart <= allowed
            and (same or near)
            and all(d <= tolerance["map"] * h or d <= floor for d, h in _sizes(maps))
        )
        total += Agreement(1, apart / max(abs(score), floor, 1e-30), far, int(not (same or near)), bool(fine))
    return total


def _apart(found: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float]:
    """The largest difference of two maps, as a share of the highest value, and that value."""
    if found.shape != expected.shape or (np.isnan(found) != np.isnan(expected)).any():
        return math.inf, 1.0
    shown = ~np.isnan(expected)
    high = float(np.abs(expected).max(initial=0, where=shown))
    return float(np.abs(found - expected).max(initial=0, where=shown)) / max(high, 1e-30), high


def _sizes(maps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(share * high, high) for share, high in maps]


def verify(model: Model | str | Path) -> Agreement:
    """Run the test vectors of a folder. Errors: ExportError where they do not agree, or there are none."""
    model = model if isinstance(model, Model) else load(model)
    total = Agreement()
    for case in cases.read(model.folder, model.manifest):
        total += compare(model.run(case.image.read()), case.expected(), model.manifest)
    if not total.within:
        reference = model.manifest.get("reference", "the library")
        raise ExportError(
            f"{model.folder}: this machine computes something else than {reference} did. {total}; allowed are "
            f"{model.manifest['tolerance']}. Export again here, or use another version of the engine."
        )
    return total
