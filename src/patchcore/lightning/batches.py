"""Batches: dicts by anomalib v1's names, which the names of v2 reach too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from patchcore.errors import UsageError

# v2's names, and what v1 calls them.
V2 = {
    "pred_score": "pred_scores",
    "pred_label": "pred_labels",
    "anomaly_map": "anomaly_maps",
    "pred_mask": "pred_masks",
    "gt_label": "label",
    "gt_mask": "mask",
}
_ON_IMAGES = ("anomaly_map", "pred_mask")  # (B, H, W) in v2, (B, 1, H, W) in v1
_VERDICTS = ("pred_labels", "pred_masks")


class Batch(dict[str, Any]):
    """What is known of a batch, by v1's names. Keys of v2 work too, and every key is also an attribute.

    What is not there is an error that says why: a KeyError, or as an attribute an AttributeError.
    """

    def __missing__(self, key: str) -> Any:
        own = V2.get(key, key)
        if own in self:
            return self[own].squeeze(1) if key in _ON_IMAGES else self[own]
        reason = (
            "there are no thresholds: validate on good images that the bank has not seen"
            if own in _VERDICTS
            else f"the batch has {', '.join(self) or 'nothing'}"
        )
        raise KeyError(f"{key}: {reason}")

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(*error.args) from None

    def get(self, key: str, default: Any = None) -> Any:
        """As of any dict, for v2's names too."""
        return self[key] if key in self or V2.get(key) in self else default


def as_batch(batch: Any) -> Batch:
    """A batch as a new dict. Errors: UsageError."""
    if is_dataclass(batch) and not isinstance(batch, type):  # v2's own
        given = {field.name: getattr(batch, field.name) for field in fields(batch)}
        batch = {name: value for name, value in given.items() if value is not None}
    if isinstance(batch, Mapping) and isinstance(batch.get("image"), Tensor):
        named: dict[str, Any] = {str(name): value for name, value in batch.items()}
        return Batch({V2.get(name, name): value for name, value in named.items()})
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Tensor):
        alone = all(isinstance(one, Tensor) and one.shape == batch[0].shape for one in batch)
        batch = torch.stack(list(batch)) if alone and batch[0].ndim == 3 else batch[0]
    if isinstance(batch, Tensor) and batch.ndim == 4:
        return Batch(image=batch)
    what = f"keys {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
    raise UsageError(
        f"a batch of {what}; expected a tensor (B, 3, H, W), a tuple that begins with one, or a dict with `image`."
    )
