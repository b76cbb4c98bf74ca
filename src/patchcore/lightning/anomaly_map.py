"""From patch scores on their grid to an anomaly map in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from patchcore.arguments import known_arguments
from patchcore.maths.maps import Border, Upsample, window_matrix
from patchcore.maths.pairwise import recorded
from patchcore.maths.resize import Frame
from patchcore.maths.sizes import Size
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
        if recorded():
            recipe, sides = self._recipe, zip(patch_scores.shape[-2:], (height, width), strict=True)
            rows, columns = (_matrix(*side, recipe.sigma, recipe.upsample, recipe.map_border) for side in sides)
            return rows.to(patch_scores) @ patch_scores @ columns.to(patch_scores).T
        frame = Frame((height, width), (height, width), (height, width))
        with torch.autocast(patch_scores.device.type, enabled=False):
            return anomaly_map(self._recipe, patch_scores.float(), frame)

    def forward(self, patch_scores: Tensor, image_size: Sequence[int] | None = None) -> Tensor:
        """As `compute_anomaly_map`."""
        return self.compute_anomaly_map(patch_scores, image_size)


def _matrix(cells: Size, side: Size, sigma: float, upsample: Upsample, border: Border) -> Tensor:
    """As `window_matrix`, in a graph that is being recorded: a constant, unless the sizes are open."""
    if isinstance(cells, torch.SymInt) or isinstance(side, torch.SymInt):
        return window_matrix(cells, side, sigma, upsample, border)
    with ThreadPoolExecutor(1) as other:  # what happens in this thread is recorded, step by step
        return other.submit(window_matrix, int(cells), int(side), sigma, upsample, border).result()
