"""Threads: those that share our work. They last, compute on one core each, and rest while the process forks.

A child that is forked has no threads but the one that forked; what the others held at that moment stays held in it. MKL
holds a lock while it computes, and while a thread that it has served ends: a child that then multiplies matrices waits
for ever. So no thread of ours ends, and a fork waits for what they are doing.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

A = TypeVar("A")
B = TypeVar("B")
_PATIENCE = 10  # seconds that a fork waits: longer than any item takes, unless its work waits for the forking thread


def by_threads(work: Callable[[A], B], parts: Iterable[A], threads: int) -> list[B]:
    """What `work` makes of each part, by so many threads, which wait without spinning."""
    parts = list(parts)
    if threads < 2 or len(parts) < 2 or is_ours():
        return [work(part) for part in parts]
    futures = [submit(work, part, threads) for part in parts]
    wait(futures)
    return [future.result() for future in futures]


def submit(work: Callable[[A], B], item: A, threads: int) -> Future[B]:
    """Give one of so many threads an item. From a thread of ours (`is_ours`) it may wait for itself."""
    return _pool(threads).submit(WORK.run, work, item)


def is_ours() -> bool:
    """Whether the calling thread is one that `submit` gives work to."""
    return getattr(WORK.own, "is_ours", False)


@contextmanager
def cores(number: int | None) -> Iterator[None]:
    """The calling thread computes on so many cores, until the end; None: on as many as before."""
    if number is None:
        yield
        return
    with _openmp().limit(limits=number):
        before = _mkl()(number)
        try:
            yield
        finally:
            _mkl()(before)


@cache
def _openmp() -> ThreadpoolController:
    """Sets the calling thread's number of OpenMP threads, and nobody else's."""
    return ThreadpoolController().select(user_api="openmp")


@cache
def _mkl() -> Callable[[int], int]:
    """Sets the calling thread's number of MKL threads, and returns the one before; 0: as OpenMP has.

    Once somebody has called torch.set_num_threads, torch gives MKL that number in every thread, and MKL no longer asks
    OpenMP.
    """
    for library in (Path(torch.__file__).parent / "lib").glob("*torch_cpu.*"):
        try:
            number: Callable[[int], int] = ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
            return number
        except (OSError, AttributeError):  # no library; built without MKL
            continue
    return lambda _: 0


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "patchcore", _begin)


def _begin() -> None:
    WORK.own.is_ours = True
    torch.get_num_threads()  # torch sets the number in every new thread, once, when it is first asked to do something
    _openmp().limit(limits=1)
    _mkl()(1)


class _Work:
    """How many items are being worked on, and whether somebody forks (`pipeline/workers.py` says when)."""

    def __init__(self) -> None:
        self.own = threading.local()
        self._changed, self._at_work, self._forks = threading.Condition(), 0, 0

    def run(self, work: Callable[[A], B], item: A) -> B:
        with self._changed:
            self._changed.wait_for(lambda: not self._forks)
            self._at_work += 1
        try:
            return work(item)
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def before_fork(self) -> None:
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._at_work <= is_ours(), _PATIENCE)

    def after_fork(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def in_child(self) -> None:
        _pool.cache_clear()
        self.__init__()  # type: ignore[misc]


WORK = _Work()
