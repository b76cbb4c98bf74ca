"""The memory bank: rows with their provenance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from patchcore.maths.neighbours import Points


@dataclass(frozen=True)
class Bank:
    """The remembered patches.

    `rows` (M, D) float32, whose values fit half precision; `origins` (M, 3) int32: picture, grid
    row and grid column of each row; `pictures`: the training pictures' names, in order; `scales`
    (D,): what each value of a patch, remembered or new, is multiplied by.
    """

    rows: Tensor
    origins: Tensor
    pictures: tuple[str, ...]
    scales: Tensor

    @cached_property
    def points(self) -> Points:
        """The rows, prepared to be searched."""
        return Points(self.rows)

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps: half the size, without loss."""
        return {"bank.rows": self.rows.to(torch.float16), "bank.origins": self.origins, "bank.scales": self.scales}
