"""How well scores and maps agree with labels and masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from patchcore.errors import UsageError

Floats = NDArray[Any]


def image_metrics(scores: Sequence[float], defective: Sequence[bool]) -> dict[str, float | None]:
    """`image_auroc`, `image_ap`, `image_f1_max`; None where only one class is present."""
    if len(set(defective)) < 2:
        return {"image_auroc": None, "image_ap": None, "image_f1_max": None}
    precision, recall, _ = precision_recall_curve(defective, scores)
    return {
        "image_auroc": float(roc_auc_score(defective, scores)),
        "image_ap": float(average_precision_score(defective, scores)),
        "image_f1_max": float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()),
    }


@dataclass(frozen=True)
class PixelCurve:
    """Counts at every distinct value of the maps, taken as a threshold, from the highest down.

    `true` and `false`: pixels at or above it inside and outside the masks. `overlap`: the mean,
    over the connected regions of the masks, of the share of the region at or above it.
    """

    true: Floats
    false: Floats
    overlap: Floats

    def thinned(self, steps: int = 1000) -> PixelCurve:
        """The same curve with at most about 2 * `steps` points: enough to draw it, too few to measure with."""
        false_rate, overlap = (np.floor(steps * values) for values in pro_curve(self))
        # Both rates only grow: a point that moves neither by a whole step adds nothing to a drawing.
        kept = (np.diff(false_rate) > 0) | (np.diff(overlap) > 0)
        kept[-1] = True
        return PixelCurve(self.true[kept], self.false[kept], self.overlap[kept])


def pro_curve(curve: PixelCurve) -> tuple[Floats, Floats]:
    """False positive rate and per-region overlap at falling thresholds, both from 0 (Bergmann et al., IJCV 2021)."""
    return np.append(0, curve.false / max(curve.false[-1], 1)), np.append(0, curve.overlap)


def pixel_curve(maps: Iterable[Floats], masks: Iterable[NDArray[np.bool_] | None]) -> PixelCurve:
    """All pixels of all maps (H, W) against their masks (H, W), in one sort. NaN is left out.

    A mask of None has no defect in it.

    Regions are 8-connected. A region that a crop hides in part counts with what is left of it.
    """
    values, weights = [], []
    regions = 0
    for values_2d, mask in zip(maps, masks, strict=True):
        shown = ~np.isnan(values_2d)
        # Regions are found in the whole mask: what a crop hides must not cut one in two.
        labels, _ = ndimage.label(np.zeros_like(shown) if mask is None else mask, structure=np.ones((3, 3)))
        sizes = np.bincount(labels[shown])
        regions += int((sizes[1:] > 0).sum())
        share = np.divide(1.0, sizes, where=sizes > 0, out=np.zeros(len(sizes)))
        share[0] = 0  # outside every region
        values.append(values_2d[shown].astype(np.float32))
        weights.append(share[labels[shown]])
    value, weight = np.concatenate(values), np.concatenate(weights)
    order = np.argsort(-value)
    value, weight = value[order], weight[order]
    ends = np.append(np.flatnonzero(np.diff(value)), len(value) - 1)  # the last of each run of equals
    true = np.cumsum(weight > 0)[ends]
    return PixelCurve(true, ends + 1 - true, np.cumsum(weight)[ends] / max(regions, 1))


def pixel_metrics(curve: PixelCurve | None) -> dict[str, float | None]:
    """`pixel_auroc`, `pixel_f1_max`, `aupro_30`, `aupro_05`; None where only one class is present."""
    if curve is None or not curve.true[-1] or not curve.false[-1]:
        return dict.fromkeys(("pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05"))
    positives = curve.true[-1]
    false_rate, overlap = pro_curve(curve)
    true_rate = np.append(0, curve.true / positives)
    return {
        "pixel_auroc": float(np.trapezoid(true_rate, false_rate)),
        "pixel_f1_max": float((2 * curve.true / (curve.true + curve.false + positives)).max()),
        "aupro_30": _area_below(false_rate, overlap, 0.3),
        "aupro_05": _area_below(false_rate, overlap, 0.05),
    }


def _area_below(false_rate: Floats, overlap: Floats, limit: float) -> float:
    """Area under the per-region overlap up to a false positive rate, as a share of the largest.

    The point at the limit itself is interpolated (Bergmann et al., IJCV 2021).
    """
    inside = false_rate <= limit
    x = np.append(false_rate[inside], limit)
    y = np.append(overlap[inside], np.interp(limit, false_rate, overlap))
    return float(np.trapezoid(y, x) / limit)


@dataclass(frozen=True)
class Roc:
    """The receiver operating characteristic: rates at falling thresholds, and the area below."""

    auroc: float
    false_positive_rate: Floats
    true_positive_rate: Floats
    thresholds: Floats


def roc(scores: Floats, defective: Floats) -> Roc:
    """Of scores (N,) against labels (N,), of which both kinds must be there. Errors: UsageError."""
    _both_kinds(defective)
    false_rate, true_rate, thresholds = roc_curve(defective, scores)
    return Roc(float(roc_auc_score(defective, scores)), false_rate, true_rate, thresholds)


def precision_recall(scores: Floats, defective: Floats) -> tuple[Floats, Floats]:
    """Precision and recall at rising thresholds, the last point being (1, 0). Errors: UsageError."""
    _both_kinds(defective)
    precision, recall, _ = precision_recall_curve(defective, scores)
    return precision, recall


def share_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Between what limits the true share may lie when `count` of `total` were seen: Wilson's score interval (1927)."""
    interval = stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def best_f1(scores: Floats, defective: Floats) -> tuple[float, float, float]:
    """The threshold of the highest F1, and the false-positive and false-negative rates at or above it.

    Each rate is a share of its own kind: of the good, and of the defective. Errors: UsageError.
    """
    defective = np.asarray(defective, bool)
    _both_kinds(defective)
    precision, recall, thresholds = precision_recall_curve(defective, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    threshold = thresholds[f1[:-1].argmax()]  # the last point, of no positives, has no threshold
    above = np.asarray(scores) >= threshold
    return float(threshold), float(above[~defective].mean()), float((~above[defective]).mean())


def _both_kinds(defective: Floats) -> None:
    if len(np.unique(defective)) < 2:
        raise UsageError("All labels are the same; a rate needs good and defective ones.")
