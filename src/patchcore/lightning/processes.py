"""Bring together what several processes have seen, in the order of a single process.

A distributed sampler deals out the images (shuffled in training), and repeats the first ones so that all
processes get the same number: 101 images on two processes are 51 and 51. The index of each image in the
dataset gives the order, and shows which images are duplicates.
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


def places(loader: Any, count: int) -> list[int]:
    """The dataset indices of the first `count` images that a loader gave this process.

    Without a distributed sampler they are unknown; images are then assumed to be dealt out one by one.
    """
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, DistributedSampler):
        return list(DistributedSampler.__iter__(sampler))[:count]
    world, rank = (dist.get_world_size(), dist.get_rank()) if several() else (1, 0)
    return [rank + world * i for i in range(count)]


def merged(own: list[T], where: list[int]) -> list[T]:
    """The results of all processes, in order of dataset index and without duplicates; the same in every process."""
    if not several():
        return own
    parts: list[tuple[list[int], list[T]]] = [([], [])] * dist.get_world_size()
    dist.all_gather_object(parts, (where, own))
    return [parts[rank][1][i] for rank, i in owners([part[0] for part in parts])]


def owners(where: list[list[int]]) -> list[tuple[int, int]]:
    """For each dataset index, in order: a process that has it, and its position there. `where`: indices by process."""
    found: dict[int, tuple[int, int]] = {}
    for rank, own in enumerate(where):
        for i, place in enumerate(own):
            found.setdefault(place, (rank, i))
    return [found[place] for place in sorted(found)]


def gather(seen: PatchStore, into: PatchStore, where: list[int], device: torch.device) -> None:
    """Collect the patches of all processes, image by image, in the store `into` of the first process.

    `where`: dataset indices of the images in `seen`; `device`: where the processes exchange tensors, the
    CPU for gloo, a GPU for NCCL.
    """
    parts: list[tuple[list[int], list[tuple[int, int]], int]] = [([], [], 0)] * dist.get_world_size()
    dist.all_gather_object(parts, (where, seen.grids, seen.of(0).shape[1] if seen.grids else 0))
    rank = dist.get_rank()
    for owner, i in owners([part[0] for part in parts]):
        _, grids, dimensions = parts[owner]
        h, w = grids[i]
        if rank == owner == 0:
            into.append((seen.of(i), (h, w)))
        elif rank == owner:  # as bytes, which every backend can send
            dist.send(seen.of(i).contiguous().view(torch.uint8).to(device), dst=0)
        elif rank == 0:
            block = torch.empty(h * w, dimensions, dtype=torch.float16, device=device).view(torch.uint8)
            dist.recv(block, src=owner)
            into.append((block.cpu().view(torch.float16), (h, w)))


def from_the_first(work: Callable[[], Tensor], device: torch.device) -> Tensor:
    """Run `work` in the first process, and return its tensor, or raise its error, in all of them."""
    if not several():
        return work()
    made: Tensor | None = None
    told: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            made = work().to(device)
            told = [(made.shape, made.dtype)]
        except Exception as error:  # otherwise the others would wait forever
            told = [error]
    dist.broadcast_object_list(told, src=0)
    if isinstance(told[0], Exception):
        raise told[0]
    shape, dtype = told[0]
    made = torch.empty(shape, dtype=dtype, device=device) if made is None else made
    dist.broadcast(made, src=0)
    return made
