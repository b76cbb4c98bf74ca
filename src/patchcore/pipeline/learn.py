"""Learning: good images to memory banks."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from patchcore.data.formats import Depth
from patchcore.data.reading import Reading
from patchcore.data.resolve import relative
from patchcore.data.sample import Sample
from patchcore.errors import DataError
from patchcore.maths import coreset
from patchcore.maths.embedding import channel_scales, tap_scales
from patchcore.maths.resize import Frame
from patchcore.memory.bank import Bank, check_search
from patchcore.memory.patches import PatchStore
from patchcore.model.album import MOST, Album, thumbnail
from patchcore.model.fitted import Fitted, Measured, Member
from patchcore.pipeline.calibrate import Trial, calibrate
from patchcore.pipeline.coverage import coverage
from patchcore.pipeline.decide import foretold, spread
from patchcore.pipeline.embed import Embedder, Grid, Patches, check_by
from patchcore.pipeline.near_copies import near_copies, said
from patchcore.pipeline.place import Placer
from patchcore.pipeline.roi import OUTSIDE, check_areas
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import Loaded, progress_bar, say_copies, through
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
) -> Fitted:
    """Images -> taps -> embedding -> patches -> coreset -> banks -> thresholds.

    `memory`: bytes of patches kept, others in a file; `measured`, `told`: what decided the recipe; `place`: brings
    images to their place. Errors: DataError.
    """
    title = "Reading good images" if progress else None
    room = MOST if thumbnails is None else math.inf if thumbnails else 0
    read = Remembered.of(embedders, samples, memory, reading, title, augment=True, room=room, place=place)
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
        good = Remembered.of(embedders, calibration, memory, reading, title, learned=set(read.digests), place=place)
        numbers = range(len(good.names))
        if recipe.near_copies == "together":
            good.group()
    colours = [one for one in read.red_blue if one is not None]
    red_blue = (min(colours), max(colours)) if colours else None

    areas = len(recipe.roi.areas) if isinstance(recipe.roi, Roi) else 1
    members, units, tried = calibrate(members, lambda: trials(good, numbers, chosen, fold_of), reading.threads, areas)
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
    fitted = Fitted(
        recipe, tuple(members), thresholds, tuple(relative(read.names)), read.fingerprint, red_blue, measured,
        album=read.album, units=units, reference=place.limited(one[0].motion for one in read.frames),
    )  # fmt: skip
    if wrong := sum(map(fitted.exchanged, good.red_blue)):
        log.warning(
            "%d of %d calibration images have the colours of the training images only with red and blue exchanged. "
            "Arrays that OpenCV has read are B, G, R: convert them, or give all images with Reading(colour='bgr').",
            wrong, len(good.names),
        )  # fmt: skip
    return fitted


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
    copies: int = 0  # of others, which were left out
    thumbnails: list[bytes] = field(default_factory=list)

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
    ) -> Remembered:
        """Read images and keep their patches; with `augment`, those of the augmented copies that a recipe asks for;
        and thumbnails, if all fit into `room` bytes.

        Copies are left out: one in the bank and one held out would make the threshold far too low, and several held
        out would count as so many good images.
        Errors: DataError for an image whose digest is among those of the `learned` ones: a threshold from the training
        images would be far too low, since the bank holds each of them at a distance of nearly 0.
        """

        def work(batch: list[Loaded]) -> list[tuple[Sample, bytes, float | None, bytes, list[list[Patches]]]]:
            """Of each image: sample, digest, colour, thumbnail, each member's patches of it and of its copies."""
            seen = place(batch)
            each = [embedder(seen) for embedder in embedders]
            found = []
            for number, one in enumerate(batch):
                copies = [[e.augmented(seen[number], how) for how in e.recipe.augment if augment] for e in embedders]
                patches = [[own[number], *more] for own, more in zip(each, copies, strict=True)]
                small = thumbnail(one.pixels, one.value_range) if room else b""
                found.append((one.sample, one.digest, one.red_blue, small, patches))
            return found

        depth = Depth()
        check = check_by(embedders, depth, reading.max_pixels)

        limit = None if memory is None else memory // len(embedders)
        kind = torch.float16 if augment else torch.float32  # of a bank; what is scored alone is as in `predict`
        read, seen = cls([PatchStore(limit, kind) for _ in embedders]), set[bytes]()
        value_range = embedders[0].recipe.value_range
        results = through(work, samples, reading, value_range, check=check, progress=progress)
        for sample, digest, red_blue, small, found in results:
            if digest in learned:
                raise DataError(
                    f"{sample.name}: this calibration image is among the training images too, so its score says "
                    "nothing about new parts. Calibrate with other good images, or leave `calibration` out: a share "
                    "of the training images is then held out."
                )
            if digest in seen:
                read.copies += 1
                continue
            seen.add(digest)
            with undisturbed():
                for store, own in zip(read.stores, found, strict=True):
                    kept = [patches.cells != OUTSIDE for patches in own if patches.cells is not None]
                    store.append(*((patches.values, patches.grid) for patches in own), kept=kept or None)
            check_areas(embedders[0].recipe, sample.name, found[0][0].cells)
            read.frames.append([own[0].frame for own in found])
            read.cells.append([own[0].cells for own in found])
            read.names.append(sample.name)
            read.digests.append(digest)
            read.parts.append(sample.part or digest.hex())
            read.red_blue.append(red_blue)
            read.thumbnails.append(small if room else b"")
            if len(read.thumbnails) * max(map(len, read.thumbnails)) > room:
                room, read.thumbnails = 0, [b""] * len(read.thumbnails)
        say_copies(read.copies, read.copies + len(read.names))
        if hint := depth.hint():
            log.warning(hint)
        return read

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
        return Album.of(self.digests, sizes, self.stores[0].grids, self.thumbnails, motions)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the pixels of the images, in order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()


