"""Worker: embeds images with a model of its own, keeps their patches, and answers for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patchcore.backbones import registry
from patchcore.backbones.libraries import Source
from patchcore.backbones.registry import Backbone
from patchcore.backbones.weight_files import digest_of
from patchcore.cluster.checkpoints import Checkpoints
from patchcore.cluster.ledger import NO_MEMORY, REFUSED, Book, bounded, is_no_memory
from patchcore.cluster.urls import opened
from patchcore.data.formats import Depth
from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.errors import ImageError
from patchcore.maths import coreset
from patchcore.maths.coreset import Selection
from patchcore.maths.embedding import Moments, moments
from patchcore.maths.groups import in_memory
from patchcore.maths.shards import Offer, Shard
from patchcore.memory.bank import Bank
from patchcore.memory.patches import PatchStore, Rows
from patchcore.model.fitted import Member
from patchcore.pipeline.calibrate import Tried, calibrate
from patchcore.pipeline.choose import Chosen, trials
from patchcore.pipeline.embed import Embedder, Patches
from patchcore.pipeline.learn import Hands, Looking, Remembered, Seen
from patchcore.pipeline.place import Placer
from patchcore.pipeline.surroundings import undisturbed
from patchcore.recipe.recipe import Recipe

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Network:
    """A backbone as it can be sent, which its hooks cannot. `own`: the caller's network, before one was made of it."""

    recipe: Recipe
    source: Source
    state: dict[str, Tensor]
    own: nn.Module | None

    @classmethod
    def of(cls, recipe: Recipe, backbone: Backbone, own: nn.Module | None) -> Network:
        return cls(recipe, backbone.source, backbone.state, own)

    def backbone(self) -> Backbone:
        recipe, digest = self.recipe, digest_of(self.state)
        name, weights, seed = recipe.backbone, recipe.weights, recipe.seed
        about = (self.source, recipe.taps, recipe.seen, self.state, digest)
        return registry.rebuild(*about, name=name, weights=weights, seed=seed, model=self.own)


class Task(NamedTuple):
    """What is the same for all workers. `memory`: bytes of patches in memory, others are in a file; `bound`: bytes that
    the process may take beside what it has at the start; `checkpoints`: a folder."""

    recipe: Recipe
    networks: Sequence[Network]
    place: Placer
    reading: Reading
    memory: int | None
    bound: int | None
    checkpoints: str | None


class Found(NamedTuple):
    """What is in an image, but for its patches, and its number here; or why it cannot be used."""

    number: int
    seen: Seen | None
    error: ImageError | None = None
    tops: Sequence[int] = ()  # see `Depth`


