"""The page: an evaluation with curves and images, as HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchcore.data.reading import MAX_PIXELS
from patchcore.data.sample import GOOD, Sample
from patchcore.detector import Detector
from patchcore.errors import DataError, ImageError, MissingExtraError, counted
from patchcore.files import appearing
from patchcore.maths import metrics
from patchcore.measure.evaluation import Evaluation
from patchcore.model import file, store
from patchcore.oversight.sources import Sources
from patchcore.report import charts, images
from patchcore.result import Result

try:
    import jinja2
except ImportError:
    raise MissingExtraError("jinja2", "report", "A report") from None

_MOST_NAMES = 500  # at most this many unreadable images are listed


def write(path: str | Path, page: str) -> None:
    """Write a page to a file, whole or not at all. Errors: StoreError if its folder does not exist."""
    with appearing(path) as temporary:
        # A file name may contain bytes that are not text; they become question marks.
        temporary.write_bytes(page.encode("utf-8", "replace"))


def render(
    detector: Detector,
    evaluation: Evaluation,
    *,
    title: str = "Detector report",
    data: str = "",
    made: str = "",
    sha256: str = "",
    bad: Sequence[ImageError] = (),
    sources: Sources | None = None,
    limit: int = 6,
    max_pixels: int = MAX_PIXELS,
) -> str:
    """The HTML of a report. It has no scripts, and loads nothing. Errors: DataError if nothing was measured.

    Args:
        detector: The detector that was evaluated.
        evaluation: Its evaluation.
        title: Heading of the page.
        data: The data, in one line.
        made: Date of the report.
        sha256: SHA-256 of the detector's file.
        bad: The images that could not be read.
        sources: Where to find training images, for the nearest good patches.
        limit: Number of images in each of the two galleries.
        max_pixels: Largest image to decode, in pixels.
    """
    if not evaluation.results:
        raise DataError("There is nothing to report on: no labelled image could be read.")
    parts = _Parts(evaluation)
    cards = {
        kind: [
            images.card(detector, sample, result, sources or Sources(), wrong(result), max_pixels)
            for sample, result in found[:limit]
        ]
        for kind, found, wrong in (("defective", parts.hardest, _missed), ("good", parts.most_suspicious, _rejected))
    }
    page = (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            data=data,
            made=made,
            sha256=sha256,
            parts=parts,
            metrics=evaluation.metrics,
            missing=evaluation.missing(),
            coverage=evaluation.coverage,
            calibration=detector.fitted.calibration,
            histogram=parts.histogram(),
            curves=parts.curves(),
            kinds=parts.kinds(),
            part_kinds=evaluation.part_confusion(),
            cards=cards,
            scale=images.scale(),
            bad=bad[:_MOST_NAMES],
            bad_count=len(bad),
            about=_about(detector),
            counted=counted,
            versions=store.versions(),
            recipe=[(name, json.dumps(value, ensure_ascii=False)) for name, value in detector.recipe.to_dict().items()],
        )
    )
    return str(page)


def environment() -> jinja2.Environment:
    """What makes pages from templates in this folder."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_unbroken,
    )
    found.filters |= {"number": _number, "percent": _percent, "isnan": math.isnan}
    return found


def _unbroken(value: object) -> object:
    """A number stays on one line with its percent sign."""
    return value.replace(" %", "\N{NO-BREAK SPACE}%") if isinstance(value, str) else value


def _missed(result: Result) -> bool:
    return result.decision == "pass"


def _rejected(result: Result) -> bool:
    return result.decision == "fail"


@dataclass(frozen=True)
class Share:
    """A count of a total, with confidence limits for the true share."""

    count: int
    total: int

    @property
    def text(self) -> str:
        """`3 of 40 (7.5 %; 95 % confidence: 2.58 % to 19.9 %)`."""
        if not self.total:
            return "none of this kind"
        low, high = metrics.share_interval(self.count, self.total)
        share = _percent(self.count / self.total)
        return f"{self.count} of {self.total} ({share}; 95 % confidence: {_percent(low)} to {_percent(high)})"


