"""Decoding pictures in threads, ahead of the network."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from patchcore.data.datasets import Sample
from patchcore.data.images import Pixels, read
from patchcore.errors import PictureError

OnBad = Callable[[PictureError], object]


@dataclass(frozen=True)
class Loaded:
    """A decoded picture; `digest` is the SHA-256 of its pixels, for the data fingerprint."""

    sample: Sample
    pixels: Pixels
    digest: bytes


def _load(sample: Sample, max_pixels: int) -> Loaded:
    pixels = read(sample.picture, sample.name, max_pixels)
    digest = hashlib.sha256(f"{pixels.shape}{pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Loaded(sample, pixels, digest.digest())


def load(found: Iterable[Sample], *, ahead: int, max_pixels: int, on_bad: OnBad | None = None) -> Iterator[Loaded]:
    """Decoded pictures, in order, with up to `ahead` of them being decoded meanwhile.

    A picture that cannot be read is raised, or given to `on_bad` and left out. Threads suffice:
    decoders release the interpreter while they work.
    """
    found = iter(found)
    with ThreadPoolExecutor(min(ahead, os.cpu_count() or 1), "patchcore-decode") as pool:
        waiting: deque[Future[Loaded]] = deque()
        try:
            while True:
                for sample in islice(found, ahead - len(waiting)):
                    waiting.append(pool.submit(_load, sample, max_pixels))
                if not waiting:
                    return
                try:
                    loaded = waiting.popleft().result()
                except PictureError as error:
                    if on_bad is None:
                        raise
                    on_bad(error)
                else:
                    yield loaded
        finally:
            for future in waiting:
                future.cancel()
