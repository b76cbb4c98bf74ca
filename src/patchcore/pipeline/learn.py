"""Learning: good images to memory banks and thresholds."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from patchcore.data.formats import Depth
from patchcore.data.reading import Reading
from patchcore.data.resolve import relative
from patchcore.data.sample import Sample
from patchcore.errors import DataError
from patchcore.maths import coreset
from patchcore.maths.embedding import channel_scales, tap_scales
from patchcore.maths.joining import score_unit, spread_unit
from patchcore.maths.resize import Frame
from patchcore.memory.bank import Bank, check_search
from patchcore.memory.patches import PatchStore
from patchcore.model.fitted import Fitted, Measured, Member
from patchcore.pipeline.decide import foretold, spread
from patchcore.pipeline.embed import Embedder, Grid, Patches, check_by
from patchcore.pipeline.score import Scored, against, anomaly_map, image_score, joined
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import Loaded, in_order, progress_bar, say_copies, through
from patchcore.recipe.fields import Recipe
from patchcore.verdict.calibration import Calibration, hold_out

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
) -> Fitted:
    """Images -> taps -> embedding -> patches -> coreset -> banks -> thresholds.

    `memory`: bytes of patches kept, others in a file; `measured`, `told`: what decided the recipe. Errors: DataError.
    """
    title = "Reading good images" if progress else None
    read = Remembered.of(embedders, samples, memory, reading, title, augment=True)
    if told:
        log.info(told)
    share = recipe.calibration_share if calibration is None else 0.0
    kept, held_out = hold_out(len(read.names), share, recipe.seed)
    if share and not held_out and read.copies:
        log.warning(
            "All %d good images are copies of one, so no threshold can be set. Give images of other good parts.",
            read.copies + 1,
        )
    banks = [
        choose(e.recipe, own, kept, e.device, progress, e.widths) for e, own in zip(embedders, read.stores, strict=True)
    ]
    members = [Member(e.recipe, e.backbone, bank) for e, bank in zip(embedders, banks, strict=True)]
    good = read
    if calibration is not None:
        title = "Calibrating" if progress else None
        good = Remembered.of(embedders, calibration, memory, reading, title, learned=set(read.digests))
        held_out = list(range(len(good.names)))
    colours = [one for one in read.red_blue if one is not None]
    red_blue = (min(colours), max(colours)) if colours else None
    members, thresholds = calibrate(recipe, members, good, held_out, embedders[0].device, reading.threads)
    fitted = Fitted(
        recipe, tuple(members), thresholds, tuple(relative(read.names)), read.fingerprint, red_blue, measured
    )
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
    digests: list[bytes] = field(default_factory=list)
    red_blue: list[float | None] = field(default_factory=list)
    copies: int = 0  # of others, which were left out

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
        learned: Container[bytes] = (),
    ) -> Remembered:
        """Read images and keep their patches; with `augment`, those of the augmented copies that a recipe asks for.

        Copies are left out: one in the bank and one held out would make the threshold far too low, and several held
        out would count as so many good images.
        Errors: DataError for an image whose digest is among those of the `learned` ones: a threshold from the training
        images would be far too low, since the bank holds each of them at a distance of nearly 0.
        """

        def work(batch: list[Loaded]) -> list[tuple[str, bytes, float | None, list[list[Patches]]]]:
            """Name, digest and colour of each image, and each member's patches of it and of its augmented copies."""
            each = [embedder(batch) for embedder in embedders]
            found = []
            for number, one in enumerate(batch):
                copies = [[e.augmented(one, how) for how in e.recipe.augment if augment] for e in embedders]
                patches = [[own[number], *more] for own, more in zip(each, copies, strict=True)]
                found.append((one.sample.name, one.digest, one.red_blue, patches))
            return found

        depth = Depth()
        check = check_by(embedders, depth, reading.max_pixels)

        limit = None if memory is None else memory // len(embedders)
        kind = torch.float16 if augment else torch.float32  # of a bank; what is scored alone is as in `predict`
        read, seen = cls([PatchStore(limit, kind) for _ in embedders]), set[bytes]()
        value_range = embedders[0].recipe.value_range
        results = through(work, samples, reading, value_range, check=check, progress=progress)
        for name, digest, red_blue, found in results:
            if digest in learned:
                raise DataError(
                    f"{name}: this calibration image is among the training images too, so its score says "
                    "nothing about new parts. Calibrate with other good images, or leave `calibration` out: a share "
                    "of the training images is then held out."
                )
            if digest in seen:
                read.copies += 1
                continue
            seen.add(digest)
            with undisturbed():
                for store, own in zip(read.stores, found, strict=True):
                    store.append(*((patches.values, patches.grid) for patches in own))
            read.frames.append([own[0].frame for own in found])
            read.names.append(name)
            read.digests.append(digest)
            read.red_blue.append(red_blue)
        say_copies(read.copies, read.copies + len(read.names))
        if hint := depth.hint():
            log.warning(hint)
        return read

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the pixels of the images, in order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()


