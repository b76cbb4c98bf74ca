"""Cross-validation: fit and measure every candidate on every fold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore import silence
from patchcore.data.reading import Reading
from patchcore.detector import Detector
from patchcore.errors import PatchcoreError, UsageError
from patchcore.maths.metrics import share_interval
from patchcore.maths.ranking import auroc_interval, wins
from patchcore.measure.cost import file_size, latency
from patchcore.measure.evaluation import evaluate
from patchcore.pipeline.workers import progress_bar
from patchcore.tuning.candidates import Candidate
from patchcore.tuning.images import Images

Floats = NDArray[Any]


@dataclass(frozen=True)
class Measured:
    """The results of one candidate on n good images and m defective ones, in k folds."""

    candidate: Candidate
    fold: Floats  # (n,)
    good: Floats  # (n,): scores of the good images, each held out in its fold
    defective: Floats  # (k, m): scores of the defective images in each fold
    rejected: Floats  # (n,): whether the good image failed
    missed: Floats  # (k, m): whether the defective image passed
    fit_seconds: list[float] = field(default_factory=list)  # this and the following: one for each fold
    milliseconds: list[float] = field(default_factory=list)
    model_mb: list[float] = field(default_factory=list)
    calibration_images: list[int] = field(default_factory=list)

    @property
    def wins(self) -> Floats:
        """(m, n): see `maths.ranking.wins`."""
        return wins(self.good, self.defective, self.fold)

    def figures(self, images: Images) -> Figures:
        """The figures of the candidate, with confidence limits from the number of parts."""
        parts, defects = len(set(images.units)), len(set(images.defective_units))
        rejected = float(self.rejected.mean())
        won = self.wins
        auroc = float(won.mean()) if defects else None
        low, high = (None, None) if auroc is None else auroc_interval(auroc, defects, parts)
        folds = [float(won[:, self.fold == fold].mean()) for fold in range(len(self.defective))] if defects else []
        return Figures(
            self.candidate.name,
            auroc,
            low,
            high,
            tuple(folds),
            rejected,
            *share_interval(round(rejected * parts), parts),
            self.candidate.recipe.false_reject_rate,
            float(self.missed.mean()) if defects else None,
            statistics.median(self.milliseconds),
            statistics.fmean(self.fit_seconds),
            statistics.fmean(self.model_mb),
            min(self.calibration_images),
        )


@dataclass(frozen=True)
class Figures:
    """The figures of a candidate. Values with _low and _high are 95 % limits.

    Attributes:
        recipe: Name of the candidate.
        auroc: Mean AUROC over folds, weighted by their good images; None without defective images.
        fold_auroc: AUROC of each fold.
        false_reject_rate: Share of held-out good images that failed.
        asked: False-reject rate that the recipe asks for.
        miss_rate: Share of defective images that passed; None without defective images.
        milliseconds: Median time for one image, from path to verdict and map.
        fit_seconds: Mean time of a fit over folds.
        model_mb: Expected size of the file when fitted on all good images (1 MB = 1e6 bytes).
        calibration_images: Fewest good images that set a threshold in a fold.
    """

    recipe: str
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    fold_auroc: tuple[float, ...]
    false_reject_rate: float
    false_reject_low: float
    false_reject_high: float
    asked: float
    miss_rate: float | None
    milliseconds: float
    fit_seconds: float
    model_mb: float
    calibration_images: int


def cross_validate(
    candidates: Sequence[Candidate],
    images: Images,
    fold: Floats,
    *,
    device: str = "auto",
    threads: int | None = None,
    engine: str = "torch",
    precision: str = "fp32",
    reading: Reading | None = None,
    progress: bool = False,
) -> list[Measured]:
    """For each fold, fit every candidate on the other folds, and score the fold's good images and all defective ones.

    A defective image is never in a memory bank and never sets a threshold. All candidates run on one fold before the
    next begins, so that a slow phase of the machine affects all of them. Errors: UsageError for an unusable recipe.

    Args:
        candidates: The recipes to compare.
        images: Good and defective images, from `gather`.
        fold: The fold of each good image (n,), from `Images.folds`.
        device, threads, engine, precision: As for `Detector`.
        reading: How to read images.
        progress: Whether to show a progress bar.
    """
    count, n, m = int(fold.max()) + 1, len(images.good), len(images.defective)
    found = [
        Measured(one, fold, np.zeros(n), np.zeros((count, m)), np.zeros(n, bool), np.zeros((count, m), bool))
        for one in candidates
    ]
    detectors = [
        Detector(one.recipe, device=device, threads=threads, engine=engine, precision=precision) for one in candidates
    ]
    title = "Cross-validating" if progress else None
    bar = progress_bar(title, "fit", count * len(found))
    with bar as advance, silence.logs("patchcore"):  # the figures summarise what each fit logs
        for number in range(count):
            for measured, detector in zip(found, detectors, strict=True):
                advance(0, measured.candidate.name)
                try:
                    _one_fold(measured, detector, images, number, reading or Reading())
                except PatchcoreError as error:
                    raise UsageError(
                        f"The recipe {measured.candidate.name!r} cannot be used here: {error} Change it, or omit it."
                    ) from error
                advance(1)
    return found


def _one_fold(measured: Measured, detector: Detector, images: Images, number: int, reading: Reading) -> None:
    held = measured.fold == number
    learned = [sample for sample, out in zip(images.good, held, strict=True) if not out]
    begin = time.perf_counter()
    detector.fit(learned, reading=reading)
    measured.fit_seconds.append(time.perf_counter() - begin)
    unseen = [sample for sample, out in zip(images.good, held, strict=True) if out]
    results = [r for _, r in evaluate(detector, [*unseen, *images.defective], reading=reading).results]
    measured.good[held] = [r.score for r in results[: len(unseen)]]
    measured.rejected[held] = [r.decision == "fail" for r in results[: len(unseen)]]
    measured.defective[number] = [r.score for r in results[len(unseen) :]]
    measured.missed[number] = [r.decision == "pass" for r in results[len(unseen) :]]
    measured.milliseconds.append(1000 * latency(detector, [*unseen, *images.defective], reading))
    measured.model_mb.append(_model_mb(detector, len(images.good) / len(learned)))
    measured.calibration_images.append(len(detector.fitted.calibration.scores))


def _model_mb(detector: Detector, more: float) -> float:
    """Size of the file with `more` times the images; banks over `min_rows` grow in proportion, up to `max_rows`."""
    size, grown = file_size(detector), 0.0
    for member in detector.fitted.members:
        bank, recipe = member.bank, member.recipe
        most = recipe.min_rows if len(bank.rows) <= recipe.min_rows else recipe.max_rows
        rows = min(len(bank.rows) * more, max(most, len(bank.rows)))
        grown += (rows / len(bank.rows) - 1) * sum(tensor.nbytes for tensor in bank.tensors().values())
    return (size + grown) / 1e6
