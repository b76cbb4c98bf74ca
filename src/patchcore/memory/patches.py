"""The patches of the training images, until the bank is chosen from them."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from typing import BinaryIO, TypeAlias

import numpy as np
import torch
from torch import Tensor

from patchcore.errors import BackboneError

Block: TypeAlias = Tensor | tuple[int, tuple[int, ...]]  # the patches, or where in the file they are, and their shape


class PatchStore:
    """Patches in half precision, with the image and the grid cell that each comes from.

    Those of the first images are kept in memory, up to `limit` bytes, and the rest in a file. The
    file has no name: when the process ends, however it ends, it is gone (on Windows: when it closes).
    """

    def __init__(self, limit: int | None = None) -> None:
        self.grids: list[tuple[int, int]] = []  # of each image: rows, columns
        self._limit = limit
        self._blocks: list[tuple[Block, ...]] = []  # of each image and its changed versions, until they are gathered
        self._shapes: list[tuple[tuple[int, int], ...]] = []  # their grids
        self._held = 0  # bytes in memory
        self._file: BinaryIO | None = None

    def append(self, patches: Tensor, grid: tuple[int, int], *versions: tuple[Tensor, tuple[int, int]]) -> None:
        """Add the (h*w, D) patches of one image, row by row, and those of its changed versions, if it has any."""
        parts = ((patches, grid), *versions)
        self._blocks.append(tuple(self._keep(own) for own, _ in parts))
        self._shapes.append(tuple(shape for _, shape in parts))
        self.grids.append(grid)

    def _keep(self, patches: Tensor) -> Block:
        # Half precision is plenty for choosing and remembering; it is applied always, so that
        # where the patches are kept can never change which ones are chosen.
        block = patches.to("cpu", torch.float16).contiguous()
        if not torch.isfinite(block).all():
            raise BackboneError(
                f"The backbone gives features up to {float(patches.abs().max()):g}; half precision holds up to "
                "65504. Use a tap before the one that grows so large, or a network with normalisation."
            )
        if self._limit is None or self._held + block.nbytes <= self._limit:
            self._held += block.nbytes
            return block
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="patchcore-")  # noqa: SIM115, it lives as long as the store
            weakref.finalize(self, self._file.close)
        begin = self._file.seek(0, 2)
        self._file.write(block.numpy().data)
        return begin, tuple(block.shape)

    @property
    def spilled(self) -> bool:
        """Whether some of the patches are in the file."""
        return self._file is not None

    def of(self, image: int) -> Tensor:
        """The patches (h*w, D) of one image, unchanged, half precision."""
        return self._read(self._of(image)[0])

    def _of(self, image: int) -> tuple[Block, ...]:
        blocks = self._blocks[image]
        assert blocks, "gather has taken this image's patches"
        return blocks

    def _read(self, block: Block) -> Tensor:
        if isinstance(block, Tensor):
            return block
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

    def gather(self, images: list[int], scales: Tensor | None = None) -> Tensor:
        """The patches (N, D) of some images, in that order, times `scales` (D,), half precision.

        Those of an image's changed versions follow its own. Takes them out of the store, so that they are never held
        twice. If anything was spilled, the result too is in a file, and mapped.
        """
        n = sum(h * w for image in images for h, w in self._shapes[image])
        d = self.of(images[0]).shape[1]
        rows = self.empty(n, d, torch.float16)
        begin = 0
        for image in images:
            for block in map(self._read, self._of(image)):
                rows[begin : begin + len(block)] = block if scales is None else block * scales.cpu()
                begin += len(block)
            self._blocks[image] = ()
        return rows

    def each(self, images: list[int]) -> Iterator[Tensor]:
        """The patches that `gather(images)` gives, one image or version after the other."""
        return (self._read(block) for image in images for block in self._of(image))

    def origins_of(self, images: list[int]) -> Tensor:
        """Where each row that `gather(images)` gives comes from: (N, 3), int32: image, grid row, grid column.

        If images have changed versions, (N, 4): last, the version, 0 for the image itself; the grid is its own.
        """
        parts = []
        for image in images:
            for version, (h, w) in enumerate(self._shapes[image]):
                row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
                origin = [torch.full_like(row, image), row, column, torch.full_like(row, version)]
                parts.append(torch.stack(origin, -1).flatten(0, 1).int())
        origins = torch.cat(parts)
        return origins if any(len(self._shapes[image]) > 1 for image in images) else origins[:, :3].contiguous()
