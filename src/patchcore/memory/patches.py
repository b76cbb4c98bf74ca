"""The patches of the training pictures, until the bank is chosen from them."""

from __future__ import annotations

import torch
from torch import Tensor

from patchcore.errors import BackboneError


class PatchStore:
    """Patches in half precision, with the picture and the grid cell that each comes from."""

    def __init__(self) -> None:
        self.grids: list[tuple[int, int]] = []  # of each picture: rows, columns
        self._blocks: list[Tensor] = []

    def append(self, patches: Tensor, grid: tuple[int, int]) -> None:
        """Add the (h*w, D) patches of one picture, row by row."""
        # Half precision is plenty for choosing and remembering; it is applied always, so that
        # where the patches are kept can never change which ones are chosen.
        block = patches.to(torch.float16)
        if not torch.isfinite(block).all():
            raise BackboneError(
                f"The backbone gives features up to {float(patches.abs().max()):g}; half precision holds up to "
                "65504. Use a tap before the one that grows so large, or a network with normalisation."
            )
        self._blocks.append(block)
        self.grids.append(grid)

    def rows_of(self, pictures: list[int]) -> Tensor:
        """The patches (N, D) of some pictures, in that order."""
        return torch.cat([self._blocks[picture] for picture in pictures])

    def origins_of(self, pictures: list[int]) -> Tensor:
        """(N, 3): picture, grid row, grid column of each of `rows_of(pictures)`."""
        parts = []
        for picture in pictures:
            h, w = self.grids[picture]
            row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            parts.append(torch.stack([torch.full_like(row, picture), row, column], -1).flatten(0, 1))
        return torch.cat(parts)
