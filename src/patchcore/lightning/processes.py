"""Several processes, each with a share of the pictures: what they have seen, in the order of a single one.

A distributed sampler without shuffling gives process r of W the pictures r, r + W, r + 2W, ..., so the
p-th picture of process r is number p * W + r. To give every process as many, it starts again with the
first pictures: whatever has a number beyond the last one is a duplicate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DistributedSampler

from patchcore.memory.patches import PatchStore

T = TypeVar("T")


def several() -> bool:
    """Whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def samples_of(loader: Any) -> int | None:
    """How many pictures there are in all, if a distributed sampler deals them out; else None."""
    sampler = getattr(loader, "sampler", None)
    return len(sampler.dataset) if isinstance(sampler, DistributedSampler) else None  # type: ignore[arg-type]


def interleaved(own: list[T], total: int | None) -> list[T]:
    """The lists of all processes as one, duplicates left out; the same in every process."""
    if not several():
        return own
    lists: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(lists, own)
    return _dealt(lists, total)


def _dealt(lists: list[list[T]], total: int | None) -> list[T]:
    longest, world = max(map(len, lists)), len(lists)
    numbers = ((p * world + r, p, r) for p in range(longest) for r in range(world) if p < len(lists[r]))
    return [lists[r][p] for number, p, r in numbers if total is None or number < total]


def gather(seen: PatchStore, into: PatchStore, total: int | None, device: torch.device) -> None:
    """The patches of all processes, picture by picture; the first process puts them into a store.

    `device` is where the processes exchange tensors: the CPU for gloo, a GPU for NCCL.
    """
    shapes: list[tuple[list[tuple[int, int]], int]] = [([], 0)] * dist.get_world_size()
    dist.all_gather_object(shapes, (seen.grids, seen.of(0).shape[1] if seen.grids else 0))
    dimensions, first = max(d for _, d in shapes), dist.get_rank() == 0
    for p in range(max(len(grids) for grids, _ in shapes)):
        now = [grids[p] if p < len(grids) else (0, 0) for grids, _ in shapes]
        sent = torch.zeros(max(h * w for h, w in now), dimensions, dtype=torch.float16)
        if p < len(seen.grids):
            block = seen.of(p)
            sent[: len(block)] = block
        # As bytes, which every backend can send.
        parts = [torch.empty_like(sent.view(torch.uint8), device=device) for _ in now]
        dist.all_gather(parts, sent.view(torch.uint8).to(device))
        for r, ((h, w), part) in enumerate(zip(now, parts, strict=True)):
            number = p * len(now) + r
            if first and h and (total is None or number < total):
                into.append(part.cpu().view(torch.float16)[: h * w], (h, w))


def from_the_first(work: Callable[[], Tensor], device: torch.device) -> Tensor:
    """The tensor that `work` makes in the first process, in all of them; so is its error."""
    if not several():
        return work()
    made: Tensor | None = None
    told: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            made = work().to(device)
            told = [(made.shape, made.dtype)]
        except Exception as error:  # the others would wait for ever
            told = [error]
    dist.broadcast_object_list(told, src=0)
    if isinstance(told[0], Exception):
        raise told[0]
    shape, dtype = told[0]
    made = torch.empty(shape, dtype=dtype, device=device) if made is None else made
    dist.broadcast(made, src=0)
    return made
