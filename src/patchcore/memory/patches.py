"""The patches of the training pictures, until the bank is chosen from them."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from patchcore.errors import BackboneError


class PatchStore:
    """Patches in half precision, with the picture and the grid cell that each comes from.

    Those of the first pictures are kept in memory, up to `limit` bytes, and the rest in a file. The
    file has no name: when the process ends, however it ends, it is gone (on Windows: when it closes).
    """

    def __init__(self, limit: int | None = None) -> None:
        self.grids: list[tuple[int, int]] = []  # of each picture: rows, columns
        self._limit = limit
        self._blocks: list[Tensor | tuple[int, tuple[int, ...]] | None] = []  # a tensor, or where it is in the file
        self._held = 0  # bytes in memory
        self._file: BinaryIO | None = None

    def append(self, patches: Tensor, grid: tuple[int, int]) -> None:
        """Add the (h*w, D) patches of one picture, row by row."""
        # Half precision is plenty for choosing and remembering; it is applied always, so that
        # where the patches are kept can never change which ones are chosen.
        block = patches.to("cpu", torch.float16).contiguous()
        if not torch.isfinite(block).all():
            raise BackboneError(
                f"The backbone gives features up to {float(patches.abs().max()):g}; half precision holds up to "
                "65504. Use a tap before the one that grows so large, or a network with normalisation."
            )
        self.grids.append(grid)
        if self._limit is None or self._held + block.nbytes <= self._limit:
            self._blocks.append(block)
            self._held += block.nbytes
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="patchcore-")  # noqa: SIM115, it lives as long as the store
            weakref.finalize(self, self._file.close)
        self._blocks.append((self._file.seek(0, 2), tuple(block.shape)))
        self._file.write(block.numpy().data)

    @property
    def spilled(self) -> bool:
        """Whether some of the patches are in the file."""
        return self._file is not None

    def of(self, picture: int) -> Tensor:
        """The patches (h*w, D) of one picture, half precision."""
        block = self._blocks[picture]
        if isinstance(block, Tensor):
            return block
        assert block is not None, "gather has taken this picture's patches"
        assert self._file is not None
        self._file.seek(block[0])
        values = np.fromfile(self._file, np.float16, block[1][0] * block[1][1])
        return torch.from_numpy(values).view(block[1])

    def empty(self, n: int, d: int, dtype: torch.dtype) -> Tensor:
        """A tensor (n, d) to be filled: in memory, or in a file of its own if any patches are in one."""
        if self._file is None:
            return torch.empty(n, d, dtype=dtype)
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        with tempfile.TemporaryFile(prefix="patchcore-") as file:  # a mapping outlives its file
            return torch.from_numpy(np.memmap(file, kind, "w+", shape=(n, d)))

    def gather(self, pictures: list[int], scales: Tensor | None = None) -> Tensor:
        """The patches (N, D) of some pictures, in that order, times `scales` (D,), half precision.

        Takes them out of the store, so that they are never held twice. If anything was spilled, the
        result too is in a file, and mapped.
        """
        n = sum(self.grids[p][0] * self.grids[p][1] for p in pictures)
        d = self.of(pictures[0]).shape[1]
        rows = self.empty(n, d, torch.float16)
        begin = 0
        for picture in pictures:
            block = self.of(picture)
            rows[begin : begin + len(block)] = block if scales is None else block * scales.cpu()
            begin += len(block)
            self._blocks[picture] = None
        return rows

    def each(self, pictures: list[int]) -> Iterator[Tensor]:
        """The patches of some pictures, one picture after the other."""
        return (self.of(picture) for picture in pictures)

    def origins_of(self, pictures: list[int]) -> Tensor:
        """(N, 3), int32: picture, grid row, grid column of each row that `gather(pictures)` gives."""
        parts = []
        for picture in pictures:
            h, w = self.grids[picture]
            row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            parts.append(torch.stack([torch.full_like(row, picture), row, column], -1).flatten(0, 1).int())
        return torch.cat(parts)
