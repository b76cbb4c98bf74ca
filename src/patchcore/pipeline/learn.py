"""Learning: good images to memory banks."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from patchcore.data.formats import Depth
from patchcore.data.reading import Reading
from patchcore.data.resolve import relative
from patchcore.data.sample import Sample
from patchcore.errors import DataError
from patchcore.maths.appearance import Appearance
from patchcore.maths.resize import Frame
from patchcore.memory.patches import PatchStore
from patchcore.model.album import MOST, Album, thumbnail
from patchcore.model.fitted import Fitted, Measured, Member
from patchcore.pipeline.calibrate import Tried, calibrate
from patchcore.pipeline.choose import Chosen, choose, trials
from patchcore.pipeline.coverage import coverage
from patchcore.pipeline.embed import Embedder, Patches, check_by
from patchcore.pipeline.gated import gated
from patchcore.pipeline.near_copies import near_copies, said
from patchcore.pipeline.place import Placer
from patchcore.pipeline.roi import OUTSIDE, check_areas
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import Loaded, say_copies, through
from patchcore.recipe.recipe import Recipe
from patchcore.recipe.roi import Roi
from patchcore.verdict.calibration import Calibration, folds, hold_out

log = logging.getLogger(__name__)


def learn(
    recipe: Recipe,
    embedders: Sequence[Embedder],
    samples: Iterable[Sample],
    calibration: Iterable[Sample] | None,
    *,
    memory: int | None,
    reading: Reading,
    progress: bool,
    measured: Measured,
    told: str,
    thumbnails: bool | None = None,
    place: Placer,
    hands: Hands | None = None,
) -> Fitted:
    """Images -> taps -> embedding -> patches -> coreset -> banks -> thresholds.

    `memory`: bytes of patches kept, others in a file; `measured`, `told`: what decided the recipe; `place`: brings
    images to their place; `hands`: other ones than this process has. Errors: DataError.
    """
    hands = hands or Hands()
    title = "Reading good images" if progress else None
    room = MOST if thumbnails is None else math.inf if thumbnails else 0
    read = Remembered.of(embedders, samples, memory, reading, title, augment=True, room=room, place=place, hands=hands)
    if told:
        log.info(told)
    share, crossed = recipe.calibration_share if calibration is None else 0.0, recipe.calibration == "folds"
    if share and recipe.near_copies == "together":
        read.group()
    kept, held_out = hold_out(read.parts, 0.0 if crossed else share, recipe.seed)
    fold_of = folds(read.parts, share if crossed else 0.0, recipe.seed)
    if share and len(read.names) == 1 and read.copies:
        log.warning(
            "All %d good images are copies of one, so no threshold can be set. Give images of other good parts.",
            read.copies + 1,
        )
    if 2 * len(held_out) > len(read.names):
        log.warning(
            "%d of %d good images are held out to set the threshold, and only %d are learned, so defects pass that a "
            "bank of all would find. Hold out a fifth (calibration_share=0.2), or none (calibration=folds).",
            len(held_out), len(read.names), len(kept),
        )  # fmt: skip
    chosen = [
        choose(e.recipe, own, kept, e.device, progress, e.widths, fold_of)
        for e, own in zip(embedders, read.stores, strict=True)
    ]
    members = [Member(e.recipe, e.backbone, own.bank) for e, own in zip(embedders, chosen, strict=True)]
    good, numbers = read, range(len(read.names)) if fold_of else held_out
    if calibration is not None:
        title = "Calibrating" if progress else None
        known = set(read.digests)
        good = Remembered.of(embedders, calibration, memory, reading, title, learned=known, place=place, hands=hands)
        numbers = range(len(good.names))
        if recipe.near_copies == "together":
            good.group()
    colours = [one for one in read.red_blue if one is not None]
    red_blue = (min(colours), max(colours)) if colours else None

    areas = len(recipe.roi.areas) if isinstance(recipe.roi, Roi) else 1
    members, units, tried = hands.calibrate(members, good, numbers, chosen, fold_of, reading.threads, areas)
    scores, maxima, *patches = zip(*tried, strict=True) if tried else [()] * 4
    names = relative(good.names)
    thresholds = Calibration.fit(
        scores,
        maxima,
        recipe.false_reject_rate,
        confidence=recipe.confidence,
        unsure=recipe.unsure,
        images=[names[number] for number in numbers],
        parts=[good.parts[number] for number in numbers],
        crossed=bool(fold_of),
        patches=list(zip(*patches, strict=True)),
        looks=[good.looks[number] for number in numbers],
    )
    if len(members) == areas == 1 and recipe.distance == "l2":
        covered = coverage(chosen[0].bank, chosen[0].rows, chosen[0].begins, thresholds.patches)
        if covered and (doubt := covered.doubts()):
            log.warning(doubt)
    log.log(logging.INFO if thresholds.enough else logging.WARNING, thresholds.summary())
    if alone := thresholds.outlier():
        log.warning(
            "%s alone raises the threshold from %.6g to %.6g: look at this image, as a defective one among the good "
            "ones lets others pass.", alone.name, alone.threshold_without, thresholds.threshold,
        )  # fmt: skip
    album, limit = gated(read.album, read.parts, embedders[0], members[0].bank.scales, recipe)
    fitted = Fitted(
        recipe, tuple(members), thresholds, tuple(relative(read.names)), read.fingerprint, red_blue, measured,
        album=album, units=units, reference=place.limited(one[0].motion for one in read.frames), gate_limit=limit,
    )  # fmt: skip
    if wrong := sum(map(fitted.exchanged, good.red_blue)):
        log.warning(
            "%d of %d calibration images have the colours of the training images only with red and blue exchanged. "
            "Arrays that OpenCV has read are B, G, R: convert them, or give all images with Reading(colour='bgr').",
            wrong, len(good.names),
        )  # fmt: skip
    return fitted


class Seen(NamedTuple):
    """What was found in an image."""

    sample: Sample
    digest: bytes
    red_blue: float | None
    looks: Appearance
    thumbnail: bytes
    patches: list[list[Patches]]  # each member's, of the image and of its augmented copies
    mean: Tensor  # of the first member's patches of the image (D,), half precision


class Looking:
    """Looks at decoded images as members see them. `small`: also makes thumbnails."""

    def __init__(self, embedders: Sequence[Embedder], place: Placer, augment: bool, small: bool) -> None:
        self.embedders, self.place, self.augment, self.small = embedders, place, augment, small

    def __call__(self, batch: list[Loaded]) -> list[Seen]:
        seen = self.place(batch)
        each = [embedder(seen) for embedder in self.embedders]
        found = []
        for number, one in enumerate(batch):
            copies = [
                [e.augmented(seen[number], how) for how in e.recipe.augment if self.augment] for e in self.embedders
            ]
            patches = [[own[number], *more] for own, more in zip(each, copies, strict=True)]
            small = thumbnail(one.pixels, one.value_range) if self.small else b""
            mean = each[0][number].values.mean(0).half().cpu()
            found.append(Seen(one.sample, one.digest, one.red_blue, one.appearance, small, patches, mean))
        return found


class Hands:
    """Who does what takes long: this process. `patchcore.cluster` has other hands, which do the same elsewhere."""

    def look(
        self, looking: Looking, samples: Iterable[Sample], reading: Reading, depth: Depth, title: str | None
    ) -> Iterator[Seen]:
        """What is in images, in order."""
        embedders = looking.embedders
        check, value_range = check_by(embedders, depth, reading.max_pixels), embedders[0].recipe.value_range
        return through(looking, samples, reading, value_range, check=check, progress=title)

    def store(self, limit: int | None, kind: torch.dtype, member: int) -> PatchStore:
        """What keeps a member's patches of the images that are looked at next."""
        return PatchStore(limit, kind)

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
        """See `calibrate`; of the good images with these numbers."""
        return calibrate(members, lambda: trials(good, numbers, chosen, fold_of), threads, areas)


