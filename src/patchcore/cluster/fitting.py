"""Fitting: good images to a detector, by workers that embed them and keep their patches."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from patchcore.cluster.crew import Call, Crew
from patchcore.cluster.ledger import Book
from patchcore.cluster.remote import RemoteStore, Way, ticket
from patchcore.cluster.session import engine, session
from patchcore.cluster.urls import opened, samples_of
from patchcore.cluster.worker import Found, Network, Task, Worker
from patchcore.data.formats import Depth
from patchcore.data.reading import Reading
from patchcore.data.resolve import Images, limited
from patchcore.data.sample import Sample
from patchcore.detector import Detector
from patchcore.errors import ImageError, UsageError
from patchcore.memory.patches import PatchStore, spill_limit
from patchcore.model.fitted import Member
from patchcore.pipeline.calibrate import Tried
from patchcore.pipeline.choose import Chosen
from patchcore.pipeline.decide import decided, spread
from patchcore.pipeline.embed import Embedder, backbones_for
from patchcore.pipeline.learn import Hands, Looking, Remembered, Seen, learn
from patchcore.pipeline.place import placed
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import progress_bar
from patchcore.recipe.recipe import Recipe

_BATCH = 8  # images that a worker is given at a time
_AHEAD = 2  # batches that each of them has
_LOOKED = 64  # images that the driver looks at itself, to decide what the recipe leaves open


def fit(
    recipe: Recipe | str | None,
    data: Images,
    *,
    calibration: Images | None = None,
    address: str | None = None,
    workers: int | None = None,
    way: Way = "exact",
    memory: int | str | None = None,
    checkpoints: str | Path | None = None,
    backbone: nn.Module | None = None,
    limit: int | None = None,
    thumbnails: bool | None = None,
    reading: Reading | None = None,
    progress: bool = False,
) -> Detector:
    """A detector that has learned what good parts look like, by `Detector.fit` on a cluster.

    Images are spread over the workers, and their patches stay there; the bank is chosen by messages.

    Args:
        recipe: A Recipe, or the name of one.
        data: What `Detector.fit` takes; or a URL that fsspec opens (`s3://...`), of a folder or of a CSV table, which
            every worker must be able to read.
        calibration: Good images to set the thresholds with, likewise. None: those that `recipe.calibration` names.
        address: Of a running Ray cluster, as `ray.init` takes it. None: a Ray over this machine's cores.
        workers: How many, of one core each; None: one for each core of the cluster.
        way: `exact`: the bank of `Detector.fit`, bit for bit, whatever the number of workers, on processors of the same
            kind. Each round of messages makes some picks, so it takes as many rounds as picks at most. `merge`: each
            worker chooses as many of its own patches, which are merged in pairs, up a tree. With h levels of merging,
            every patch is within the sum of the radii of the h + 1 selections that it went through of a row of the
            bank. Each of these is at most twice the smallest radius that so many rows can have, so the whole is within
            2 (h + 1) times of that, where `exact` is within twice; h is the logarithm of the workers to base 2, rounded
            up. The bank is the same for the same number of workers.
        memory: Bytes, or a text such as "2GB", that a worker may take beside the model: a third of that for patches in
            memory, others are in a file of its own. None: half of the machine's memory, shared by the workers.
        checkpoints: A folder that all workers can write. Images that were embedded there before are not again.
        backbone: A network of your own; see `Detector`.
        limit, thumbnails, reading, progress: As for `Detector.fit`; `reading.threads` has no effect.

    Raises:
        ImageError: An image cannot be used, or has ended three workers, unless `reading.on_bad` takes the error.
        DataError, BackboneError, UsageError, StoreError, MissingExtraError
    """
    if way not in ("exact", "merge"):
        raise UsageError(f"way is {way!r}; expected 'exact' or 'merge'.")
    sent = copy.deepcopy(backbone)  # before hooks are put on it, which cannot be sent
    plain = Detector(recipe, backbone=backbone, device="cpu")
    asked, reading = plain.recipe, replace(Reading.of(reading), threads=1, batch=1)
    samples = list(limited(samples_of(data, learning=True), limit, asked.seed))
    others = None if calibration is None else samples_of(calibration, learning=True)
    with session(address, workers) as count:
        count = max(1, min(count, -(-len(samples) // _BATCH)))
        bound = None if memory is None else 3 * (spill_limit(memory) or 0)
        held = (spill_limit(memory) or 0) // (1 if memory is not None else count)
        with undisturbed():
            backbones = backbones_for(asked, [], backbone)
        some = [*_opened(spread(samples, _LOOKED), reading)]
        chosen, place, _ = placed(asked, some, reading)
        some = [*_opened(spread(samples, _LOOKED // 2), reading)]
        chosen, measured, _, told = decided(chosen, backbones, plain.device, some, reading, progress, place)
        with undisturbed():
            backbones = backbones_for(chosen, backbones, backbone)
            each = zip(chosen.each, backbones, strict=True)
            embedders = [Embedder(one, own, plain.device) for one, own in each]
        networks = [Network.of(one, own, sent) for one, own in zip(chosen.each, backbones, strict=True)]
        plain_reading = replace(reading, on_bad=None)
        folder = None if checkpoints is None else str(Path(checkpoints).absolute())
        book = Book(Task(chosen, networks, place, plain_reading, held, bound, folder))
        ray = engine()
        crew = Crew(lambda: Bound(ray.remote(Worker), book), count)
        try:
            fitted = learn(
                chosen,
                embedders,
                samples,
                others,
                memory=held,
                reading=reading,
                progress=progress,
                measured=measured,
                told=told,
                thumbnails=thumbnails,
                place=place,
                hands=ClusterHands(crew, way),
            )
        finally:
            crew.close()
    return Detector.of(fitted, device="cpu")


class Bound:
    """A class of actors with the argument that each is made with."""

    def __init__(self, kind: object, book: Book) -> None:
        self._kind, self._book = kind, book

    def options(self, num_cpus: int) -> Bound:
        return Bound(self._kind.options(num_cpus=num_cpus), self._book)  # type: ignore[attr-defined]

    def remote(self) -> object:
        return self._kind.remote(self._book)  # type: ignore[attr-defined]


def _opened(samples: Iterable[Sample], reading: Reading) -> Iterator[Sample]:
    """Those that can be read here; what is wrong with others a worker says."""
    for one in samples:
        try:
            yield opened(one)
        except ImageError:
            yield one


class ClusterHands(Hands):
    """The workers of a crew: they look at images and keep their patches."""

    def __init__(self, crew: Crew, way: Way) -> None:
        self._crew, self._way, self._sets = crew, way, 0

    @property
    def _name(self) -> str:
        return f"set {self._sets}"

    def store(self, limit: int | None, kind: torch.dtype, member: int) -> PatchStore:
        self._sets += member == 0
        return RemoteStore(self._crew, self._name, member, kind, self._way)

    def look(
        self, looking: Looking, samples: Iterable[Sample], reading: Reading, depth: Depth, title: str | None
    ) -> Iterator[Seen]:
        """Batches go to the workers in turn, so that which one has an image depends on nothing else."""
        crew, waiting = self._crew, deque[Call]()
        samples = list(samples)
        numbered = iter(enumerate(samples, self._sets << 40))
        turns = 0
        with progress_bar(title, "image", len(samples)) as advance:
            while True:
                while len(waiting) < _AHEAD * crew.count and (batch := list(islice(numbered, _BATCH))):
                    worker = turns % crew.count
                    arguments = (self._name, batch, looking.augment, looking.small)
                    waiting.append(crew.ask(worker, "look", *arguments, keeps=True))
                    turns += 1
                if not waiting:
                    return
                call = waiting.popleft()
                for one in crew.answer(call):
                    yield from self._seen(one, call.worker, reading, depth)
                    advance(1)

    def _seen(self, one: Found, worker: int, reading: Reading, depth: Depth) -> Iterator[Seen]:
        depth.tops += one.tops
        if one.seen is not None:
            copies = [
                [replace(own, values=ticket(worker, one.number, copy)) for copy, own in enumerate(each)]
                for each in one.seen.patches
            ]
            yield one.seen._replace(patches=copies)
        elif one.error is not None:
            if reading.on_bad is None:
                raise one.error
            reading.on_bad(one.error)

    def calibrate(
        self,
        members: Sequence[Member],
        good: Remembered,
        numbers: Iterable[int],
        chosen: Sequence[Chosen],
        fold_of: Sequence[int],
        threads: int | None,
        areas: int,
    ) -> tuple[list[Member], tuple[float, ...], list[Tried]]:
        """By the workers, each its own images; several members or areas need all scores in one place."""
        numbers = list(numbers)
        if len(members) > 1 or areas > 1 or not numbers:
            return super().calibrate(members, good, numbers, chosen, fold_of, threads, areas)
        crew, own = self._crew, list[tuple[int, int]]()
        folds: list[dict[int, int]] = [{} for _ in range(crew.count)]
        images: list[list[int]] = [[] for _ in range(crew.count)]
        store = good.stores[0]
        assert isinstance(store, RemoteStore)
        for number in numbers:
            worker, there = store.place(number)
            own.append((worker, len(images[worker])))
            images[worker].append(there)
            if fold_of:
                folds[worker][there] = fold_of[number]
        banks = engine().put([[one.bank, *one.folds] for one in chosen])
        lists = [[one.get(there, 0) for there in range(max(one, default=-1) + 1)] for one in folds]
        name = store.name
        tried = crew.each("calibrate", [(name, banks, *each) for each in zip(images, lists, strict=True)])
        return list(members), (), [tried[worker][place] for worker, place in own]
