"""Working through images in threads, in order."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from patchcore.data.datasets import Sample
from patchcore.data.images import Pixels, read
from patchcore.errors import ImageError

OnBad = Callable[[ImageError], object]
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Loaded:
    """A decoded image."""

    sample: Sample
    pixels: Pixels

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the pixels, for the data fingerprint."""
        digest = hashlib.sha256(f"{self.pixels.shape}{self.pixels.dtype}".encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.digest()


def load(sample: Sample, max_pixels: int) -> Loaded:
    """Decode an image. Errors: ImageError."""
    return Loaded(sample, read(sample.image, sample.name, max_pixels))


def in_order(work: Callable[[A], B], items: Iterable[A], threads: int, alone: int | None = None) -> Iterator[B]:
    """What `work` makes of each item, in the items' order, by some threads that run ahead a little.

    Whole images go to a thread each, and what a thread computes is not spread over others: that
    keeps every core busy without two of them ever waiting for each other, and results do not depend
    on the number of threads. (Decoders and torch release the interpreter while they work.) With
    `threads` 0 the caller does the work, and no item is asked for before the one before it is done;
    a computation is then spread over `alone` threads, or over as many as the caller has set.
    """
    items = iter(items)
    if not threads:
        for item in items:
            with _openmp().limit(limits=alone):
                result = work(item)
            yield result
        return
    pool, waiting = ThreadPoolExecutor(threads, "patchcore", _on_one_core), deque[Future[B]]()
    try:
        while True:
            for item in islice(items, 2 * threads - len(waiting)):
                waiting.append(pool.submit(work, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:  # not waited for: a generator that was left behind may be collected by one of these threads
        pool.shutdown(wait=False, cancel_futures=True)


def _on_one_core() -> None:
    torch.get_num_threads()  # torch sets the number in every new thread, once, when it is first asked to do something
    _openmp().limit(limits=1)


@cache
def _openmp() -> ThreadpoolController:
    """Sets the calling thread's number of OpenMP threads, and nobody else's."""
    return ThreadpoolController().select(user_api="openmp")
