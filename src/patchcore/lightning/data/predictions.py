"""Predictions of one image or a batch, as anomalib's inferencers return them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchcore.errors import UsageError
from patchcore.lightning.data.utils import LabelName
from patchcore.verdict import draw

if TYPE_CHECKING:
    from patchcore.lightning.deploy.inferencers.exported import Seen

HALF = 0.5  # where the thresholds are in scores and maps


@dataclass(repr=False)
class _Fields:
    """Version 2's names; what is not known is None. Without thresholds there are no verdicts and no masks."""

    image: Any
    anomaly_map: Any
    pred_score: Any
    pred_label: Any = None
    pred_mask: Any = None
    image_path: Any = None
    gt_label: Any = None
    gt_mask: Any = None

    def __getattr__(self, name: str) -> Any:
        if name in ("heat_map", "segmentations"):
            raise AttributeError(
                f"{name} is version 1's: ImageResult.from_dataset_item(batch.items[0]).{name} draws it, with "
                "ImageResult from patchcore.lightning.utils.visualization."
            )
        raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {', '.join(_NAMES)}.")

    def __repr__(self) -> str:
        known = {name: getattr(self, name) for name in _NAMES if getattr(self, name) is not None}
        shown = (f"{name}={tuple(v.shape) if hasattr(v, 'shape') and v.shape else v}" for name, v in known.items())
        return f"{type(self).__name__}({', '.join(shown)})"


_NAMES = [one.name for one in fields(_Fields)]


class ImageItem(_Fields):
    """One image: `image` (3, H, W) or, of arrays, (H, W, 3), `anomaly_map` and `pred_mask` (H, W), and numbers."""


class ImageBatch(_Fields):
    """Images of one size: each name of an item with one axis more, in tensors. A loop over it gives its items."""

    @classmethod
    def of(cls, seen: list[Seen], given: object) -> Self:
        """What an inferencer has seen in what it was given."""
        labels, masks = [one.label for one in seen], [one.mask for one in seen if one.mask is not None]
        return cls(
            image=torch.stack([one.image for one in seen]),
            anomaly_map=torch.stack([one.map for one in seen]),
            pred_score=torch.tensor([one.score for one in seen]),
            pred_label=None if None in labels else torch.tensor(labels),
            pred_mask=torch.stack(masks) if masks else None,
            image_path=[str(given)] if isinstance(given, str | Path) else None,
        )

    @property
    def items(self) -> list[ImageItem]:
        """The images one by one."""
        known = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        return [ImageItem(**{name: value[i] for name, value in known.items()}) for i in range(len(self.image))]

    @property
    def batch_size(self) -> int:
        """The number of images."""
        return len(self.image)

    def __iter__(self) -> Iterator[ImageItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.image)


class NumpyImageBatch(ImageBatch):
    """As `ImageBatch`, in arrays; `image` is (N, H, W, 3)."""

    @classmethod
    def of(cls, seen: list[Seen], given: object) -> Self:
        made = super().of(seen, given)
        made.image = made.image.permute(0, 2, 3, 1)
        for name in ("image", "anomaly_map", "pred_score", "pred_label", "pred_mask"):
            value = getattr(made, name)
            setattr(made, name, None if value is None else value.numpy())
        return made


class ImageResult:
    """One image as in version 1, for drawing.

    `image` (H, W, 3) uint8, `pred_score`, `pred_label`, a `LabelName`, `anomaly_map` (H, W), `pred_mask` (H, W) of 0
    and 255, and drawn, (H, W, 3) uint8: `heat_map`, on one fixed scale, and `segmentations`, the mask's outline.
    Without thresholds all but image, score and map are None; there are no boxes.
    """

    def __init__(
        self,
        image: NDArray[Any],
        pred_score: float,
        pred_label: LabelName | None,
        anomaly_map: NDArray[Any] | None = None,
        gt_mask: NDArray[Any] | None = None,
        pred_mask: NDArray[Any] | None = None,
    ) -> None:
        self.image, self.pred_score, self.pred_label = image, pred_score, pred_label
        self.anomaly_map, self.gt_mask, self.pred_mask = anomaly_map, gt_mask, pred_mask
        self.heat_map = self.segmentations = None
        if anomaly_map is not None and pred_label is not None:
            self.heat_map = np.asarray(draw.heat(anomaly_map, HALF, image))
        if pred_mask is not None:
            self.segmentations = np.asarray(draw.outlined(image, pred_mask > 0))

    def __getattr__(self, name: str) -> Any:
        if name in ("gt_boxes", "pred_boxes", "box_labels", "normal_boxes", "anomalous_boxes"):
            return None
        raise AttributeError(f"ImageResult has no {name!r}; it has {', '.join(vars(self))}.")

    @classmethod
    def of(cls, seen: Seen) -> Self:
        """What an inferencer has seen."""
        return cls.from_dataset_item(ImageItem(seen.image, seen.map, seen.score, seen.label, seen.mask))

    @classmethod
    def from_dataset_item(cls, item: Any) -> Self:
        """From version 2's item. Errors: UsageError for a batch of several."""
        if isinstance(item, ImageBatch):
            if len(item) != 1:
                raise UsageError(f"A batch of {len(item)} images; give one of its items.")
            (item,) = item.items
        image, values, label, mask = (_array(getattr(item, name)) for name in _DRAWN)
        if image.shape[-1] not in (1, 3):
            image = image.transpose(1, 2, 0)
        label = None if label is None else LabelName(int(label))
        pixels = draw.to_uint8(np.asarray(image, np.float32))
        return cls(pixels, float(item.pred_score), label, values, None, _whites(mask))

    def __repr__(self) -> str:
        return f"ImageResult(image {self.image.shape[:2]}, pred_score={self.pred_score}, pred_label={self.pred_label})"


_DRAWN = ("image", "anomaly_map", "pred_label", "pred_mask")


def _whites(mask: NDArray[Any] | None) -> NDArray[np.uint8] | None:
    return None if mask is None else np.where(mask, 255, 0).astype(np.uint8)


def _array(value: Any) -> Any:
    return value.cpu().numpy() if isinstance(value, Tensor) else value
