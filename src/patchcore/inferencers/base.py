"""Inferencer: from an image to an overlay and a score."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from patchcore.data.images import ImageLike, read
from patchcore.data.reading import Colour, Reading
from patchcore.errors import DataError, UsageError, validated
from patchcore.inferencers.visuals import superimpose_anomaly_map
from patchcore.maths.span import normalise_by_range

log = logging.getLogger(__name__)

META_DATA = ("image_threshold", "pixel_threshold", "min", "max")


class Inferencer(ABC):
    """Runs a fitted model on images: `pre_process`, `forward`, `post_process`, which subclasses implement.

    `meta_data` has `image_threshold`, `pixel_threshold`, and the smallest and largest value of the maps,
    `min` and `max`, all from good images that are not in the memory bank.
    """

    meta_data: dict[str, Any]

    @abstractmethod
    def load_model(self, path: Any) -> Any:
        """The model in a file, or a given model."""

    @abstractmethod
    def pre_process(self, image: ImageLike) -> Any:
        """An image as input for the model."""

    @abstractmethod
    def forward(self, image: Any) -> Any:
        """The raw map and the raw score of an image."""

    @abstractmethod
    def post_process(self, predictions: Any, meta_data: Mapping[str, Any] | None = None) -> tuple[Any, float]:
        """Result of `forward` -> normalised map (H, W) at the image's own size, normalised score."""

    def predict(
        self,
        image: ImageLike,
        superimpose: bool = True,
        meta_data: Mapping[str, Any] | None = None,
        *,
        colour: Colour = "rgb",
    ) -> tuple[NDArray[Any], float]:
        """An image (path, array (H, W, C), PIL image or tensor) -> overlay (H, W, 3), RGB, uint8; score.

        Score and map are normalised, with 0.5 at the threshold; the overlay has the image's own size.
        Without `superimpose`, returns the map (H, W) instead of the overlay. `meta_data` replaces the
        model's own. `colour`: order of the channels of an array or tensor, `rgb`, or `bgr`, as OpenCV reads.
        Errors: ImageError, UsageError.
        """
        reading, warnings = Reading(colour=colour), list[str]()
        name = str(image) if isinstance(image, str | Path) else "an image"
        pixels = read(image, name, reading.max_pixels, reading.colour, warnings=warnings)
        for warning in warnings:
            log.warning("%s: %s", name, warning)
        known = {**(self.meta_data if meta_data is None else meta_data), "image_shape": pixels.shape[:2]}
        anomaly_map, score = self.post_process(self.forward(self.pre_process(pixels)), known)
        return (superimpose_anomaly_map(anomaly_map, pixels) if superimpose else anomaly_map), score

    def __call__(self, image: ImageLike) -> tuple[NDArray[Any], float]:
        """As `predict`."""
        return self.predict(image)

    @staticmethod
    def _normalize(
        anomaly_maps: NDArray[Any] | torch.Tensor, pred_scores: float | torch.Tensor, meta_data: Mapping[str, Any]
    ) -> tuple[NDArray[np.float32], float]:
        """Normalise raw maps and a raw score, so that 0.5 is the pixel threshold and the image threshold.

        `min` and `max` set the unit of the scale. Maps are clipped to [0, 1] for drawing; the score is
        not, so that extreme defects keep their order. Errors: UsageError for incomplete meta data.
        """
        missing = [name for name in META_DATA if not math.isfinite(meta_data.get(name, math.nan))]
        if missing:
            raise UsageError(
                f"The meta data have no {', '.join(missing)}. Validate the model on good images that it was not "
                "trained with (`tools/train.py` does so), or give meta_data_path. Raw scores come from forward()."
            )
        low, high = float(meta_data["min"]), float(meta_data["max"])
        maps = normalise_by_range(torch.as_tensor(anomaly_maps), float(meta_data["pixel_threshold"]), low, high)
        score = normalise_by_range(torch.as_tensor(pred_scores), float(meta_data["image_threshold"]), low, high)
        return maps.clamp(0, 1).float().cpu().numpy(), float(score)

    def _load_meta_data(self, path: str | Path | None = None) -> dict[str, Any]:
        """The meta data in a JSON file; empty without one. Errors: DataError."""
        return {} if path is None else read_meta_data(path)


class _MetaData(BaseModel):
    model_config = ConfigDict(title=f"JSON with {', '.join(META_DATA)}, as tools/train.py writes it")

    image_threshold: float
    pixel_threshold: float
    min: float
    max: float


def read_meta_data(path: str | Path) -> dict[str, Any]:
    """The numbers of a meta data file. Errors: DataError."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Expected {_MetaData.model_config['title']}.") from error
    return validated(_MetaData, content, path, DataError).model_dump()
