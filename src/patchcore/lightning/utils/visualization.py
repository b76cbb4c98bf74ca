"""Drawing predictions, as the inference scripts of anomalib v1 and v2 do."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchcore.arguments import known_arguments
from patchcore.errors import UsageError
from patchcore.lightning.data.predictions import HALF, ImageResult
from patchcore.lightning.data.utils import TaskType
from patchcore.maths.thresholds import Verdict
from patchcore.verdict import draw

__all__ = ["ImageResult", "ImageVisualizer", "VisualizationMode"]

sys.modules[f"{__name__}.image"] = sys.modules[__name__]  # version 1's longer path


class VisualizationMode(str, Enum):
    """What is drawn of a prediction."""

    FULL = "full"
    SIMPLE = "simple"


class ImageVisualizer:
    """Draws a prediction with its verdict below it, on one fixed scale.

    `mode`: `simple`, the heat map for a classification, else the outline; `full`, the image, the heat map and, unless
    it is a classification, mask and outline side by side. `normalize` is an error: it stretches each image's colours.
    """

    @known_arguments
    def __init__(self, mode: str = "full", task: TaskType | str = "classification", normalize: bool = False) -> None:
        self.mode, self.task = str(getattr(mode, "value", mode)).lower(), TaskType.of("task", task)
        if self.mode not in ("full", "simple"):
            raise UsageError(f"mode is {mode!r}; it must be full or simple.")
        if normalize:
            raise UsageError("normalize=True would stretch the colours of each image; they are on one scale here.")

    def visualize_image(self, image_result: Any) -> NDArray[np.uint8]:
        """An `ImageResult`, or an item or a batch of one image of version 2, -> (H, W, 3), RGB.

        Errors: UsageError without thresholds.
        """
        one = image_result if isinstance(image_result, ImageResult) else ImageResult.from_dataset_item(image_result)
        if one.heat_map is None or one.pred_label is None:
            raise UsageError("There are no thresholds, so there is no verdict to draw. Fit with good images held out.")
        images = self.task is TaskType.CLASSIFICATION
        mask = None if one.pred_mask is None else np.repeat(one.pred_mask[..., None], 3, 2)
        parts = [one.heat_map] if images else [one.segmentations]
        if self.mode == "full":
            parts = [one.image, one.heat_map] if images else [one.image, one.heat_map, mask, one.segmentations]
        page = Image.fromarray(np.concatenate([part for part in parts if part is not None], 1))
        verdict: Verdict = "fail" if one.pred_label else "pass"
        return np.asarray(draw.captioned(page, verdict, f"score {one.pred_score:.3f}", f"threshold {HALF}"))
