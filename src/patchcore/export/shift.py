"""Shift: how far a quantised graph is from its detector, on images that are not in the memory bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from patchcore.data.sample import GOOD, Sample
from patchcore.detector import Detector
from patchcore.errors import ExportError, UsageError, counted
from patchcore.export import parity, quantisation
from patchcore.maths import metrics
from patchcore.maths.thresholds import decide, fit_threshold
from patchcore.model.fitted import Fitted
from patchcore.pipeline.workers import Loaded, say_copies

if TYPE_CHECKING:
    from patchcore_runtime import Model

MAX_AUROC_DROP = 0.005  # default limit for int8
MAX_THRESHOLD_SHIFT = 0.05  # default limit for int8, as a share of the threshold


@dataclass(frozen=True)
class Shift:
    """The effect of quantisation. Pairs are before and after it."""

    calibrated_on: int  # good images that set the ranges of values
    good: int  # good images that it was measured on
    defects: int  # defective images that it was measured on
    threshold: tuple[float, float]  # that these good images would set
    auroc: tuple[float, float] | None  # of the image score; None without defects
    good_failing: tuple[int, int]  # at the detector's threshold
    defects_passing: tuple[int, int]
    verdicts_changed: int
    largest: float  # largest change of a score, as a share of it

    @property
    def threshold_shift(self) -> float:
        """The change of the threshold, as a share of it."""
        before, after = self.threshold
        return (after - before) / before if before > 0 else 0.0 if after == before else float("inf")

    @property
    def auroc_drop(self) -> float | None:
        return None if self.auroc is None else self.auroc[0] - self.auroc[1]

    def check(self, max_auroc_drop: float, max_threshold_shift: float) -> None:
        """Raise ExportError if a limit is exceeded."""
        beyond = []
        if self.auroc_drop is not None and self.auroc_drop > max_auroc_drop:
            limit = f"--max-auroc-drop allows {max_auroc_drop:g}"
            beyond.append(f"the image AUROC drops by {self.auroc_drop:.4f} ({limit})")
        if not abs(self.threshold_shift) <= max_threshold_shift:
            limit = f"--max-threshold-shift allows {max_threshold_shift:g}"
            beyond.append(
                f"the threshold set from good images moves by {self.threshold_shift:+.3f} of its value ({limit})"
            )
        if beyond:
            raise ExportError(
                f"int8 changes this detector too much, so it was not kept: {' and '.join(beyond)}. Measured on {self}. "
                "Use fp16, or fp32 with OpenVINO's bf16 hint at run time; give more images; or raise the limit."
            )

    def figures(self) -> dict[str, Any]:
        """For JSON: pairs are before and after."""
        return {
            "calibrated_on": self.calibrated_on,
            "good": self.good,
            "defects": self.defects,
            "auroc": self.auroc and list(self.auroc),
            "threshold": list(self.threshold),
            "threshold_shift": self.threshold_shift,
            "verdicts_changed": self.verdicts_changed,
            "good_failing": list(self.good_failing),
            "defects_passing": list(self.defects_passing),
            "largest": self.largest,
        }

    def __str__(self) -> str:
        seen = counted(self.good, "good image") + (f", {self.defects} with defects" if self.defects else "")
        auroc = (
            f"image AUROC {self.auroc[0]:.4f} before, {self.auroc[1]:.4f} after"
            if self.auroc
            else "image AUROC not measured without defects (--test DATA)"
        )
        return (
            f"{seen}: {auroc}; threshold shift {self.threshold_shift:+.1%}; "
            f"{counted(self.verdicts_changed, 'verdict')} changed (good ones that fail: {_pair(self.good_failing)}"
            + (f"; defects that pass: {_pair(self.defects_passing)}" if self.defects else "")
            + f"); largest change of a score {self.largest:.1%}"
        )


def _pair(numbers: tuple[int, int]) -> str:
    return f"{numbers[0]} before, {numbers[1]} after"


@dataclass(frozen=True)
class Trial:
    """The images for int8: good ones to quantise with, and labelled ones to measure on."""

    good: list[Sample]
    labelled: list[Sample]
    static: tuple[int, int] | None
    value_ranges: dict[str, list[float]]

    @classmethod
    def of(
        cls,
        given: list[Sample] | None,
        test: Sequence[Sample] | None,
        fitted: Fitted,
        static: tuple[int, int] | None,
    ) -> Trial:
        """`test`: labelled samples. Errors: UsageError if there are too few; ImageError."""
        if not given:
            raise UsageError(
                "precision='int8' needs good images to quantise with, and a detector file contains none. Give those of "
                "`fit` or others: --images DIR. Without any, use fp16, or fp32 with OpenVINO's bf16 hint at run time."
            )
        marks = dict[int, bytes]()

        def digest(one: Sample) -> bytes:  # fails before the work if an image cannot be used
            if id(one) not in marks:
                marks[id(one)] = Loaded(one, parity.pixels_of(one, static)).digest
            return marks[id(one)]

        good, new = split(given, fitted, digest)
        say_copies(len(given) - len(good) - len(new), len(given))
        labelled = [replace(one, kind=GOOD) for one in new]
        if test is not None:
            known = {digest(one) for one in (*good, *new)}  # a copy of a good one tells nothing more
            for one in test:
                if one.kind is not None and (one.kind != GOOD or digest(one) not in known):
                    labelled.append(one)
                    known.add(digest(one))
        if not any(one.kind == GOOD for one in labelled):
            raise UsageError(
                "precision='int8' is measured on good images that are not in the memory bank, but all "
                f"{len(given)} given ones are. Give more good images (--images), or labelled ones (--test)."
            )
        return cls(good, labelled, static, parity.value_ranges(fitted.recipe.value_range))

    @property
    def counts(self) -> tuple[str, str]:
        """The numbers of images to quantise with and to measure on, in words."""
        return counted(self._used, "good image"), counted(len(self.labelled), "image")

    @property
    def _used(self) -> int:
        return min(len(self.good), quantisation.MOST)

    def quantise(self, path: Path) -> None:
        """Quantise the backbone in an ONNX file, in place."""
        quantisation.quantise(path, self.good, self._inputs)

    def _inputs(self, sample: Sample) -> quantisation.Inputs:
        pixels = self._read(sample)
        bounds = np.array(self.value_ranges[str(pixels.dtype)], dtype=np.float32)
        return {"image": pixels[None].astype(np.float32), "value_range": bounds}

    def _read(self, sample: Sample) -> NDArray[Any]:
        return parity.pixels_of(sample, self.static)

    def measure(self, detector: Detector, model: Model) -> Shift:
        """Compare the library (before) and the graph (after) on the labelled images."""
        calibration = detector.fitted.calibration
        rate, limits = calibration.false_reject_rate, (calibration.threshold, calibration.lower_threshold)
        bad, found = [], []
        for sample in self.labelled:
            pixels = self._read(sample)
            bad.append(sample.kind != GOOD)
            found.append((detector.predict(pixels).score, float(model.run(pixels[None])["score"][0])))
        both = list(zip(*found, strict=True))
        verdicts = [[decide(score, *limits) for score in scores] for scores in both]
        aurocs = [metrics.image_metrics(scores, bad)["image_auroc"] for scores in both]
        ranks = [
            fit_threshold([s for s, defect in zip(scores, bad, strict=True) if not defect], rate)[0] for scores in both
        ]

        def count(defect: bool, verdict: str) -> tuple[int, int]:
            before, after = (
                sum(own == verdict and d is defect for own, d in zip(one, bad, strict=True)) for one in verdicts
            )
            return before, after

        return Shift(
            calibrated_on=self._used,
            good=bad.count(False),
            defects=bad.count(True),
            threshold=(ranks[0], ranks[1]),
            auroc=None if aurocs[0] is None or aurocs[1] is None else (aurocs[0], aurocs[1]),
            good_failing=count(False, "fail"),
            defects_passing=count(True, "pass"),
            verdicts_changed=sum(a != b for a, b in zip(*verdicts, strict=True)),
            largest=max(abs(after - before) / max(before, 1e-30) for before, after in found),
        )


def split(
    found: Sequence[Sample], fitted: Fitted, digest: Callable[[Sample], bytes] | None = None
) -> tuple[list[Sample], list[Sample]]:
    """Split good images into those in the memory bank, to quantise with, and the others, to measure on.

    An image in the bank is no measure: its distance is nearly 0 before quantisation, and pure noise after it. Images
    are identified by name. If none is in the bank, every other image is measured on. With `digest`, of images that have
    the same, which are copies, only those in the bank or else the first one are used: none is on both sides.
    """
    remembered: set[str] = set()
    for member in fitted.members:
        numbers = member.bank.origins[:, 0].unique().tolist()
        of_rows = [fitted.images[i] for i in numbers if 0 <= i < len(fitted.images)]
        remembered.update(fitted.images if numbers == [-1] else of_rows)  # -1: which one is not known
    ends = {end for name in remembered for end in _ends(name)}
    seen, new = list[Sample](), list[Sample]()
    for one in found:
        (seen if one.name in ends or not remembered.isdisjoint(_ends(one.name)) else new).append(one)
    if digest:
        known, first = set(map(digest, seen)), dict[bytes, Sample]()
        for one in new:
            first.setdefault(digest(one), one)
        new = [one for mark, one in first.items() if mark not in known]
    return (seen, new) if seen else (new[::2], new[1::2])


def _ends(name: str) -> list[str]:
    """`a/b.png` and `b.png`: the names of an image relative to different folders."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]
