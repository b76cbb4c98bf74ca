"""RescaleSegmentor: from patch scores to anomaly maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from patchcore.errors import UsageError
from patchcore.maths.maps import anomaly_map
from patchcore.maths.resize import Frame


class RescaleSegmentor:
    """Resizes patch scores to `target_size` pixels, a side or (height, width), and smooths them (sigma = 4 pixels)."""

    def __init__(self, device: torch.device | str, target_size: int | Sequence[int] = 224) -> None:
        self.device = torch.device(device)
        self.target_size = target_size
        self.smoothing = 4

    def convert_to_segmentation(self, patch_scores: NDArray[Any] | Tensor) -> list[NDArray[np.float32]]:
        """(B, h, w) -> B maps (H, W), float32. Errors: UsageError."""
        scores = torch.as_tensor(patch_scores).to(self.device, torch.float32)
        if scores.ndim != 3:
            raise UsageError(f"patch_scores has shape {tuple(scores.shape)}; expected (B, h, w).")
        height, width = (self.target_size,) * 2 if isinstance(self.target_size, int) else self.target_size
        size = (int(height), int(width))
        if size[0] < scores.shape[1] or size[1] < scores.shape[2]:  # the engine's resize averages what it makes smaller
            scores = F.interpolate(scores[:, None], size, mode="bilinear")[:, 0]
        frame = Frame(source=size, resized=size, window=size)
        maps = [
            anomaly_map(one, frame, sigma=self.smoothing, upsample="bilinear", border="symmetric") for one in scores
        ]
        return [one.cpu().numpy() for one in maps]
