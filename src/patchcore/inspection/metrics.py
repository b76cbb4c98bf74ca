"""Metrics of scores and maps against labels and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore.errors import UsageError
from patchcore.maths import metrics

Array = NDArray[Any]


def compute_imagewise_retrieval_metrics(
    anomaly_prediction_weights: Sequence[float] | Array, anomaly_ground_truth_labels: Sequence[int] | Array
) -> dict[str, Any]:
    """Scores (N,) and labels (N,), 1 where defective -> auroc, fpr, tpr, threshold. Errors: UsageError."""
    found = metrics.roc(np.asarray(anomaly_prediction_weights), np.asarray(anomaly_ground_truth_labels))
    return {
        "auroc": found.auroc,
        "fpr": found.false_positive_rate,
        "tpr": found.true_positive_rate,
        "threshold": found.thresholds,
    }


def compute_pixelwise_retrieval_metrics(
    anomaly_segmentations: Sequence[Array] | Array, ground_truth_masks: Sequence[Array] | Array
) -> dict[str, Any]:
    """Maps (N, H, W) and masks (N, H, W) or (N, 1, H, W) -> auroc, fpr, tpr, and the optimum of F1.

    `optimal_threshold`, `optimal_fpr` and `optimal_fnr` are computed from these masks: they are best in
    hindsight, and not for use on new images. Errors: UsageError.
    """
    maps = np.ravel(np.stack(list(anomaly_segmentations)))
    masks = np.ravel(np.stack([np.asarray(mask) for mask in ground_truth_masks])) > 0.5
    if maps.shape != masks.shape:
        raise UsageError(f"The maps have {maps.size} pixels and the masks {masks.size}; expected the same size.")
    found = metrics.roc(maps, masks)
    threshold, false_positive_rate, false_negative_rate = metrics.best_f1(maps, masks)
    return {
        "auroc": found.auroc,
        "fpr": found.false_positive_rate,
        "tpr": found.true_positive_rate,
        "optimal_threshold": threshold,
        "optimal_fpr": false_positive_rate,
        "optimal_fnr": false_negative_rate,
    }
