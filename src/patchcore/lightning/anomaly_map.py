"""From patch scores on their grid to an anomaly map in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from patchcore.arguments import known_arguments
from patchcore.maths.resize import Frame
from patchcore.pipeline.score import anomaly_map
from patchcore.recipe.recipe import Recipe


class AnomalyMapGenerator(nn.Module):
    """Brings patch scores to pixels and smooths them with a Gaussian of `sigma` pixels.

    As in anomalib v1, each cell is repeated over its pixels, the Gaussian ends at 4 sigma, and the border is mirrored.
    """

    @known_arguments
    def __init__(self, sigma: float = 4) -> None:
        super().__init__()
        self.sigma = sigma
        self._recipe = Recipe.named("lightning").replace(sigma=float(sigma))

    def compute_anomaly_map(self, patch_scores: Tensor, image_size: Sequence[int] | None = None) -> Tensor:
        """Patch scores (B, 1, h, w) -> maps (B, 1, H, W) of `image_size`; None: on their own grid."""
        height, width = patch_scores.shape[-2:] if image_size is None else image_size
        frame = Frame((height, width), (height, width), (height, width))
        with torch.autocast(patch_scores.device.type, enabled=False):
            return anomaly_map(self._recipe, patch_scores.float(), frame)

    def forward(self, patch_scores: Tensor, image_size: Sequence[int] | None = None) -> Tensor:
        """As `compute_anomaly_map`."""
        return self.compute_anomaly_map(patch_scores, image_size)
