"""Workers: threads that go through images, in order."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from patchcore.data.images import Pixels, read, to_tensor
from patchcore.data.reading import Colour, Reading
from patchcore.data.sample import Sample
from patchcore.errors import ImageError, UsageError
from patchcore.maths.appearance import Appearance, appearance
from patchcore.maths.registration import Motion
from patchcore.maths.threads import WORK, cores, is_ours, submit
from patchcore.pipeline.surroundings import PLAIN, undisturbed

A = TypeVar("A")
B = TypeVar("B")
log = logging.getLogger(__name__)
_EARLY = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


@dataclass(frozen=True)
class Loaded:
    """A decoded image; `value_range` is the recipe's, `warnings` what is wrong with a part of its pixels."""

    sample: Sample
    pixels: Pixels
    value_range: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()
    motion: Motion | None = None  # if these pixels are a canvas that the image was brought to

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

    @property
    def appearance(self) -> Appearance:
        """What it looks like as a whole."""
        return appearance(self.image)

    @cached_property
    def red_blue(self) -> float | None:
        """How much more red than blue there is, (R - B) / (R + G + B) over some pixels; None for a grey image."""
        if len(self.image) == 1:
            return None
        red, green, blue = self.image[:, ::8, ::8].double().mean((1, 2)).tolist()
        return round((red - blue) / max(red + green + blue, 1e-6), 4)  # the same for every order of summation


def load(
    sample: Sample,
    max_pixels: int,
    value_range: tuple[float, float] | None = None,
    colour: Colour = "rgb",
    *,
    damaged: bool = False,
) -> Loaded:
    """Decode an image. Errors: ImageError, which says where the file lies; with `damaged`, not for a part of it."""
    warnings = list[str]()
    try:
        pixels = read(sample.image, sample.name, max_pixels, colour, warnings=warnings if damaged else None)
        return Loaded(sample, pixels, value_range, tuple(warnings))
    except ImageError as error:
        raise error.at(sample.image) from error.__cause__


def say_copies(copies: int, total: int) -> None:
    """A warning, if there are any."""
    if copies:
        log.warning("%d of %d images are copies of others, pixel for pixel; each counts once.", copies, total)


def through(
    work: Callable[[list[Loaded]], Sequence[B]],
    samples: Iterable[Sample],
    reading: Reading,
    value_range: tuple[float, float] | None,
    *,
    check: Callable[[Loaded], None] = lambda _: None,
    damaged: bool = False,
    ahead: bool = True,
    progress: str | None = None,
) -> Iterator[B]:
    """What `work` makes of batches of decoded images, in order: one result for each image that can be used.

    `reading` states threads and batch. `check` raises ImageError for an image that cannot be used; with `damaged`
    those can that are wrong in a part. Without `ahead` no image is asked for before the one before it is done.
    """

    def of_batch(batch: list[Sample]) -> tuple[Sequence[B], list[ImageError]]:
        loaded, bad = list[Loaded](), list[ImageError]()
        for sample in batch:
            try:
                one = load(sample, reading.max_pixels, value_range, reading.colour, damaged=damaged)
                check(one)
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
def progress_bar(title: str | None, unit: str, total: int | None) -> Iterator[Callable[..., object]]:
    """A progress bar, as what moves it on by a count, and notes what is done now.

    None without a title, or where there is no standard error to draw it on. (What tqdm makes of a bar that is not shown
    has a thread and a lock, which a forked child would inherit.) It says how much time is left only once some of the
    work is done: the first steps wait for what is loaded once.
    """
    if title is None or getattr(sys.stderr, "closed", True):
        yield lambda *_: None
        return
    early = 0 if total is None else max(total / 20, min(10, total / 2))
    with tqdm(total=total, desc=title, unit=unit, bar_format=_EARLY if early else None) as bar:

        def advance(count: int, note: str | None = None) -> None:
            if note is not None:
                bar.set_postfix_str(note)
            if bar.n + count >= early:
                bar.bar_format = None
            bar.update(count)

        yield advance


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
    ahead, threads = (False, 1) if is_ours() else (ahead, threads)  # one that waited for ours might wait for itself
    if not ahead:
        for item in items:
            with cores(threads):
                result = _alone(work, item)
            yield result
        return
    threads, process, waiting = threads or torch.get_num_threads(), os.getpid(), deque[Future[B]]()
    try:
        while True:
            if os.getpid() != process:
                raise UsageError(
                    "These results were begun in another process, of which this one is a fork: the threads that work "
                    "on them are there. Begin them in this process, or start it with the method `spawn`."
                )
            together = PLAIN.needed  # then nothing is left to be computed while the caller goes on
            if not (together and waiting):
                given = list(islice(items, 2 * threads - len(waiting)))
                with PLAIN:
                    waiting.extend(submit(partial(_alone, work), item, threads) for item in given)
                    if together:
                        wait(waiting)
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:  # what has begun is not waited for: a generator that was left behind may be collected by a thread of ours
        for future in waiting:
            future.cancel()


def _alone(work: Callable[[A], B], item: A) -> B:
    with undisturbed():
        return work(item)


if hasattr(os, "register_at_fork"):  # the last to be registered is called first, so nothing holds what the work needs
    os.register_at_fork(before=WORK.before_fork, after_in_parent=WORK.after_fork, after_in_child=WORK.in_child)
