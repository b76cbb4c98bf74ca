"""Evaluation: a detector against labelled images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from patchcore.data.masks import read_mask
from patchcore.data.reading import Reading
from patchcore.data.resolve import detect
from patchcore.data.sample import GOOD, Dataset, Sample
from patchcore.detector import Detector
from patchcore.errors import DataError, UsageError
from patchcore.maths import metrics
from patchcore.maths.metrics import PixelCurve, Segmented
from patchcore.measure.parts import Part, parts
from patchcore.pipeline.workers import in_order
from patchcore.result import Result
from patchcore.verdict.calibration import Rule

_MOST_NOTES = 5


@dataclass(frozen=True)
class Evaluation:
    """The metrics of an evaluation (None where the data does not allow one), and the results behind them."""

    metrics: dict[str, float | None]
    results: list[tuple[Sample, Result]]
    coverage: float  # smallest share of an image inside the recipe's crop
    pixel_curve: PixelCurve | None = None  # thinned, for drawing
    notes: tuple[str, ...] = ()  # what is doubtful about masks and images, for people
    # Of what is over the pixel threshold, and of what `Result.mask` marks: `metrics.segmentation`.
    segmentation: dict[str, float | None] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()  # verdicts of parts, where the detector knows parts

    def confusion(self) -> dict[str, dict[str, int]]:
        """How often each kind of image got each verdict."""
        table: dict[str, dict[str, int]] = {}
        for sample, result in self.results:
            row = table.setdefault(str(sample.kind), {"pass": 0, "unsure": 0, "fail": 0})
            row[result.decision] += 1
        return dict(sorted(table.items(), key=lambda item: (item[0] != GOOD, item[0])))

    def part_confusion(self) -> dict[str, dict[str, int]]:
        """How often good and defective parts got each verdict; a part is defective if one of its images is."""
        table = {kind: {"pass": 0, "unsure": 0, "fail": 0} for kind in (GOOD, "defective")} if self.parts else {}
        for part in self.parts:
            good = all(result.sample.kind == GOOD for result in part.results)
            table[GOOD if good else "defective"][part.decision] += 1
        return table

    def missing(self) -> list[str]:
        """Sentences that explain which metrics are None, and why, and what is doubtful about masks and images."""
        defects = [sample for sample, _ in self.results if sample.kind != GOOD]
        masks = sum(sample.mask is not None for sample in defects)
        why = []
        if self.metrics["image_auroc"] is None:
            why.append("No image metrics: they need good and defective images, and there is only one of the two.")
        if masks < len(defects):
            why.append(
                f"No pixel metrics: they need a mask for every defective image; {masks} of {len(defects)} have one."
            )
        elif not defects:
            why.append("No pixel metrics: they need defective images with masks.")
        elif self.metrics["pixel_auroc"] is None:
            why.append("No pixel metrics: the masks mark no pixel, or all of them.")
        return [*why, *self.notes]

    def figures(self) -> dict[str, float | None]:
        """The metrics, `images`, `coverage`, `false_reject_rate`, `miss_rate` and `unsure_rate`, as the commands print
        them.

        The first two rates are the share of good images that fail, and of defective images that pass; the third is of
        all images. An unsure one counts in no other. They are None without such images, or without a threshold. Where
        there are parts, `parts`, `part_false_reject_rate`, `part_miss_rate` and `part_unsure_rate` are of parts.
        """
        confusion, of_parts = self.confusion(), self.part_confusion()
        good = confusion.pop(GOOD, {})
        defects = {verdict: sum(row[verdict] for row in confusion.values()) for verdict in ("pass", "unsure", "fail")}
        known = any(row["pass"] + row["fail"] for row in (good, defects) if row)
        unsure = sum(r.decision == "unsure" for _, r in self.results)
        parts = {
            "parts": len(self.parts),
            "part_false_reject_rate": _share(of_parts[GOOD], "fail"),
            "part_miss_rate": _share(of_parts["defective"], "pass"),
            "part_unsure_rate": sum(row["unsure"] for row in of_parts.values()) / len(self.parts),
        } if self.parts else {}  # fmt: skip
        return {
            **self.metrics,
            "images": len(self.results),
            "coverage": self.coverage,
            "false_reject_rate": _share(good, "fail"),
            "miss_rate": _share(defects, "pass"),
            "unsure_rate": unsure / len(self.results) if known else None,
            **self.segmentation,
            **parts,
        }


def _share(row: dict[str, int], verdict: str) -> float | None:
    """The share of a verdict; None without images or without a threshold."""
    total = sum(row.values())
    return row[verdict] / total if total > row.get("unsure", 0) else None


def evaluate(
    detector: Detector,
    samples: str | Path | Dataset | Iterable[Sample],
    *,
    rule: Rule = "worst",
    reading: Reading | None = None,
    progress: bool = False,
) -> Evaluation:
    """Measure a detector on labelled images.

    Pixel metrics are computed at the size of the masks, and need a mask for every defective image. Every pixel of a
    good image counts as good; pixels outside the recipe's crop are left out. Errors: DataError, ImageError.

    Args:
        detector: A fitted detector.
        samples: A dataset, by its path too, or labelled images; those without a label are ignored.
        rule: How parts of several images are scored (`parts`), if samples and detector know parts.
        reading: How to read images, and what to do with unreadable ones.
        progress: Whether to show a progress bar.

    >>> from patchcore import Detector, evaluate
    >>> detector = Detector("fast").fit("tests/images/hazelnut/train/good")
    >>> evaluate(detector, "tests/images/hazelnut").metrics["image_auroc"]
    1.0
    """
    if not isinstance(detector, Detector):
        raise UsageError(f"got {type(detector).__name__} as the detector. Give it first, then the images.")
    if isinstance(samples, str | Path):
        samples = detect(samples)
    given = list(samples.test if isinstance(samples, Dataset) else samples)
    if other := next((one for one in given if not isinstance(one, Sample)), None):
        raise UsageError(
            f"got {type(other).__name__} among the images; expected a dataset, its path, or labelled images: "
            "Sample(name, image, kind)."
        )
    samples = [sample for sample in given if sample.kind is not None]
    if not samples:
        raise DataError(
            "There are no labelled images to evaluate on. Expected test/<kind> folders, or a CSV table with a label "
            "column. Images without labels are for `patchcore predict`."
        )
    reading = reading or Reading()
    results = [(result.sample, result) for result in detector.stream(samples, reading=reading, progress=progress)]
    measured = metrics.image_metrics([r.score for _, r in results], [s.kind != GOOD for s, _ in results])
    masked = all(sample.mask is not None for sample, _ in results if sample.kind != GOOD)
    curve, segmentation = None, dict[str, float | None]()
    doubts = [f"{result.name}: {warning}" for _, result in results for warning in result.warnings]
    notes = list[str]()
    if masked and any(sample.mask for sample, _ in results):
        seen = list(_pixels(results, reading, detector.threads, notes))
        curve = metrics.curve_of(pixels for pixels, *_ in seen)
        if not math.isnan(results[0][1].pixel_threshold):
            over = metrics.segmentation(over for _, over, _ in seen)
            marked = metrics.segmentation(mask for _, _, mask in seen)
            segmentation = {f"pixel_{name}_at_threshold": value for name, value in over.items()}
            segmentation |= {f"mask_{name}": value for name, value in marked.items()}
    measured |= metrics.pixel_metrics(curve)
    coverage = min((r.coverage for _, r in results), default=1.0)
    notes = [*_shortened(doubts, "image"), *_shortened(notes, "mask")]
    known = bool(detector.fitted.calibration.parts) and any(sample.part for sample, _ in results)
    of_parts = parts(detector, [r for _, r in results], rule) if known else []
    return Evaluation(
        measured, results, coverage, curve and curve.thinned(), tuple(notes), segmentation, tuple(of_parts)
    )


def _pixels(
    results: list[tuple[Sample, Result]], reading: Reading, threads: int | None, notes: list[str]
) -> Iterator[tuple[metrics.Pixels, Segmented, Segmented]]:
    """Maps against masks, one image to each thread: all pixels, those over the pixel threshold, and those in the mask.

    What is doubtful about masks is appended to `notes`.
    """

    def pixels(one: tuple[Sample, Result]) -> tuple[tuple[metrics.Pixels, Segmented, Segmented], list[str]]:
        (sample, result), doubts = one, list[str]()
        mask = read_mask(sample.mask, result.frame.source, reading.max_pixels, notes=doubts) if sample.mask else None
        over = metrics.segmented(result.map > result.pixel_threshold, mask)
        found = metrics.pixels_of(result.map, mask), over, metrics.segmented(result.mask, mask)
        return found, [] if sample.kind == GOOD else doubts

    for found, doubts in in_order(pixels, results, reading.threads or threads):
        notes += doubts
        yield found


def _shortened(notes: list[str], what: str) -> list[str]:
    """The first notes, and how many there are more."""
    more = f"{len(notes) - _MOST_NOTES} more notes on {what}s." if len(notes) > _MOST_NOTES else None
    return [*notes[:_MOST_NOTES], *([more] if more else [])]
