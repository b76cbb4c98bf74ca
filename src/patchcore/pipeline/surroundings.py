"""Surroundings: what others have set in the process, kept out of every result."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import attrgetter
from typing import Any

import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """torch as it starts, whatever the caller has set, until the end: results depend on nothing that surrounds us.

    Of the calling thread: autocast, gradients, inference mode, default device, flushing of denormal numbers; and what
    `PLAIN` holds of the process. In a forked child the thread that forked computes alone: OpenMP's threads stay in the
    parent, and the first computation that is spread over them would wait for ever.
    """
    with ExitStack() as stack:
        stack.enter_context(PLAIN)
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
        if threading.get_ident() == PLAIN.forked:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        yield


_LEAST = 5e-324  # a denormal number; torch does not tell whether such are flushed


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
PLAIN = _Plain()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PLAIN.after_fork)
