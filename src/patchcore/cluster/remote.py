"""Remote: patches that lie with the workers of a crew, as learning asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchcore.cluster.crew import Crew
from patchcore.maths import coreset, shards
from patchcore.maths.coreset import BLOCK, Selection
from patchcore.maths.embedding import Moments
from patchcore.memory.patches import Block, PatchStore, Rows

Way = Literal["exact", "merge"]
_AHEAD = 16  # images whose patches are fetched at once
_MOMENTS = 256  # images whose moments are


def ticket(worker: int, number: int, copy: int) -> Tensor:
    """What stands for the patches of an image, or of an augmented copy, where they are not: who has them."""
    return torch.tensor([worker, number, copy])


class RemoteStore(PatchStore):
    """Patches of images, which workers keep: it knows who has them, and their grids."""

    def __init__(self, crew: Crew, name: str, member: int, dtype: torch.dtype, way: Way) -> None:
        super().__init__(None, dtype)
        self.name, self._crew, self._member, self._way = name, crew, member, way
        self._places: list[tuple[int, int]] = []  # of each image: its worker, and its number there
        self._fetched: dict[int, Tensor] = {}

    def _keep(self, patches: Tensor) -> Block:
        worker, number, copy = patches.tolist()
        if not copy:
            self._places.append((worker, number))
        return patches

    def place(self, image: int) -> tuple[int, int]:
        """The worker that has an image, and its number there."""
        return self._places[image]

    def _read(self, block: Block) -> Tensor:
        return next(self._from_workers("patches", [cast("Tensor", block)]))

    def of(self, image: int) -> Tensor:
        """As a store does; others are fetched with it: they are asked for one after the other."""
        if image not in self._fetched:
            some = [one for one in range(image, min(image + _AHEAD, len(self.grids))) if self._blocks[one]]
            tickets = [cast("Tensor", self._of(one)[0]) for one in some]
            self._fetched = dict(zip(some, self._from_workers("patches", tickets), strict=True))
        return self._fetched[image]

    def each(self, images: list[int]) -> Iterator[Tensor]:
        return self._in_steps("patches", images, _AHEAD)

    def moments(self, images: list[int]) -> Iterator[Moments]:
        return self._in_steps("moments", images, _MOMENTS)

    def _in_steps(self, method: str, images: list[int], size: int) -> Iterator[Any]:
        for begin in range(0, len(images), size):
            blocks = chain.from_iterable(self._of(image) for image in images[begin : begin + size])
            yield from self._from_workers(method, [cast("Tensor", block) for block in blocks])

    def _from_workers(self, method: str, tickets: Sequence[Tensor]) -> Iterator[Any]:
        """What each ticket's worker says of it, in order; every worker is asked once."""
        own: dict[int, list[tuple[int, int]]] = {}
        for worker, number, copy in map(Tensor.tolist, tickets):
            own.setdefault(worker, []).append((number, copy))
        calls = {w: self._crew.ask(w, method, self.name, self._member, which) for w, which in own.items()}
        answers = {worker: iter(self._crew.answer(call)) for worker, call in calls.items()}
        return (next(answers[int(one[0])]) for one in tickets)

    def rows(self, images: list[int], scales: Tensor | None, device: torch.device) -> Rows:
        """Rows that stay with the workers."""
        own: list[list[int]] = [[] for _ in range(self._crew.count)]
        owner = np.empty(len(images), np.int64)
        for place, image in enumerate(images):
            worker, number = self._places[image]
            own[worker].append(number)
            owner[place] = worker
        counts = np.array([sum(int(cells.sum()) for cells in self._cells[image]) for image in images])
        width = self.of(images[0]).shape[1]
        self._fetched = {}
        self._crew.each("gather", [(self.name, self._member, some, scales) for some in own], keeps=True)
        for image in images:
            self._blocks[image] = ()
        return RemoteRows(self._crew, self._member, owner, counts, width, self._way)


