"""Ledger: which image each worker is at, so that one which ends its workers is found and named."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from patchcore.cluster.session import engine

_TRIES = 3  # times that an image may be begun and not ended: a machine that is switched off is no fault of the image's


class Ledger:
    """Of each image, by its number, how often it was begun and not ended; and what all workers need, as a reference."""

    def __init__(self, shared: Sequence[object]) -> None:
        self._shared, self._begun = shared, dict[int, int]()

    def shared(self) -> Sequence[object]:
        """What all workers need, in the object store."""
        return self._shared

    def begin(self, image: int, ended: int | None = None) -> bool:
        """An image begins, and another has ended; whether it may: it has not ended too many workers before."""
        if ended is not None:
            self._begun.pop(ended, None)
        self._begun[image] = self._begun.get(image, 0) + 1
        return self._begun[image] <= _TRIES

    def end(self, image: int) -> None:
        """An image has ended."""
        self._begun.pop(image, None)


class Book:
    """A ledger, as an actor on the driver's machine."""

    def __init__(self, shared: object) -> None:
        ray = engine()
        strategies = import_module("ray.util.scheduling_strategies")
        here = strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote([ray.put(shared)])

    def shared(self) -> Any:
        """What was given: moved to a machine once."""
        return engine().get(engine().get(self._actor.shared.remote())[0])

    def begin(self, image: int, ended: int | None = None) -> bool:
        """As `Ledger.begin`: it is known before this worker can end."""
        return bool(engine().get(self._actor.begin.remote(image, ended)))

    def end(self, image: int) -> None:
        """As `Ledger.end`."""
        self._actor.end.remote(image)


REFUSED = (
    f"{_TRIES} workers have ended while they looked at it: it may take more memory than there is, or make a decoder "
    "crash. Look at it alone with `patchcore predict`, or give workers more memory."
)
NO_MEMORY = "the worker ran out of memory while it looked at it. Give workers more memory, or lower max_pixels."


def bounded(memory: int | None) -> None:
    """This process may take so many bytes of memory more; None: as many as there are."""
    if memory is None or sys.platform != "linux":
        return
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def is_no_memory(error: BaseException) -> bool:
    """Whether Python or torch says that there is no memory left."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "can't allocate memory" in text or "failed to allocate" in text