@undisturbed()
def choose(
    recipe: Recipe,
    patches: PatchStore,
    kept: list[int],
    device: torch.device,
    progress: bool,
    widths: Sequence[int] = (),
) -> Bank:
    """The bank: the coreset of the patches of the images that were kept, which leave the store.

    `widths`: values of each tap in a patch, if they lie side by side.
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
    n_rows = min(max(recipe.min_rows, int(len(rows) * recipe.ratio)), recipe.max_rows, len(rows))
    # Refused before the work, not by the first search.
    check_search(recipe.search, len(rows) if recipe.coreset == "identity" else n_rows)
    counts = [0]  # patches chosen so far

    def tell(count: int) -> None:
        advance(count - counts[-1])
        counts.append(count)

    with progress_bar("Choosing patches" if progress else None, "patch", n_rows) as advance:
        chosen = coreset.select(
            rows,
            n_rows,
            method=recipe.coreset,
            projection=recipe.projection,
            projection_dims=recipe.projection_dims,
            projection_from=recipe.projection_from,
            start=recipe.start,
            seed=recipe.seed,
            on_progress=tell,
            empty=patches.empty,
        )
    if recipe.neighbours > n_rows:
        log.warning("neighbours is %d, more than the %d rows of the bank.", recipe.neighbours, n_rows)
    scales = torch.ones(rows.shape[1]) if scales is None else scales
    return Bank(rows[chosen].float().to(device), origins[chosen.cpu()], scales.to(device), recipe.search)


@undisturbed()
def calibrate(
    recipe: Recipe,
    members: Sequence[Member],
    good: Remembered,
    held_out: Sequence[int],
    device: torch.device,
    threads: int | None,
) -> tuple[list[Member], Calibration]:
    """The members with the units of their scores, and the thresholds, from good images that the banks have not seen."""

    def patches(store: PatchStore, number: int) -> Tensor:
        return store.of(number).to(device).float()  # here, not in a thread: they would share the store's file

    def alone(one: Sequence[tuple[Tensor, Grid]]) -> list[Scored]:
        """An image against each member's bank."""
        return [against(member, *own) for member, own in zip(members, one, strict=True)]

    each = ([(patches(store, number), store.grids[number]) for store in good.stores] for number in held_out)
    scored = list(in_order(alone, each, threads))
    weighed = [replace(m, unit=unit) for m, unit in zip(members, _units(members, scored), strict=True)]

    def score_and_maximum(one: tuple[Tensor, list[Scored], list[Frame]]) -> tuple[float, float]:
        first, own, frames = one
        found = joined(weighed, own, frames)
        values = anomaly_map(weighed[0].recipe, found.scores, frames[0])
        return image_score(weighed[0], first, found), float(values[~values.isnan()].max())

    firsts = ((patches(good.stores[0], n), own, good.frames[n]) for n, own in zip(held_out, scored, strict=True))
    both = list(in_order(score_and_maximum, firsts, threads))
    scores, maxima = [score for score, _ in both], [maximum for _, maximum in both]
    calibration = Calibration.fit(scores, maxima, recipe.false_reject_rate)
    log.log(logging.INFO if calibration.enough else logging.WARNING, calibration.summary())
    return weighed, calibration


def _units(members: Sequence[Member], scored: Sequence[list[Scored]]) -> list[float]:
    """What each member's patch scores are divided by, so that they can be averaged."""
    if len(members) == 1:
        return [1.0]
    if scored:
        return [score_unit(one.scores for one in own) for own in zip(*scored, strict=True)]
    log.warning(
        "No good image was held out, so the members' scores are joined by how far their bank rows spread, which is "
        "coarse. Hold some out (calibration_share), or give others: calibration=, or --calibration DIR."
    )
    return [spread_unit(m.bank.rows, m.recipe.distance == "squared_l2") for m in members]
