"""PatchMaker: feature maps cut into neighbourhoods."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchcore.errors import UsageError
from patchcore.maths import embedding


class PatchMaker:
    """Cuts feature maps into neighbourhoods of `patchsize` cells, `stride` apart (None: 1)."""

    def __init__(self, patchsize: int, stride: int | None = None) -> None:
        for name, value in (("patchsize", patchsize), ("stride", 1 if stride is None else stride)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} is {value!r}; expected a number of cells, at least 1.")
        self.patchsize = patchsize
        self.stride = 1 if stride is None else stride

    def patchify(self, features: Tensor, return_spatial_info: bool = False) -> Any:
        """(B, C, h, w) -> (B, patches, C, p, p), row by row, zero-padded at the border.

        With `return_spatial_info`, also [rows, columns] of the patches. Errors: UsageError.
        """
        if features.ndim != 4:
            raise UsageError(f"features has shape {tuple(features.shape)}; expected (B, C, h, w).")
        unfolded = embedding.unfold(features, self.patchsize, self.stride)
        shape = (features.shape[1], self.patchsize, self.patchsize)
        patches = unfolded.transpose(1, 2).unflatten(2, shape)
        return (patches, list(self.grid(features))) if return_spatial_info else patches

    def grid(self, features: Tensor) -> tuple[int, int]:
        """The (rows, columns) of the patches of (B, C, h, w)."""
        return embedding.grid_of((features.shape[2], features.shape[3]), self.patchsize, self.stride)

    def unpatch_scores(self, x: Any, batchsize: int) -> Any:
        """(B * patches, ...) -> (B, patches, ...), NumPy or torch."""
        return x.reshape(batchsize, -1, *x.shape[1:])

    def score(self, x: Any) -> Any:
        """(B, ...) -> (B,): the largest value of each image, NumPy or torch."""
        tensor = torch.as_tensor(x)
        while tensor.ndim > 1:
            tensor = tensor.amax(-1)
        return tensor.numpy() if isinstance(x, np.ndarray) else tensor
