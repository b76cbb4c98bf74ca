"""Workers: threads that go through images, in order; nothing of what surrounds them in the process leaks in."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import islice
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor
from tqdm.auto import tqdm

from patchcore.data.images import Pixels, read, to_tensor
from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.errors import ImageError, UsageError

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Loaded:
    """A decoded image; `value_range` is the recipe's."""

    sample: Sample
    pixels: Pixels
    value_range: tuple[float, float] | None = None

    @cached_property
    def image(self) -> Tensor:
        """(C, H, W) float32 in [0, 1]. Errors: ImageError for values out of range."""
        return to_tensor(self.pixels, self.sample.name, self.value_range)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the pixels."""
        digest = hashlib.sha256(f"{self.pixels.shape}{self.pixels.dtype}".encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.digest()


def load(sample: Sample, max_pixels: int, value_range: tuple[float, float] | None = None) -> Loaded:
    """Decode an image. Errors: ImageError, which says where the file lies."""
    try:
        return Loaded(sample, read(sample.image, sample.name, max_pixels), value_range)
    except ImageError as error:
        raise error.at(sample.image) from error.__cause__


def through(
    work: Callable[[list[Loaded]], Sequence[B]],
    samples: Iterable[Sample],
    reading: Reading,
    value_range: tuple[float, float] | None,
    *,
    ahead: bool = True,
    progress: str | None = None,
) -> Iterator[B]:
    """What `work` makes of batches of decoded images, in order: one result for each image that can be used.

    `reading` states threads and batch. Without `ahead` no image is asked for before the one before it is done.
    """

    def of_batch(batch: list[Sample]) -> tuple[Sequence[B], list[ImageError]]:
        loaded, bad = list[Loaded](), list[ImageError]()
        for sample in batch:
            try:
                one = load(sample, reading.max_pixels, value_range)
                _ = one.image  # refused here, if at all, and not within a batch
                loaded.append(one)
            except ImageError as error:
                bad.append(error.at(sample.image))
        return work(loaded) if loaded else (), bad

    total = len(samples) if isinstance(samples, list) else None
    with progress_bar(progress, "image", total) as advance:
        batches = _batches(iter(samples), reading.batch or 1)
        for results, bad in in_order(of_batch, batches, reading.threads, ahead=ahead):
            for error in bad:
                if reading.on_bad is None:
                    raise error
                reading.on_bad(error)
            yield from results
            advance(len(results) + len(bad))


@contextmanager
def progress_bar(title: str | None, unit: str, total: int | None) -> Iterator[Callable[[int], object]]:
    """A progress bar, as what moves it on; none without a title, or where there is no standard error to draw it on.

    (What tqdm makes of a bar that is not shown has a thread and a lock, which a forked child would inherit.)
    """
    if title is None or getattr(sys.stderr, "closed", True):
        yield lambda _: None
        return
    with tqdm(total=total, desc=title, unit=unit) as bar:
        yield bar.update


def _batches(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while batch := list(islice(samples, size)):
        yield batch


def in_order(work: Callable[[A], B], items: Iterable[A], threads: int | None, *, ahead: bool = True) -> Iterator[B]:
    """What `work` makes of each item, in the items' order, by threads that run ahead a little.

    Each item goes to one thread, and what a thread computes is not spread over others: that keeps every core busy
    without two of them ever waiting for each other, and results do not depend on the number of threads. (Decoders
    and torch release the interpreter while they work.) Without `ahead` the caller does the work, item by item, and
    each computation is spread over `threads`, or over as many as the caller has set if that is None.
    """
    items = iter(items)
    if not ahead:
        for item in items:
            with _openmp().limit(limits=threads):
                result = _alone(work, item)
            yield result
        return
    threads, process = threads or torch.get_num_threads(), os.getpid()
    pool, waiting = ThreadPoolExecutor(threads, "patchcore", _on_one_core), deque[Future[B]]()
    try:
        while True:
            if os.getpid() != process:
                raise UsageError(
                    "These results were begun in another process, of which this one is a fork: the threads that work "
                    "on them are there. Begin them in this process, or start it with the method `spawn`."
                )
            together = _PLAIN.needed  # then nothing is left to be computed while the caller goes on
            if not (together and waiting):
                given = list(islice(items, 2 * threads - len(waiting)))
                with _PLAIN:
                    waiting.extend(pool.submit(_alone, work, item) for item in given)
                    if together:
                        wait(waiting)
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


@contextmanager
def undisturbed() -> Iterator[None]:
    """torch as it starts, whatever the caller has set, until the end: results depend on nothing that surrounds us.

    Of the calling thread: autocast, gradients, inference mode, default device, flushing of denormal numbers; and what
    `_PLAIN` holds of the process. In a forked child the thread that forked computes alone: OpenMP's threads stay in the
    parent, and the first computation that is spread over them would wait for ever.
    """
    with ExitStack() as stack:
        stack.enter_context(_PLAIN)
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))  # which switches gradients on
        stack.enter_context(torch.no_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if _LEAST * 1.0 == 0:
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        if threading.get_ident() == _PLAIN.forked:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        yield


_LEAST = 5e-324  # a denormal number; torch does not tell whether such are flushed


def _alone(work: Callable[[A], B], item: A) -> B:
    with undisturbed():
        return work(item)


class _Plain:
    """Settings that the whole process shares, as torch starts with them while anybody is inside, and then as before.

    `forked`: the thread that forked this process, if it is a child.
    """

    def __init__(self) -> None:
        self.forked: int | None = None
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[Callable[[], object]] = []

    @property
    def needed(self) -> bool:
        """Whether the caller has set something differently."""
        with self._lock:
            return bool(self._before) or any(get() not in plain for get, _, plain in _SETTINGS)

    def __enter__(self) -> None:
        with self._lock:
            for get, put, plain in _SETTINGS if not self._inside else ():
                if (value := get()) not in plain:
                    self._before.append(partial(put, value))
                    put(plain[0])
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            while self._before and not self._inside:
                self._before.pop()()

    def after_fork(self) -> None:
        """In the child: the threads that are inside, and the one that may hold the lock, are in the parent."""
        self._lock, self._inside, self.forked = threading.Lock(), 0, threading.get_ident()
        while self._before:
            self._before.pop()()


def _matmul_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # set for each backend, below, and differently
        return "highest"


_SETTINGS: list[tuple[Callable[[], Any], Callable[[Any], object], tuple[Any, ...]]] = [  # read, set, what is plain
    (torch.get_default_dtype, torch.set_default_dtype, (torch.float32,)),
    (_matmul_precision, torch.set_float32_matmul_precision, ("highest",)),
    *(
        (partial(getattr, backend, "fp32_precision"), partial(setattr, backend, "fp32_precision"), ("ieee", "none"))
        for backend in attrgetter("mkldnn.matmul", "mkldnn.conv", "cuda.matmul")(torch.backends)
    ),
]
_PLAIN = _Plain()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PLAIN.after_fork)