class RemoteRows(Rows):
    """Rows that lie with workers, in the order of their images; of an image all lie with one.

    `owner`, `counts` (images,): whose, and how many.
    """

    def __init__(
        self, crew: Crew, member: int, owner: NDArray[np.int64], counts: NDArray[np.int64], width: int, way: Way
    ) -> None:
        self._crew, self._member, self._width, self._way = crew, member, width, way
        self._owner, self._ends = owner, np.cumsum(counts)
        self._begins = self._ends - counts
        self._there = np.empty(len(owner), np.int64)  # where an image's rows begin with its worker
        for worker in range(crew.count):
            own = owner == worker
            self._there[own] = np.cumsum(counts[own]) - counts[own]
        self._crew.each("number", [(member, self._numbers(worker)) for worker in range(crew.count)], keeps=True)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def width(self) -> int:
        return self._width

    def take(self, which: Tensor | slice) -> Tensor:
        return self._from_workers("take", which)

    def _from_workers(self, method: str, which: Tensor | slice) -> Tensor:
        rows = np.arange(len(self))[which] if isinstance(which, slice) else which.numpy()
        image = np.searchsorted(self._ends, rows, "right")
        owner, there = self._owner[image], self._there[image] + rows - self._begins[image]
        workers = np.unique(owner)
        calls = [self._crew.ask(int(one), method, self._member, there[owner == one]) for one in workers]
        answers = [self._crew.answer(call) for call in calls]
        if not answers:
            return torch.empty(0, self._width, dtype=torch.float16)
        found = answers[0].new_empty(len(rows), answers[0].shape[1])
        for one, answer in zip(workers, answers, strict=True):
            found[torch.from_numpy(owner == one)] = answer
        return found

    def _numbers(self, worker: int) -> NDArray[np.int64]:
        own = self._owner == worker
        ranges = [np.arange(*pair) for pair in zip(self._begins[own], self._ends[own], strict=True)]
        return np.concatenate(ranges) if ranges else np.empty(0, np.int64)

    def selections(
        self, wanted: Sequence[tuple[int, Tensor | None]], how: Selection, tell: Callable[[int], object]
    ) -> list[Tensor]:
        """As a store's rows do. `k_center` exactly, by rounds of messages (see `shards`), or as the way says merged."""
        found: dict[int, Tensor] = {}
        for number, (n_picks, among) in enumerate(wanted):
            rows = torch.arange(len(self)) if among is None else among.nonzero()[:, 0]
            if n_picks >= len(rows) or how.method in ("random", "identity"):
                drawn = how.method == "random" and n_picks < len(rows)
                found[number] = rows[coreset.random_subset(len(rows), n_picks, how.seed)] if drawn else rows
        open_ = {number: one for number, one in enumerate(wanted) if number not in found}
        if open_:
            if wanted[0][0] >= len(self):
                how = how._replace(projection="none")
            self._crew.all("project", self._member, how, len(self), keeps=True)
            choose = self._merged if how.method == "merge" or self._way == "merge" else self._exact
            found |= {number: torch.tensor(own) for number, own in choose(open_, how, tell).items()}
            for worker in range(self._crew.count):
                for method in ("project", "shard", "begin", "offers", "greedy", "merge"):
                    self._crew.forget(worker, method)
            self._crew.all("chosen", self._member)
        return [found[number] for number in range(len(wanted))]

    def _points(self, which: Tensor | slice) -> Tensor:
        return self._from_workers("points", which)

    def _exact(
        self, wanted: dict[int, tuple[int, Tensor | None]], how: Selection, tell: Callable[[int], object]
    ) -> dict[int, NDArray[np.int64]]:
        crew, member, made = self._crew, self._member, dict.fromkeys(wanted, 0)
        crew.all("shard", member, crew.count, keeps=True)
        starts = {number: self._start(how, among) for number, (_, among) in wanted.items()}
        own = [self._numbers(worker) for worker in range(crew.count)]
        begins = [
            {
                number: (
                    None if among is None else among.numpy()[rows],
                    None if isinstance(start := starts[number], int) else start.numpy()[rows],
                )
                for number, (_, among) in wanted.items()
            }
            for rows in own
        ]
        crew.each("begin", [(member, one) for one in begins], keeps=True)
        firsts = {}
        for number, (_, among) in wanted.items():
            start = starts[number]
            if not isinstance(start, int):
                start = int((start if among is None else start.where(among, -1.0)).argmax())
            firsts[number] = start, self._points(torch.tensor([start]))[0].double().numpy()

        def told(number: int, count: int) -> None:
            made[number] = count
            tell(sum(made.values()))

        return shards.picked(
            firsts,
            {number: n_picks for number, (n_picks, _) in wanted.items()},
            lambda news: [one for one in crew.all("offers", member, news, keeps=True) if one],
            lambda number, most: crew.all("equal", member, number, most),
            told,
        )

    def _start(self, how: Selection, among: Tensor | None) -> int | Tensor:
        if how.start != "mean_of_ten":
            return cast("int", coreset.starting_point(torch.empty(len(self), 0), how.start, how.seed, among))
        drawn = self._points(coreset.drawn_rows(len(self), 10, how.seed, among)).double()
        blocks = (self._points(slice(begin, begin + BLOCK)) for begin in range(0, len(self), BLOCK))
        return coreset.mean_distances_of(blocks, drawn)

    def _merged(
        self, wanted: dict[int, tuple[int, Tensor | None]], how: Selection, tell: Callable[[int], object]
    ) -> dict[int, NDArray[np.int64]]:
        """Each worker's own selection, merged in pairs up a tree: see `cluster.fit`."""
        crew, member, found = self._crew, self._member, dict[int, NDArray[np.int64]]()
        own = [self._numbers(worker) for worker in range(crew.count)]
        for number, (n_picks, among) in wanted.items():
            masks = [None if among is None else among.numpy()[rows] for rows in own]
            crew.each("greedy", [(member, number, n_picks, mask) for mask in masks], keeps=True)
            step = 1
            while step < crew.count:
                givers = [(into, into + step) for into in range(0, crew.count - step, 2 * step)]
                parts = [(into, crew.ask(giver, "part", number)) for into, giver in givers]
                calls = [
                    crew.ask(into, "merge", number, *crew.answer(part), n_picks, keeps=True) for into, part in parts
                ]
                for call in calls:
                    crew.answer(call)
                step *= 2
            found[number] = crew.answer(crew.ask(0, "part", number))[0]
            tell(sum(map(len, found.values())))
        return found