class Worker:
    """Keeps several sets of images, by name: those to learn from, and those to calibrate with if they are others."""

    def __init__(self, book: Book) -> None:
        torch.set_num_threads(1)
        self._book = book
        self._task: Task = book.shared()
        each, device = self._task.recipe.each, torch.device("cpu")
        with undisturbed():
            networks = [one.backbone() for one in self._task.networks]
            self._embedders = [Embedder(own, network, device) for own, network in zip(each, networks, strict=True)]
        self._sets: dict[str, Remembered] = {}
        self._rows: dict[int, tuple[Rows, Tensor]] = {}  # of a member: what banks are chosen from; where images begin
        self._projected: dict[int, Tensor] = {}
        self._numbers: dict[int, Numbers] = {}
        self._shards: dict[int, Shard] = {}
        self._parts: dict[int, tuple[Numbers, Tensor]] = {}
        self._checkpoints: Checkpoints | None = None
        if self._task.checkpoints:
            reference = self._task.place.reference
            grey = reference.grey.numpy().tobytes().hex() if reference else ""
            about = [self._task.recipe.to_dict(), [one.digest for one in networks], grey, self._task.reading.colour]
            self._checkpoints = Checkpoints(self._task.checkpoints, repr(about))
        bounded(self._task.bound)

    def look(self, name: str, batch: Sequence[tuple[int, Sample]], augment: bool, small: bool) -> list[Found]:
        """Look at images, and keep their patches."""
        kind, limit = torch.float16 if augment else torch.float32, self._task.memory
        if name not in self._sets:
            limit = None if limit is None else limit // len(self._embedders)
            self._sets[name] = Remembered([PatchStore(limit, kind) for _ in self._embedders])
        samples, kept = [sample for _, sample in batch], self._sets[name]
        place = self._checkpoints.place(samples, augment, small) if self._checkpoints else None
        if self._checkpoints and place and (known := self._checkpoints.read(place, samples)) is not None:
            return [_kept(kept, one) for one in known]
        looking = Looking(self._embedders, self._task.place, augment, small)
        found, ended, whole = list[Found](), None, list[Seen]()
        for number, sample in batch:
            one = self._one(looking, sample) if self._book.begin(number, ended) else _bad(sample, REFUSED)
            if one.seen is not None:
                whole.append(one.seen)
                one = _kept(kept, one.seen, one.tops)
            found.append(one)
            ended = number
        if ended is not None:
            self._book.end(ended)
        if self._checkpoints and place and len(whole) == len(batch) and not any(one.tops for one in found):
            self._checkpoints.write(place, whole, kind)
        return found

    def _one(self, looking: Looking, sample: Sample) -> Found:
        depth, bad = Depth(), list[ImageError]()
        reading = replace(self._task.reading, on_bad=bad.append, threads=1)
        try:
            seen = list(Hands().look(looking, [opened(sample)], reading, depth, None))
        except ImageError as error:
            return Found(-1, None, error)
        except (MemoryError, RuntimeError) as error:
            if not is_no_memory(error):
                raise
            return _bad(sample, NO_MEMORY)
        if bad:
            return _bad(sample, NO_MEMORY) if is_no_memory(bad[0].__cause__ or bad[0]) else Found(-1, None, bad[0])
        return Found(-1, seen[0]._replace(sample=sample), None, depth.tops)

    def patches(self, name: str, member: int, which: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The patches (n, D) of images, or of their augmented copies, by the numbers of both."""
        store = self._sets[name].stores[member]
        return [store.block(image, copy) for image, copy in which]

    def moments(self, name: str, member: int, which: Sequence[tuple[int, int]]) -> list[Moments]:
        """Of the same."""
        with undisturbed():
            return [moments(one) for one in self.patches(name, member, which)]

    def gather(self, name: str, member: int, images: list[int], scales: Tensor | None) -> int:
        """Make rows of the patches of these images, which leave the store; how many there are."""
        if not images:
            return 0
        store = self._sets[name].stores[member]
        with undisturbed():
            origins, rows = store.origins_of(images), store.rows(images, scales, torch.device("cpu"))
        begins = torch.searchsorted(origins[:, 0].contiguous(), torch.arange(max(images) + 1, dtype=torch.int32))
        self._rows[member] = rows, begins
        return len(rows)

    def take(self, member: int, which: Numbers) -> Tensor:
        """Rows (n, D), by their numbers here."""
        return self._rows[member][0].take(torch.tensor(which))

    def points(self, member: int, which: Numbers) -> Tensor:
        """The same as they are when rows are chosen: projected, if they are to be."""
        return self._projected[member][torch.tensor(which)]

    def project(self, member: int, how: Selection, total: int) -> None:
        """Project the rows, of which there are so many on all workers, for choosing."""
        if member not in self._rows:
            return
        with undisturbed():
            self._projected[member] = self._rows[member][0].projected(how, total)

    def number(self, member: int, numbers: Numbers) -> None:
        """From now on, the rows here have these numbers among all."""
        self._numbers[member] = numbers

    def shard(self, member: int, shards: int) -> None:
        """Selections will be made from the rows here and on so many workers in all."""
        if member in self._projected:
            with undisturbed():
                self._shards[member] = Shard(self._projected[member], self._numbers[member], shards)

    def begin(
        self, member: int, how: Mapping[int, tuple[NDArray[np.bool_] | None, NDArray[np.float64] | None]]
    ) -> None:
        """Selections begin: of each, which rows there are to choose from, and how far they are from a start."""
        for number, (among, start) in how.items() if member in self._shards else ():
            squares = np.full(len(self._projected[member]), np.inf) if start is None else np.square(start)
            self._shards[member].begin(number, squares if among is None else np.where(among, squares, -1.0))

    def offers(self, member: int, news: Mapping[int, tuple[NDArray[np.float64], Numbers]]) -> dict[int, Offer]:
        """See `Shard.offers`."""
        if member not in self._shards:
            return {}
        with undisturbed():
            return self._shards[member].offers(news)

    def equal(self, member: int, selection: int, most: int) -> Numbers:
        """See `Shard.equal`."""
        return self._shards[member].equal(selection, most) if member in self._shards else np.empty(0, np.int64)

    def chosen(self, member: int) -> None:
        """All selections have been made: only the rows are needed now."""
        self._shards.pop(member, None)
        self._projected.pop(member, None)

    def greedy(self, member: int, selection: int, n_picks: int, among: NDArray[np.bool_] | None) -> None:
        """Make a selection from the rows that are here alone, as a part of one that is merged."""
        if member not in self._projected:
            self._parts[selection] = np.empty(0, np.int64), torch.empty(0, 0)
            return
        x, numbers = self._projected[member], self._numbers[member]
        rows = torch.arange(len(x)) if among is None else torch.tensor(among).nonzero()[:, 0]
        with undisturbed():
            picks = rows[coreset.k_center_greedy(x[rows], min(n_picks, len(rows)))] if len(rows) else rows
        self._parts[selection] = numbers[picks.numpy()], x[picks]

    def part(self, selection: int) -> tuple[Numbers, Tensor]:
        """What has been chosen here: numbers among all rows, and these rows."""
        return self._parts[selection]

    def merge(self, selection: int, numbers: Numbers, rows: Tensor, n_picks: int) -> None:
        """Choose from what was chosen here and elsewhere."""
        own, here = self._parts[selection]
        if len(own) and len(numbers):
            numbers, rows = np.concatenate([own, numbers]), torch.cat([here, rows])
            with undisturbed():
                picks = coreset.k_center_greedy(rows, min(n_picks, len(rows)))
            self._parts[selection] = numbers[picks.numpy()], rows[picks]
        elif len(numbers):
            self._parts[selection] = numbers, rows

    def calibrate(
        self, name: str, banks: Sequence[Sequence[Bank]], images: Sequence[int], fold_of: Sequence[int]
    ) -> list[Tried]:
        """What images of this worker score against the banks that have not seen them; see `calibrate`.

        `banks`: of each member, its bank and those of the folds; `fold_of`: the fold of each image here.
        """
        read, chosen, members = self._sets[name], list[Chosen](), list[Member]()
        for number, (embedder, (bank, *folds)) in enumerate(zip(self._embedders, banks, strict=True)):
            nothing = Rows(bank.rows[:0], in_memory), torch.empty(0, dtype=torch.int64)
            rows, begins = self._rows.get(number, nothing)
            members.append(Member(embedder.recipe, embedder.backbone, bank))
            chosen.append(Chosen(bank, folds, rows, begins))
        return calibrate(members, lambda: trials(read, images, chosen, fold_of), 1, 1)[2]


def _kept(kept: Remembered, seen: Seen, tops: Sequence[int] = ()) -> Found:
    """Keep the patches; say the rest."""
    number = len(kept.names)
    kept.add(seen._replace(thumbnail=b""))
    nothing = torch.empty(0)
    copies = [[Patches(nothing, own.grid, own.frame, own.seconds, own.cells) for own in each] for each in seen.patches]
    return Found(number, seen._replace(patches=copies), None, tops)


def _bad(sample: Sample, why: str) -> Found:
    return Found(-1, None, ImageError(sample.name, why))