class _Parts:
    """An evaluation, arranged for the page."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.good = [(s, r) for s, r in evaluation.results if s.kind == GOOD]
        self.defective = [(s, r) for s, r in evaluation.results if s.kind != GOOD]
        self.threshold = evaluation.results[0][1].threshold
        self.hardest = sorted(self.defective, key=lambda one: one[1].score)
        self.most_suspicious = sorted(self.good, key=lambda one: -one[1].score)
        self.missed = Share(sum(_missed(r) for _, r in self.defective), len(self.defective))
        self.rejected = Share(sum(_rejected(r) for _, r in self.good), len(self.good))
        self.milliseconds = 1000 * float(np.median([r.seconds for _, r in evaluation.results]))

    def confusion(self) -> list[tuple[str, dict[str, int]]]:
        """Verdicts of good and of defective images."""
        return [
            (name, {verdict: sum(r.decision == verdict for _, r in found) for verdict in ("pass", "unsure", "fail")})
            for name, found in (("good", self.good), ("defective", self.defective))
        ]

    def kinds(self) -> list[dict[str, Any]]:
        """A row for each kind of image: its verdicts, its median score, and its AUROC against good images."""
        rows = []
        good = _scores(self.good)
        for kind, verdicts in self.evaluation.confusion().items():
            scores = _scores([(s, r) for s, r in self.defective if s.kind == kind]) if kind != GOOD else good
            auroc = None
            if kind != GOOD:
                both = [False] * len(good) + [True] * len(scores)
                auroc = metrics.image_metrics([*good, *scores], both)["image_auroc"]
            right = verdicts["pass" if kind == GOOD else "fail"] / len(scores)
            rows.append(
                {
                    "kind": kind,
                    "images": len(scores),
                    **verdicts,
                    "right": right,
                    "median": float(np.median(scores)),
                    "auroc": auroc,
                }
            )
        return rows

    def histogram(self) -> charts.Histogram:
        about = "; ".join(
            f"{counted(len(found), f'{name} image')} with scores from {_number(min(_scores(found)))} to "
            f"{_number(max(_scores(found)))}, median {_number(float(np.median(_scores(found))))}"
            for name, found in (("good", self.good), ("defective", self.defective))
            if found
        )
        end, lower = f"threshold {_number(self.threshold)}", self.evaluation.results[0][1].lower_threshold
        if math.isnan(self.threshold):
            end = "no threshold"
        elif lower is not None:
            end += f", unsure above {_number(lower)}"
        return charts.histogram(_scores(self.good), _scores(self.defective), self.threshold, f"{about}; {end}.", lower)

    def curves(self) -> list[charts.Curve]:
        """ROC and PR if there are good and defective images; PRO if all defective ones have masks."""
        drawn = []
        figures = self.evaluation.metrics
        if figures["image_auroc"] is not None:
            defective = np.array([s.kind != GOOD for s, _ in self.evaluation.results])
            scores = np.array(_scores(self.evaluation.results))
            drawn += self._image_curves(scores, defective)
        if figures["aupro_30"] is not None and self.evaluation.pixel_curve is not None:
            false_rate, overlap = metrics.pro_curve(self.evaluation.pixel_curve)
            at = [float(np.interp(limit, false_rate, overlap)) for limit in (0.05, 0.3)]
            drawn.append(
                charts.curve(
                    "PRO: regions of defects covered",
                    "false-positive rate of pixels, up to 0.3",
                    "mean overlap per region",
                    false_rate,
                    overlap,
                    x_high=0.3,
                    limits=(0.05,),
                    about=f"Mean overlap per region is {at[0]:.3f} at a false-positive rate of 0.05 and {at[1]:.3f} at "
                    f"0.3. Areas below: {_number(figures['aupro_05'])} and {_number(figures['aupro_30'])}.",
                )
            )
        return drawn

    def _image_curves(self, scores: charts.Floats, defective: charts.Floats) -> list[charts.Curve]:
        figures, here = self.evaluation.metrics, not math.isnan(self.threshold)
        failed, rejected = sum(_rejected(r) for _, r in self.defective), self.rejected.count
        found, false_rate = failed / len(self.defective), rejected / len(self.good)
        roc = metrics.roc(scores, defective)
        precision, recall = metrics.precision_recall(scores, defective)
        right = failed / (failed + rejected) if failed + rejected else 1.0
        prevalence = float(defective.mean())
        at_roc = f" At the threshold: {found:.3f} of defects found, {false_rate:.3f} of good rejected." if here else ""
        at_pr = f" At the threshold: recall {found:.3f}, precision {right:.3f}." if here else ""
        return [
            charts.curve(
                "ROC: defects found against false alarms",
                "good images rejected",
                "defects found",
                roc.false_positive_rate,
                roc.true_positive_rate,
                chance=(np.array([0, 1]), np.array([0, 1])),
                marker=(false_rate, found) if here else None,
                about=f"Area below: {_number(figures['image_auroc'])}.{at_roc}",
            ),
            charts.curve(
                "Precision and recall",
                "recall: defects found",
                "precision: rejects that are defects",
                recall,
                precision,
                chance=(np.array([0, 1]), np.array([prevalence, prevalence])),
                marker=(found, right) if here else None,
                about=f"Average precision: {_number(figures['image_ap'])}.{at_pr}",
            ),
        ]


def _scores(found: Sequence[tuple[Sample, Result]]) -> list[float]:
    return [result.score for _, result in found]


def _about(detector: Detector) -> list[tuple[str, str]]:
    """Properties of the detector, as rows of a table."""
    head: dict[str, Any] = file.header(detector.fitted)
    rows = []
    for member in head.get("members") or [head]:
        source, bank = member["backbone"]["source"], member["bank"]
        rows += [
            ("Backbone", f"{source['architecture']}, taps {', '.join(member['backbone']['taps'])}"),
            ("Weights", f"{source['weights']}, licence {source['licence']}, SHA-256 {member['backbone']['sha256']}"),
            ("Memory bank", f"{counted(bank['rows'], 'patch', 'patches')} of {bank['dimensions']} values"),
        ]
    calibration = detector.fitted.calibration
    return [
        *rows,
        ("Learned from", counted(head["data"]["images"], "image")),
        ("Fingerprint of these images (SHA-256)", head["data"]["sha256"]),
        ("Threshold", _number(calibration.threshold)),
        ("Pixel threshold", _number(calibration.pixel_threshold)),
        ("Ran on", f"{detector.device}, {detector.engine}, {detector.precision}"),
    ]


def _number(value: float | None) -> str:
    return (
        "\N{EN DASH}" if value is None or math.isnan(value) else f"{value:.4f}" if abs(value) < 100 else f"{value:.6g}"
    )


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{100 * value:.3g} %"
