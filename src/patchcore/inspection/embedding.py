"""The modules that turn neighbourhoods of several layers into one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from patchcore.errors import UsageError
from patchcore.maths.embedding import average_bins


class MeanMapper(nn.Module):
    """(N, C, p, p) -> (N, preprocessing_dim): all values in memory order, averaged into bins."""

    def __init__(self, preprocessing_dim: int) -> None:
        super().__init__()
        self.preprocessing_dim = _dimension("preprocessing_dim", preprocessing_dim)

    def forward(self, features: Tensor) -> Tensor:
        return average_bins(features.flatten(1), self.preprocessing_dim)


class Preprocessing(nn.Module):
    """Reduces each layer to `output_dim` values: a list of (N, C_i, p, p) -> (N, layers, output_dim).

    `input_dims`: the number of channels of each layer. Errors: UsageError.
    """

    def __init__(self, input_dims: Sequence[int], output_dim: int) -> None:
        super().__init__()
        self.input_dims = input_dims
        self.output_dim = _dimension("output_dim", output_dim)
        self.preprocessing_modules = nn.ModuleList(MeanMapper(output_dim) for _ in input_dims)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        if len(features) != len(self.preprocessing_modules):
            raise UsageError(f"features has {len(features)} layers; expected {len(self.preprocessing_modules)}.")
        mapped = [module(layer) for module, layer in zip(self.preprocessing_modules, features, strict=True)]
        return torch.stack(mapped, dim=1)


class Aggregator(nn.Module):
    """Joins the layers: (N, layers, D) -> (N, target_dim), concatenated and averaged into bins."""

    def __init__(self, target_dim: int) -> None:
        super().__init__()
        self.target_dim = _dimension("target_dim", target_dim)

    def forward(self, features: Tensor) -> Tensor:
        return average_bins(features.flatten(1), self.target_dim)


def _dimension(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} is {value!r}; expected a whole number, at least 1.")
    return value
