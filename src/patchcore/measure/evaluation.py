"""Evaluation: a detector against labelled images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from patchcore.data.masks import read_mask
from patchcore.data.reading import Reading
from patchcore.data.sample import GOOD, Sample
from patchcore.detector import Detector
from patchcore.errors import DataError
from patchcore.maths import metrics
from patchcore.maths.metrics import PixelCurve
from patchcore.pipeline.workers import in_order
from patchcore.result import Result

_MOST_NOTES = 5


@dataclass(frozen=True)
class Evaluation:
    """The metrics of an evaluation (None where the data does not allow one), and the results behind them."""

    metrics: dict[str, float | None]
    results: list[tuple[Sample, Result]]
    coverage: float  # smallest share of an image inside the recipe's crop
    pixel_curve: PixelCurve | None = None  # thinned, for drawing
    notes: tuple[str, ...] = ()  # what is doubtful about masks and images, for people

    def confusion(self) -> dict[str, dict[str, int]]:
        """How often each kind of image got each verdict."""
        table: dict[str, dict[str, int]] = {}
        for sample, result in self.results:
            row = table.setdefault(str(sample.kind), {"pass": 0, "unsure": 0, "fail": 0})
            row[result.decision] += 1
        return dict(sorted(table.items(), key=lambda item: (item[0] != GOOD, item[0])))

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
        """The metrics, `images`, `coverage`, `false_reject_rate` and `miss_rate`, as the commands print them.

        The two rates are the share of good images that fail, and of defective images that pass. They are None
        without such images, or without a threshold.
        """
        confusion = self.confusion()
        good = confusion.pop(GOOD, {})
        defects = {verdict: sum(row[verdict] for row in confusion.values()) for verdict in ("pass", "unsure", "fail")}
        return {
            **self.metrics,
            "images": len(self.results),
            "coverage": self.coverage,
            "false_reject_rate": _share(good, "fail"),
            "miss_rate": _share(defects, "pass"),
        }


def _share(row: dict[str, int], verdict: str) -> float | None:
    """The share of a verdict; None without images or without a threshold."""
    total = sum(row.values())
    return row[verdict] / total if total > row.get("unsure", 0) else None


def evaluate(
    detector: Detector, samples: Iterable[Sample], *, reading: Reading | None = None, progress: bool = False
) -> Evaluation:
    """Measure a detector on labelled images.

    Pixel metrics are computed at the size of the masks, and need a mask for every defective image. Every pixel of a
    good image counts as good; pixels outside the recipe's crop are left out. Errors: DataError, ImageError.

    Args:
        detector: A fitted detector.
        samples: Labelled images; those without a label are ignored.
        reading: How to read images, and what to do with unreadable ones.
        progress: Whether to show a progress bar.

    >>> from patchcore import Detector, detect, evaluate
    >>> detector = Detector("fast").fit("tests/images/hazelnut/train/good")
    >>> evaluate(detector, detect("tests/images/hazelnut").test).metrics["image_auroc"]
    1.0
    """
    samples = [sample for sample in samples if sample.kind is not None]
    if not samples:
        raise DataError(
            "There are no labelled images to evaluate on. Expected test/<kind> folders, or a CSV table with a label "
            "column. Images without labels are for `patchcore predict`."
        )
    reading = reading or Reading()
    results = [(result.sample, result) for result in detector.stream(samples, reading=reading, progress=progress)]
    measured = metrics.image_metrics([r.score for _, r in results], [s.kind != GOOD for s, _ in results])
    masked = all(sample.mask is not None for sample, _ in results if sample.kind != GOOD)
    curve, doubts = None, [f"{result.name}: {warning}" for _, result in results for warning in result.warnings]
    notes = list[str]()
    if masked and any(sample.mask for sample, _ in results):
        curve = metrics.curve_of(_pixels(results, reading, detector.threads, notes))
    measured |= metrics.pixel_metrics(curve)
    coverage = min((r.coverage for _, r in results), default=1.0)
    notes = [*_shortened(doubts, "image"), *_shortened(notes, "mask")]
    return Evaluation(measured, results, coverage, curve and curve.thinned(), tuple(notes))


def _pixels(
    results: list[tuple[Sample, Result]], reading: Reading, threads: int | None, notes: list[str]
) -> Iterator[metrics.Pixels]:
    """Maps against masks, one image to each thread. What is doubtful about masks is appended to `notes`."""

    def pixels(one: tuple[Sample, Result]) -> tuple[metrics.Pixels, list[str]]:
        (sample, result), doubts = one, list[str]()
        mask = read_mask(sample.mask, result.frame.source, reading.max_pixels, notes=doubts) if sample.mask else None
        return metrics.pixels_of(result.map, mask), [] if sample.kind == GOOD else doubts

    for found, doubts in in_order(pixels, results, reading.threads or threads):
        notes += doubts
        yield found


def _shortened(notes: list[str], what: str) -> list[str]:
    """The first notes, and how many there are more."""
    more = f"{len(notes) - _MOST_NOTES} more notes on {what}s." if len(notes) > _MOST_NOTES else None
    return [*notes[:_MOST_NOTES], *([more] if more else [])]