@dataclass
class Remembered:
    """Images whose patches are in stores, one store for each member; of images with the same pixels the first."""

    stores: list[PatchStore]
    names: list[str] = field(default_factory=list)
    frames: list[list[Frame]] = field(default_factory=list)  # of each image, one for each member
    cells: list[list[Tensor | None]] = field(default_factory=list)  # likewise (see `Patches`)
    digests: list[bytes] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)  # the part that each shows, or its digest
    red_blue: list[float | None] = field(default_factory=list)
    looks: list[Appearance] = field(default_factory=list)
    copies: int = 0  # of others, which were left out
    thumbnails: list[bytes] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)  # see `Seen`

    @classmethod
    def of(
        cls,
        embedders: Sequence[Embedder],
        samples: Iterable[Sample],
        memory: int | None,
        reading: Reading,
        progress: str | None,
        *,
        augment: bool = False,
        room: float = 0,
        learned: Container[bytes] = (),
        place: Placer,
        hands: Hands | None = None,
    ) -> Remembered:
        """Read images and keep their patches; with `augment`, those of the augmented copies that a recipe asks for;
        and thumbnails, if all fit into `room` bytes.

        Copies are left out: one in the bank and one held out would make the threshold far too low, and several held
        out would count as so many good images.
        Errors: DataError for an image whose digest is among those of the `learned` ones: a threshold from the training
        images would be far too low, since the bank holds each of them at a distance of nearly 0.
        """

        depth, hands = Depth(), hands or Hands()
        limit = None if memory is None else memory // len(embedders)
        kind = torch.float16 if augment else torch.float32  # of a bank; what is scored alone is as in `predict`
        read, seen = cls([hands.store(limit, kind, number) for number in range(len(embedders))]), set[bytes]()
        looking = Looking(embedders, place, augment, room > 0)
        for one in hands.look(looking, samples, reading, depth, progress):
            if one.digest in learned:
                raise DataError(
                    f"{one.sample.name}: this calibration image is among the training images too, so its score says "
                    "nothing about new parts. Calibrate with other good images; a `fit` without any takes its own."
                )
            if one.digest in seen:
                read.copies += 1
                continue
            seen.add(one.digest)
            check_areas(embedders[0].recipe, one.sample.name, one.patches[0][0].cells)
            read.add(one if room else one._replace(thumbnail=b""))
            if len(read.thumbnails) * max(map(len, read.thumbnails)) > room:
                room, read.thumbnails = 0, [b""] * len(read.thumbnails)
        say_copies(read.copies, read.copies + len(read.names))
        if hint := depth.hint():
            log.warning(hint)
        return read

    def add(self, one: Seen) -> None:
        """Keep what is in an image."""
        with undisturbed():
            for store, own in zip(self.stores, one.patches, strict=True):
                kept = [patches.cells != OUTSIDE for patches in own if patches.cells is not None]
                store.append(*((patches.values, patches.grid) for patches in own), kept=kept or None)
        self.frames.append([own[0].frame for own in one.patches])
        self.cells.append([own[0].cells for own in one.patches])
        self.names.append(one.sample.name)
        self.digests.append(one.digest)
        self.parts.append(one.sample.part or one.digest.hex())
        self.red_blue.append(one.red_blue)
        self.looks.append(one.looks)
        self.thumbnails.append(one.thumbnail)
        self.means.append(one.mean)

    def group(self) -> None:
        """From now on, near-copies show one part, unless it is known which images do, or only a region is looked at.

        Says how many there are.
        """
        whole = all(cells is None for own in self.cells for cells in own)
        if whole and self.parts == [one.hex() for one in self.digests]:
            first = near_copies(self.stores[0])
            self.parts = [self.parts[number] for number in first]
            if line := said(first):
                log.info(line)

    @property
    def album(self) -> Album:
        """What a model keeps of them beside their patches."""
        first = [one[0] for one in self.frames]
        sizes, motions = [one.source for one in first], [one.motion for one in first]
        return Album.of(self.digests, sizes, self.stores[0].grids, self.thumbnails, motions, self.means)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the pixels of the images, in order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()
