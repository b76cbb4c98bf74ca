"""Crew: workers that keep what they have made, and are made again as they were when one is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from patchcore.cluster.session import engine
from patchcore.errors import PatchcoreError

log = logging.getLogger(__name__)
_MOST = 20  # times that one worker is made again: then something else is wrong


@dataclass(eq=False)
class Call:
    """What a worker was asked. `keeps`: it changes what the worker has, and is asked again of the one in its place."""

    worker: int
    method: str
    arguments: tuple[object, ...]
    keeps: bool
    order: int
    reference: object = None
    actor: object = None


@dataclass(eq=False)
class Crew:
    """Workers by number. A call of one is answered in the order of its calls.

    A worker that is lost, with its process or its machine, is replaced by another, which is asked again all that has
    made the lost one what it was; so every answer is there, once.
    """

    make: Callable[[], Any]  # an object on one worker, as an actor's class bound to its arguments
    count: int
    replaced: int = 0
    _asked: int = 0
    _actors: list[Any] = field(default_factory=list)
    _kept: list[list[Call]] = field(default_factory=list)
    _open: list[list[Call]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._actors = [self.make().options(num_cpus=1).remote() for _ in range(self.count)]
        self._kept, self._open = [[] for _ in range(self.count)], [[] for _ in range(self.count)]

    def ask(self, worker: int, method: str, *arguments: object, keeps: bool = False) -> Call:
        """Ask without waiting."""
        self._asked += 1
        call = Call(worker, method, arguments, keeps, self._asked)
        if keeps:
            self._kept[worker].append(call)
        self._open[worker].append(call)
        self._send(call)
        return call

    def answer(self, call: Call) -> Any:
        """Wait for an answer. Errors: those that the worker raises of ours."""
        ray = engine()
        while True:
            try:
                found = ray.get(call.reference)
                break
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, PatchcoreError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:
                if "raised in its creation task" in str(error):  # another would not be made either
                    raise
                # The worker or its machine is gone, or what they held.
                if call.actor is self._actors[call.worker]:
                    self._replace(call.worker, error)
        self._open[call.worker].remove(call)
        return found

    def all(self, method: str, *arguments: object, keeps: bool = False) -> list[Any]:
        """Ask every worker the same; their answers, by number."""
        calls = [self.ask(worker, method, *arguments, keeps=keeps) for worker in range(self.count)]
        return [self.answer(call) for call in calls]

    def each(self, method: str, arguments: Sequence[tuple[object, ...]], *, keeps: bool = False) -> list[Any]:
        """Ask every worker something of its own; their answers, by number."""
        calls = [self.ask(worker, method, *own, keeps=keeps) for worker, own in enumerate(arguments)]
        return [self.answer(call) for call in calls]

    def _send(self, call: Call) -> None:
        call.actor = self._actors[call.worker]
        call.reference = getattr(call.actor, call.method).remote(*call.arguments)

    def _replace(self, worker: int, why: Exception) -> None:
        ray = engine()
        self.replaced += 1
        if self.replaced > _MOST * self.count:
            raise RuntimeError(f"workers were lost {self.replaced} times, the last one so: {why}") from why
        log.info("Worker %d was lost; another takes its place.", worker)
        others = sum(one is not self._actors[worker] for one in self._actors)
        # Where a machine was lost there may be no core left for it; it then shares one with another worker.
        free = ray.cluster_resources().get("CPU", 0) > others
        self._actors[worker] = self.make().options(num_cpus=1 if free else 0).remote()
        again = {call.order: call for call in [*self._kept[worker], *self._open[worker]]}
        for order in sorted(again):
            self._send(again[order])

    def forget(self, worker: int, method: str) -> None:
        """What such calls have made is no longer needed."""
        self._kept[worker] = [call for call in self._kept[worker] if call.method != method]

    def close(self) -> None:
        """End all workers."""
        for actor in self._actors:
            engine().kill(actor)