@dataclass(frozen=True)
class Chosen:
    """A bank, and what the images it was chosen from are scored with.

    Attributes:
        bank: Of all of them.
        folds: For each fold, the bank of the images that are not in it, of as many rows for as many patches.
        rows: All patches, in the bank's scale; begins: where in them those of an image begin.
    """

    bank: Bank
    folds: Sequence[Bank]
    rows: Tensor
    begins: Tensor

    def patches(self, image: int, grid: Grid, cells: Tensor | None) -> Tensor:
        """Those of an image itself, (n, D)."""
        begin = int(self.begins[image])
        count = grid[0] * grid[1] if cells is None else int((cells != OUTSIDE).sum())
        return self.rows[begin : begin + count]


@undisturbed()
def choose(
    recipe: Recipe,
    patches: PatchStore,
    kept: list[int],
    device: torch.device,
    progress: bool,
    widths: Sequence[int] = (),
    fold_of: Sequence[int] = (),
) -> Chosen:
    """The bank: the coreset of the patches of the images that were kept, which leave the store.

    `widths`: values of each tap in a patch, if they lie side by side; `fold_of`: each image's fold, if they are to be
    scored.
    """
    if not kept:
        raise DataError("There are no good images to learn from. Give a folder, table or list that has some.")
    scales = None
    if recipe.scaling == "channel":
        scales = channel_scales(patches.each(kept))
    elif recipe.scaling == "taps" and len(widths) > 1 and len(kept) > 1:
        scales = tap_scales(*foretold([patches.of(image).float() for image in spread(kept)]), widths)
    origins = patches.origins_of(kept)
    rows = patches.gather(kept, scales)
    if not patches.spilled and device.type != "mps":  # float64 settles what is close, and MPS has none
        rows = rows.to(device)
    image_of = origins[:, 0].contiguous()
    fold = torch.tensor(fold_of)[image_of.long()] if fold_of else image_of
    among = [None, *(fold != number for number in range(max(fold_of, default=-1) + 1))]
    counts = [len(rows) if one is None else int(one.sum()) for one in among]
    picks = [min(max(recipe.min_rows, int(count * recipe.ratio)), recipe.max_rows, count) for count in counts]
    # Refused before the work, not by the first search.
    check_search(recipe.search, len(rows) if recipe.coreset == "identity" else min(picks))
    told = [0]  # patches chosen so far

    def tell(count: int) -> None:
        advance(count - told[-1])
        told.append(count)

    projected = rows
    if recipe.coreset in ("k_center", "merge") and rows.shape[1] >= recipe.projection_from and picks[0] < len(rows):
        projected = coreset.project(rows, recipe.projection, recipe.projection_dims, recipe.seed, patches.empty)
    with progress_bar("Choosing patches" if progress else None, "patch", sum(picks)) as advance:
        chosen = coreset.selections(
            projected,
            list(zip(picks, among, strict=True)),
            method=recipe.coreset,
            start=recipe.start,
            seed=recipe.seed,
            on_progress=tell,
            empty=patches.empty,
        )
    if recipe.neighbours > picks[0]:
        log.warning("neighbours is %d, more than the %d rows of the bank.", recipe.neighbours, picks[0])
    scales = (torch.ones(rows.shape[1]) if scales is None else scales).to(device)
    banks = [Bank(rows[own].float().to(device), origins[own.cpu()], scales, recipe.search) for own in chosen]
    begins = torch.searchsorted(image_of, torch.arange(max(kept) + 1, dtype=image_of.dtype))
    return Chosen(banks[0], banks[1:], rows, begins)


def trials(
    good: Remembered, numbers: Iterable[int], chosen: Sequence[Chosen], fold_of: Sequence[int]
) -> Iterator[Trial]:
    """The good images with these numbers, each against banks that have not seen it: those of its fold, if there are."""
    for number in numbers:
        grids, banks, patches = [store.grids[number] for store in good.stores], list[Bank](), list[Tensor]()
        for own, store, grid, cells in zip(chosen, good.stores, grids, good.cells[number], strict=True):
            # Here, not in a thread: they would share the store's file.
            one, rows = store.of, own.bank.rows
            scaled = own.patches(number, grid, cells) if fold_of else one(number).to(rows) * own.bank.scales
            banks.append(own.folds[fold_of[number]] if fold_of else own.bank)
            patches.append(scaled.to(own.bank.rows))
        yield Trial(banks, patches, grids, good.frames[number], good.cells[number])
