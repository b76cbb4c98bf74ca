"""The memory bank: rows with their provenance, and the search for the nearest of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Protocol, cast

import torch
from torch import Tensor

from patchcore.maths.neighbours import Points, nearest

LEARNED = ("bank.lists", "bank.codebooks", "bank.list_of_row", "bank.codes")


@dataclass(frozen=True)
class Bank:
    """The remembered patches.

    Attributes:
        rows: (M, D) float32; values fit half precision unless the rows were imported.
        origins: (M, 3) int32, the training image, grid row and grid column of each row; -1 where unknown. (M, 4) if
            augmented copies are remembered too: last, 0 for the image itself or n for the n-th of `Recipe.augment`,
            on whose own grid the place is.
        scales: (D,), what each value of a patch is multiplied by, remembered or new.
        search: How rows are found: `exact` or `ivf_pq`.
        prepared: What an approximate search has learned of the rows, if it is known already.
    """

    rows: Tensor
    origins: Tensor
    scales: Tensor
    search: str = "exact"
    prepared: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], search: str, device: torch.device) -> Bank:
        """A bank from what `tensors` gives, checked before."""
        rows, scales = tensors["bank.rows"].float().to(device), tensors["bank.scales"].to(device)
        return cls(rows, tensors["bank.origins"], scales, search, {n: tensors[n] for n in LEARNED if n in tensors})

    def nearest(self, patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances (N, k), ascending, and indices (N, k) of the rows nearest to patches (N, D)."""
        return nearest(patches, self.points, k) if self.search == "exact" else self.index.nearest(patches, k)

    @cached_property
    def points(self) -> Points:
        """The rows, prepared for exact search."""
        return Points(self.rows)

    @cached_property
    def index(self) -> Index:
        """The rows, prepared for approximate search."""
        return index(self.search, self.rows, self.prepared)

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps: half the size wherever that loses nothing, as for all banks that `fit` makes."""
        rows = halved(self.rows)
        learned = {} if self.search == "exact" else self.index.tensors()
        return {"bank.rows": rows, "bank.origins": self.origins, "bank.scales": self.scales, **learned}


def halved(values: Tensor) -> Tensor:
    """In half precision wherever that loses nothing."""
    half = values.to(torch.float16) if values.dtype == torch.float32 else values
    return half if torch.equal(half.to(values.dtype), values) else values


class Index(Protocol):
    """Rows prepared for a search that may miss a neighbour: what the file named as `Bank.search` makes of them."""

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]: ...

    def tensors(self) -> dict[str, Tensor]:
        """What it has learned, by the names in `LEARNED`."""
        ...


def index(search: str, rows: Tensor, learned: Mapping[str, Tensor]) -> Index:
    """Errors: as `check_search`."""
    return cast("Index", import_module(f"patchcore.memory.{search}").Rows(rows, learned))


def check_search(search: str, rows: int) -> None:
    """Whether a bank of so many rows can be searched here. Errors: UsageError, MissingExtraError."""
    if search != "exact":
        import_module(f"patchcore.memory.{search}").check(rows)
