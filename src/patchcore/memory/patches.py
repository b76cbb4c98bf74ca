"""The patches of the training images, until the bank is chosen from them."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import psutil
import torch
from pydantic import ByteSize, TypeAdapter, ValidationError
from torch import Tensor

from patchcore.errors import BackboneError, StoreError, UsageError
from patchcore.files import writing
from patchcore.maths import coreset
from patchcore.maths.coreset import Selection
from patchcore.maths.embedding import Moments, moments
from patchcore.maths.groups import Empty

_LEAST_MEMORY = 500_000_000  # bytes

Block: TypeAlias = Tensor | tuple[int, tuple[int, ...]]  # the patches, or where in the file they are, and their shape


class Rows:
    """The patches (N, D), in half precision, that banks are chosen from."""

    def __init__(self, values: Tensor, empty: Empty) -> None:
        self._values, self._empty = values, empty

    def __len__(self) -> int:
        return len(self._values)

    @property
    def width(self) -> int:
        """D."""
        return self._values.shape[1]

    def take(self, which: Tensor | slice) -> Tensor:
        """Some of them, (n, D), in half precision, by their numbers (n,)."""
        return self._values[which]

    def projected(self, how: Selection, total: int) -> Tensor:
        """As they are when rows are chosen, (N, d); `total`: how many there are, here and elsewhere."""
        return coreset.project(self._values, how.projection, how.projection_dims, how.seed, self._empty, total)

    def selections(
        self, wanted: Sequence[tuple[int, Tensor | None]], how: Selection, tell: Callable[[int], object]
    ) -> list[Tensor]:
        """The numbers of the rows of each selection: see `coreset.selections`; projected before if they are to be."""
        projects = how.method in ("k_center", "merge") and wanted[0][0] < len(self)
        return coreset.selections(
            self.projected(how, len(self)) if projects else self._values,
            wanted,
            method=how.method,
            start=how.start,
            seed=how.seed,
            on_progress=tell,
            empty=self._empty,
        )


class PatchStore:
    """Patches, in half precision unless stated, with the image and the grid cell that each comes from.

    Those of the first images are kept in memory, up to `limit` bytes, and the rest in a file. The
    file has no name: when the process ends, however it ends, it is gone (on Windows: when it closes).
    """

    def __init__(self, limit: int | None = None, dtype: torch.dtype = torch.float16) -> None:
        self.grids: list[tuple[int, int]] = []  # of each image: rows, columns
        self._limit, self._dtype = limit, dtype
        self._blocks: list[tuple[Block, ...]] = []  # of each image and its augmented copies, until they are gathered
        self._cells: list[tuple[Tensor, ...]] = []  # of their grids, (h, w): which of them have a patch
        self._held = 0  # bytes in memory
        self._file: BinaryIO | None = None

    def append(self, *copies: tuple[Tensor, tuple[int, int]], kept: Sequence[Tensor] | None = None) -> None:
        """Add the patches (n, D) of one image, row by row, with their grid; then those of its augmented copies.

        `kept`: of each, which cells (h, w) have a patch, if not all have.
        """
        self._blocks.append(tuple(self._keep(patches) for patches, _ in copies))
        every = (torch.ones(grid, dtype=torch.bool) for _, grid in copies)
        self._cells.append(tuple(every if kept is None else kept))
        self.grids.append(copies[0][1])

    def _keep(self, patches: Tensor) -> Block:
        # Half precision is plenty for choosing and remembering; it is applied always, so that
        # where the patches are kept can never change which ones are chosen.
        block = patches.to("cpu", self._dtype).contiguous()
        if not torch.isfinite(block).all():
            raise BackboneError(
                f"The backbone gives features up to {float(patches.abs().max()):g}; half precision holds up to "
                "65504. Use a tap before the one that grows so large, or a network with normalisation."
            )
        if self._limit is None or self._held + block.nbytes <= self._limit:
            self._held += block.nbytes
            return block
        with _spilling(block.nbytes):
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="patchcore-")  # noqa: SIM115, it lives as long as the store
                weakref.finalize(self, self._file.close)
            begin = self._file.seek(0, 2)
            self._file.write(block.numpy().data)
            self._file.flush()
        return begin, tuple(block.shape)

    @property
    def spilled(self) -> bool:
        """Whether some of the patches are in the file."""
        return self._file is not None

    def of(self, image: int) -> Tensor:
        """The patches (h*w, D) of one image, unchanged, half precision."""
        return self._read(self._of(image)[0])

    def block(self, image: int, copy: int) -> Tensor:
        """The same of one of its augmented copies, from 1; 0: its own."""
        return self._read(self._of(image)[copy])

    def _of(self, image: int) -> tuple[Block, ...]:
        blocks = self._blocks[image]
        assert blocks, "gather has taken this image's patches"
        return blocks

    def _read(self, block: Block) -> Tensor:
        if isinstance(block, Tensor):
            return block
        assert self._file is not None
        self._file.seek(block[0])
        kind = np.float16 if self._dtype == torch.float16 else np.float32
        values = np.fromfile(self._file, kind, block[1][0] * block[1][1])
        return torch.from_numpy(values).view(block[1])

    def empty(self, n: int, d: int, dtype: torch.dtype) -> Tensor:
        """A tensor (n, d) to be filled: in memory, or in a file of its own if any patches are in one."""
        if self._file is None:
            return torch.empty(n, d, dtype=dtype)
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        size = n * d * kind.itemsize
        with _spilling(size), tempfile.TemporaryFile(prefix="patchcore-") as file:  # a mapping outlives its file
            if reserve := getattr(os, "posix_fallocate", None):  # else, without room, the system ends the process
                reserve(file.fileno(), 0, max(size, 1))
            return torch.from_numpy(np.memmap(file, kind, "w+", shape=(n, d)))

    def gather(self, images: list[int], scales: Tensor | None = None) -> Tensor:
        """The patches (N, D) of some images, in that order, times `scales` (D,), half precision.

        Those of an image's augmented copies follow its own. Takes them out of the store, so that they are never held
        twice. If anything was spilled, the result too is in a file, and mapped.
        """
        n = sum(int(cells.sum()) for image in images for cells in self._cells[image])
        d = self.of(images[0]).shape[1]
        rows = self.empty(n, d, torch.float16)
        begin = 0
        for image in images:
            for block in map(self._read, self._of(image)):
                rows[begin : begin + len(block)] = block if scales is None else block * scales.cpu()
                begin += len(block)
            self._blocks[image] = ()
        return rows

    def rows(self, images: list[int], scales: Tensor | None, device: torch.device) -> Rows:
        """What `gather` gives, to be chosen from; on the device unless it is in a file."""
        values = self.gather(images, scales)
        if not self.spilled and device.type != "mps":  # float64 settles what is close, and MPS has none
            values = values.to(device)
        return Rows(values, self.empty)

    def each(self, images: list[int]) -> Iterator[Tensor]:
        """The patches that `gather(images)` gives, one image or copy after the other."""
        return (self._read(block) for image in images for block in self._of(image))

    def moments(self, images: list[int]) -> Iterator[Moments]:
        """Of what `each` gives."""
        return map(moments, self.each(images))

    def origins_of(self, images: list[int]) -> Tensor:
        """Where each row that `gather(images)` gives comes from: (N, 3), int32: image, grid row, grid column.

        If there are augmented copies, (N, 4): last, the copy, 0 for the image itself; the grid is its own.
        """
        parts = []
        for image in images:
            for copy, cells in enumerate(self._cells[image]):
                row, column = cells.nonzero(as_tuple=True)
                origin = [torch.full_like(row, image), row, column, torch.full_like(row, copy)]
                parts.append(torch.stack(origin, -1).int())
        origins = torch.cat(parts)
        return origins if any(len(self._cells[image]) > 1 for image in images) else origins[:, :3].contiguous()


@contextmanager
def _spilling(needed: int) -> Iterator[None]:
    """Errors: StoreError, which says where there is no room."""
    try:
        folder = Path(tempfile.gettempdir())
    except OSError as error:
        raise StoreError(f"There is no folder for temporary files: {error.strerror} Set TMPDIR to one.") from error
    with writing(f"{folder} (TMPDIR), patches that do not fit into memory", folder, needed):
        yield


def spill_limit(memory: int | str | None) -> int:
    """How many bytes of patches may stay in memory if a fit may take `memory` in all.

    The rest is for images that are being read and for choosing the bank. By default a fit may take half of the
    machine's memory. Errors: UsageError.
    """
    if memory is None:
        memory = max(psutil.virtual_memory().total // 2, _LEAST_MEMORY)
    try:
        limit = TypeAdapter(ByteSize).validate_python(memory)
    except ValidationError:
        raise UsageError(f"memory is {memory!r}; expected a size, for example '2GB' or 2000000000 bytes.") from None
    if limit < _LEAST_MEMORY:
        raise UsageError(f"memory is {memory}; a fit needs at least {_LEAST_MEMORY // 10**6}MB beside the model.")
    return limit // 3
