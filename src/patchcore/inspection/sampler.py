"""Samplers: choose the training patches that the bank keeps."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from patchcore.errors import UsageError
from patchcore.maths import coreset

Rows = TypeVar("Rows", NDArray[Any], Tensor)


class IdentitySampler:
    """Keeps everything."""

    def run(self, features: Rows) -> Rows:
        """(N, D) -> the same."""
        return features


class BaseSampler(ABC):
    """Keeps `int(N * percentage)` of N rows. `percentage` is a share: 0 < percentage < 1. Errors: UsageError.

    Random choices follow torch's seed (`torch.manual_seed`, `fix_seeds`), and do not depend on earlier random draws.
    """

    def __init__(self, percentage: float) -> None:
        if isinstance(percentage, bool) or not isinstance(percentage, int | float) or not 0 < percentage < 1:
            raise UsageError(
                f"percentage is {percentage!r}; expected a share between 0 and 1, both excluded, for example 0.1. "
                "To keep everything, use IdentitySampler()."
            )
        self.percentage = percentage

    def run(self, features: Rows) -> Rows:
        """Rows (N, D), NumPy or torch, any float type -> the rows that are kept, of the same type, unchanged."""
        rows = features if isinstance(features, Tensor) else torch.from_numpy(np.ascontiguousarray(features))
        if rows.ndim != 2:
            raise UsageError(f"features has shape {tuple(rows.shape)}; expected (N, D).")
        n_picks = self._count(rows)
        if n_picks == 0:
            raise UsageError(
                f"percentage {self.percentage:g} of {len(rows)} rows is less than one row. Use at least "
                f"{1 / len(rows) if len(rows) else 1:.3g}, or more training images."
            )
        picks = self._picks(rows, n_picks, _seed())
        if isinstance(features, Tensor):
            return features[picks.to(features.device)]
        return features[picks.cpu().numpy()]

    def _count(self, rows: Tensor) -> int:
        """How many of some rows are kept."""
        return int(len(rows) * self.percentage)

    @abstractmethod
    def _picks(self, rows: Tensor, n_picks: int, seed: int) -> Tensor:
        """The indices of the rows to keep."""


class GreedyCoresetSampler(BaseSampler):
    """Exact greedy k-center selection (see `maths.coreset`). The first pick is the row farthest from all others.

    `device`: where the selection runs. `dimension_to_project_features_to`: rows are compared after a dense
    random projection to this many dimensions, unless they have no more. The kept rows are not projected.
    """

    def __init__(
        self, percentage: float, device: torch.device | str, dimension_to_project_features_to: int = 128
    ) -> None:
        super().__init__(percentage)
        _at_least_one("dimension_to_project_features_to", dimension_to_project_features_to)
        self.device = torch.device(device)
        self.dimension_to_project_features_to = dimension_to_project_features_to

    def _picks(self, rows: Tensor, n_picks: int, seed: int) -> Tensor:
        if self.device.type != "mps":  # close decisions need float64, which MPS lacks
            rows = rows.to(self.device)
        x = coreset.project(rows, "dense", self.dimension_to_project_features_to, seed)
        return torch.as_tensor(self._compute_greedy_coreset_indices(x))

    def _compute_greedy_coreset_indices(self, features: Tensor) -> NDArray[np.int64]:
        """The indices of the rows to keep, from rows as they are compared (N, d); subclasses have their own."""
        n_picks, start = self._count(features), self._start(features, _seed())
        with tqdm(total=n_picks, desc="Subsampling", leave=False, disable=None if sys.stderr else True) as bar:
            picks = coreset.k_center_greedy(
                features, n_picks, start=start, on_progress=lambda count: bar.update(count - bar.n)
            )
        return picks.cpu().numpy()

    def _start(self, x: Tensor, seed: int) -> int | Tensor:
        return farthest_from_mean(x)


class ApproximateGreedyCoresetSampler(GreedyCoresetSampler):
    """The same from another start: before the first pick, a row's distance is the mean to some random rows.

    Nothing else is approximate. Arguments are those of `GreedyCoresetSampler`, and `number_of_starting_points`: the
    number of these rows, which are not picked themselves.
    """

    def __init__(
        self,
        percentage: float,
        device: torch.device | str,
        number_of_starting_points: int = 10,
        dimension_to_project_features_to: int = 128,
    ) -> None:
        super().__init__(percentage, device, dimension_to_project_features_to)
        _at_least_one("number_of_starting_points", number_of_starting_points)
        self.number_of_starting_points = number_of_starting_points

    def _start(self, x: Tensor, seed: int) -> int | Tensor:
        return coreset.mean_distances(x, self.number_of_starting_points, seed)


class RandomSampler(BaseSampler):
    """Rows drawn without replacement, in their original order."""

    def __init__(self, percentage: float) -> None:
        super().__init__(percentage)

    def _picks(self, rows: Tensor, n_picks: int, seed: int) -> Tensor:
        return coreset.random_subset(len(rows), n_picks, seed)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} is {value}; it must be at least 1.")


def farthest_from_mean(x: Tensor) -> int:
    """The row of x (N, D) that is farthest from the rows' mean, the lowest index on ties.

    This row also has the largest sum of squared distances to all rows, as a full distance matrix would
    show: that sum is N times its squared distance to the mean, plus a constant.
    """
    mean = torch.stack([block.double().sum(0) for block in x.split(1 << 14)]).sum(0) / len(x)
    return int(torch.cat([(block.double() - mean).square().sum(1) for block in x.split(1 << 14)]).argmax())


def _seed() -> int:
    """Torch's, which does not depend on earlier random draws."""
    return torch.initial_seed() % 2**32
