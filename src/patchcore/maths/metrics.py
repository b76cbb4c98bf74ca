"""How well scores and maps agree with labels and masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
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
    """Counts at falling thresholds, wherever the curve turns: just above and at each value of a defective pixel, and
    last at the lowest value of all.

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


class Pixels(NamedTuple):
    """The pixels of one map: values of the good ones; of the defective ones the value, and the share that each has of
    its region; and how many regions there are."""

    good: Floats
    defective: Floats
    shares: Floats
    regions: int


def pixels_of(anomaly_map: Floats, mask: NDArray[np.bool_] | None) -> Pixels:
    """The pixels of a map (H, W), by its mask (H, W); NaN is left out, and a mask of None has no defect in it."""
    from scipy import ndimage

    shown = ~np.isnan(anomaly_map)
    values = anomaly_map[shown].astype(np.float32)
    if mask is None or not mask.any():
        return Pixels(values, values[:0], np.empty(0), 0)
    # Regions are found in the whole mask: what a crop hides must not cut one in two.
    labels = ndimage.label(mask, structure=np.ones((3, 3)))[0][shown]
    inside, sizes = labels > 0, np.bincount(labels, minlength=1)
    return Pixels(values[~inside], values[inside], 1 / sizes[labels[inside]], int((sizes[1:] > 0).sum()))


def pixel_curve(maps: Iterable[Floats], masks: Iterable[NDArray[np.bool_] | None]) -> PixelCurve:
    """All pixels of all maps (H, W) against their masks (H, W). NaN is left out.

    A mask of None has no defect in it.

    Regions are 8-connected. A region that a crop hides in part counts with what is left of it.
    """
    return curve_of(pixels_of(*both) for both in zip(maps, masks, strict=True))


def curve_of(images: Iterable[Pixels]) -> PixelCurve:
    """The same, from the pixels of each map. Of the good ones only the order is needed: one plain sort."""
    goods, defectives, shares, regions = zip(*images, strict=True)
    good, value, share = np.concatenate(goods), np.concatenate(defectives), np.concatenate(shares)
    good.sort()
    order = np.argsort(-value)
    value, share = value[order], share[order]
    ends = np.flatnonzero(np.diff(value, append=np.nan))  # the last of each run of equals
    true, overlap = np.append(0, ends + 1), np.append(0.0, np.cumsum(share)[ends] / max(sum(regions), 1))
    above, at = (len(good) - np.searchsorted(good, value[ends], side) for side in ("right", "left"))
    # Good pixels alone lead to just above each value; there the defective ones come, and good ones of the same value.
    false = np.append(np.stack([above, at], 1), len(good))
    true, overlap = (np.append(np.stack([some[:-1], some[1:]], 1), some[-1]) for some in (true, overlap))
    moves = np.diff(true + false, prepend=0) > 0
    return PixelCurve(true[moves], false[moves], overlap[moves])


class Segmented(NamedTuple):
    """Pixels of an image, or of many: counts, summed over its true regions their shares, and how many regions.

    `found`: those that were marked as defective; `true`: those that are; `both`.
    """

    found: int
    true: int
    both: int
    covered: float
    regions: int


def segmented(found: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> Segmented:
    """What was marked (H, W) against a mask (H, W), or against none, which has no defect in it."""
    from scipy import ndimage

    if mask is None or not mask.any():
        return Segmented(int(found.sum()), 0, 0, 0.0, 0)
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    shares = ndimage.mean(found, labels, range(1, count + 1))
    return Segmented(int(found.sum()), int(mask.sum()), int((found & mask).sum()), float(np.sum(shares)), count)


def segmentation(images: Iterable[Segmented]) -> dict[str, float | None]:
    """Over all pixels of all images: `f1`, of what was marked; `overlap`, the mean over true regions of the share that
    was marked; `area`, what was marked as a share of the true area. None without a true pixel."""
    found, true, both, covered, regions = np.array(list(images), float).reshape(-1, 5).sum(0).tolist()
    if not true:
        return dict.fromkeys(("f1", "overlap", "area"))
    return {"f1": 2 * both / (found + true), "overlap": covered / regions, "area": found / true}


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
    from scipy import stats  # loads slowly

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
