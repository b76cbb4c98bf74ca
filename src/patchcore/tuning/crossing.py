"""Cross-validation: every candidate on every fold, and what comes out."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from patchcore import silence
from patchcore.data.reading import Reading
from patchcore.detector import Detector
from patchcore.errors import PatchcoreError, UsageError
from patchcore.maths.metrics import share_interval
from patchcore.maths.ranking import auroc_interval, wins
from patchcore.measure.cost import file_size, latency
from patchcore.measure.evaluation import evaluate
from patchcore.tuning.candidates import Candidate
from patchcore.tuning.images import Images

Floats = NDArray[Any]


@dataclass(frozen=True)
class Measured:
    """What the folds gave for one candidate. n good images, m defective ones, k folds."""

    candidate: Candidate
    fold: Floats  # (n,)
    good: Floats  # (n,), each scored by the detector of its fold
    defective: Floats  # (k, m), scored by all of them
    rejected: Floats  # (n,), whether the good image failed
    missed: Floats  # (k, m), whether the defective one passed
    fit_seconds: list[float] = field(default_factory=list)  # (k,) and so on
    milliseconds: list[float] = field(default_factory=list)
    model_mb: list[float] = field(default_factory=list)
    calibration_images: list[int] = field(default_factory=list)

    @property
    def wins(self) -> Floats:
        """(m, n): see `maths.ranking.wins`."""
        return wins(self.good, self.defective, self.fold)

    def figures(self, images: Images) -> Figures:
        """The figures of the candidate, with the intervals that the number of parts allows."""
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
    """A candidate in figures; those that need defective images are None without.

    `auroc` is the mean over folds, by their good images, with its 95 % limits, and `fold_auroc` of each.
    `false_reject_rate`: the share of held-out good images that failed, with its 95 % limits, and the rate that the
    recipe `asked` for. `miss_rate`: the share of defective images that passed. `milliseconds`: the median for one
    image, from path to verdict and map; `fit_seconds`: the mean over folds, each without its own images;
    `model_mb`: what the file will take with all good images (1 MB = 1e6 bytes).
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
    """Fit every candidate on all good images but one fold's, and score those and all defective ones; for each fold.

    `fold` (n,): see `Images.folds`. A defective image is never in a bank, and sets no threshold. All candidates
    take their turn in a fold before the next one begins, so that what slows the machine down slows all of them.
    Errors: UsageError, for a recipe that cannot be used here.
    """
    count, n, m = int(fold.max()) + 1, len(images.good), len(images.defective)
    found = [
        Measured(one, fold, np.zeros(n), np.zeros((count, m)), np.zeros(n, bool), np.zeros((count, m), bool))
        for one in candidates
    ]
    detectors = [
        Detector(one.recipe, device=device, threads=threads, engine=engine, precision=precision) for one in candidates
    ]
    bar = tqdm(
        total=count * len(found), desc="Cross-validating", unit="fit", disable=not progress or sys.stderr is None
    )
    with bar, silence.logs("patchcore"):  # what each fit says of its threshold, the figures say once
        for number in range(count):
            for measured, detector in zip(found, detectors, strict=True):
                bar.set_postfix_str(measured.candidate.name)
                try:
                    _one_fold(measured, detector, images, number, reading or Reading())
                except PatchcoreError as error:
                    raise UsageError(
                        f"The recipe {measured.candidate.name!r} cannot be used here: {error} Mend it, or leave it out."
                    ) from error
                bar.update()
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
    """What the file takes, if there are so many times the images: the bank grows with them, as far as it may."""
    size, grown = file_size(detector), 0.0
    for member in detector.fitted.members:
        bank, most = member.bank, member.recipe.max_rows
        rows = min(len(bank.rows) * more, max(most, len(bank.rows)))
        grown += (rows / len(bank.rows) - 1) * sum(tensor.nbytes for tensor in bank.tensors().values())
    return (size + grown) / 1e6
