"""Fitting, and what predicting does not need: a network, the choice of the bank, thresholds."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from pydantic import ByteSize, TypeAdapter, ValidationError
from torch import Tensor, nn
from tqdm.auto import tqdm

from patchcore import backbones
from patchcore.calibration import Calibration, hold_out, unseen
from patchcore.data import datasets
from patchcore.data.datasets import Sample
from patchcore.data.loading import Loaded, in_order
from patchcore.embedder import Embedded, Embedder
from patchcore.errors import DataError, UsageError
from patchcore.maths import coreset, maps
from patchcore.maths.resize import Frame
from patchcore.maths.scaling import channel_scales
from patchcore.maths.versions import Version, changed
from patchcore.memory import index
from patchcore.memory.bank import Bank
from patchcore.memory.patches import PatchStore
from patchcore.recipe import Recipe
from patchcore.scores import Grid, image_score, patch_scores

log = logging.getLogger(__name__)
_LEAST_MEMORY = 500_000_000  # bytes


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA, else MPS, else the CPU. Errors: UsageError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:  # its text lists every device that torch has ever known
        raise UsageError(f"device is {name!r}; expected auto, cpu, cuda, cuda:0 or mps.") from None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"device is {name!r}, which cannot be used here ({reason}). Try auto or cpu.") from None


def backbone_for(recipe: Recipe, network: nn.Module | None, fitted: Embedder | None) -> backbones.Backbone:
    """The backbone of a recipe; of a detector that is fitted again, the one that it has."""
    if fitted is not None:
        return fitted.backbone
    if network is not None:
        return backbones.wrap(network, recipe.taps, recipe.seen)
    if recipe.backbone == "module":
        raise UsageError("The recipe has backbone='module'; give the network: Detector(recipe, backbone=network).")
    return backbones.build(recipe.backbone, recipe.weights, recipe.taps, recipe.seen, recipe.seed)


def learn(
    embedder: Embedder,
    found: Iterable[Sample],
    calibration: Iterable[Sample] | None,
    spill_limit: int | None,
    progress: bool,
    options: dict[str, Any],
) -> tuple[Bank, Calibration, str]:
    """Images -> taps -> embedding -> patches -> coreset -> bank -> thresholds.

    Also the data's fingerprint: SHA-256 over the pixels of the images, in order. `options` are
    those of `Embedder.stream`. Errors: DataError.
    """
    recipe, patches = embedder.recipe, PatchStore(spill_limit)
    title = "Reading good images" if progress else None
    read = remember([patches], embedder.stream(found, partial(with_versions, (embedder,)), progress=title, **options))
    share = recipe.calibration_share if calibration is None else 0.0
    kept, held_out = hold_out(len(read.names), share, recipe.seed)
    bank = choose(recipe, patches, kept, datasets.relative(read.names), embedder.device, progress)
    if calibration is None:
        good = ((patches.of(i).to(embedder.device).float(), patches.grids[i], read.frames[i][0]) for i in held_out)
    else:
        held = embedder.stream(calibration, digested, progress="Calibrating" if progress else None, **options)
        good = ((one.patches, one.grid, one.frame) for one in unseen(held, set(read.digests)))

    def score_and_maximum(one: tuple[Tensor, Grid, Frame]) -> tuple[float, float]:
        scores, rows = patch_scores(recipe, bank, one[0], one[1])
        return image_score(recipe, bank, one[0], scores, rows), map_maximum(recipe, scores, one[2])

    return bank, calibrate(recipe, in_order(score_and_maximum, good, options["threads"])), read.fingerprint


@dataclass
class Read:
    """What is known of images whose patches are in stores."""

    names: list[str] = field(default_factory=list)
    frames: list[tuple[Frame, ...]] = field(default_factory=list)  # one for each member of an ensemble
    digests: list[bytes] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the pixels of the images, in order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()


def remember(stores: Sequence[PatchStore], embedded: Iterable[Embedded]) -> Read:
    """Put images into stores: one, or one for each member of an ensemble."""
    read = Read()
    for one in embedded:
        parts = (one, *one.others)
        for store, part in zip(stores, parts, strict=True):
            store.append(part.patches, part.grid, *((version.patches, version.grid) for version in part.versions))
        read.frames.append(tuple(part.frame for part in parts))
        read.names.append(one.loaded.sample.name)
        read.digests.append(one.loaded.digest)
    return read


def digested(one: Embedded) -> Embedded:
    """The same, its digest worked out by the thread that has read it."""
    _ = one.loaded.digest
    return one


def with_versions(members: Sequence[Embedder], one: Embedded) -> Embedded:
    """A training image, digested, with the changed versions that each member's recipe asks for."""
    parts = [
        replace(part, versions=tuple(version_of(member, one.loaded, version) for version in member.recipe.augment))
        for member, part in zip(members, (digested(one), *one.others), strict=True)
    ]
    return replace(parts[0], others=tuple(parts[1:]))


def version_of(embedder: Embedder, loaded: Loaded, version: Version) -> Embedded:
    """A changed version of an image; of an ensemble, by its first member."""
    return embedder.embedded(replace(loaded, pixels=changed(loaded.pixels, version)))


def map_maximum(recipe: Recipe, scores: Tensor, frame: Frame) -> float:
    """The highest value of an image's map."""
    values = maps.anomaly_map(scores, frame, **recipe.map_options)
    return float(values[~values.isnan()].max())


def spill_limit(memory: int | str | None) -> int | None:
    """How many bytes of patches may stay in memory, if a fit may take `memory` in all.

    The rest is for images that are being read and for choosing the bank. By default a fit may
    take half of the machine's memory. Errors: UsageError.
    """
    if memory is None:
        try:
            memory = max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2, _LEAST_MEMORY)
        except (AttributeError, ValueError, OSError):  # Windows does not say
            return None
    try:
        limit = TypeAdapter(ByteSize).validate_python(memory)
    except ValidationError:
        raise UsageError(f"memory is {memory!r}; expected a size, for example '2GB' or 2000000000 bytes.") from None
    if limit < _LEAST_MEMORY:
        raise UsageError(f"memory is {memory}; a fit needs at least {_LEAST_MEMORY // 10**6}MB beside the model.")
    return limit // 3


def choose(
    recipe: Recipe, patches: PatchStore, kept: list[int], names: list[str], device: torch.device, progress: bool
) -> Bank:
    """The bank: the coreset of the patches of the images that were kept, which leave the store."""
    if not kept:
        raise DataError("There are no good images to learn from. Give a folder, table or list that has some.")
    scales = channel_scales(patches.each(kept)) if recipe.scaling == "channel" else None
    origins = patches.origins_of(kept)
    rows = patches.gather(kept, scales)
    if not patches.spilled and device.type != "mps":  # float64 settles what is close, and MPS has none
        rows = rows.to(device)
    n_rows = min(max(1, int(len(rows) * recipe.ratio)), recipe.max_rows)
    if recipe.search == "ivf_pq":  # said before the work, and not by the first search
        index.check(len(rows) if recipe.coreset == "identity" else n_rows)
    with tqdm(total=n_rows, desc="Choosing patches", unit="patch", disable=not progress) as bar:
        chosen = coreset.select(
            rows,
            n_rows,
            **recipe.selection_options,
            on_progress=lambda count: bar.update(count - bar.n),
            empty=patches.empty,
        )
    if recipe.neighbours > n_rows:
        log.warning("neighbours is %d, more than the %d rows of the bank.", recipe.neighbours, n_rows)
    scales = torch.ones(rows.shape[1]) if scales is None else scales
    return Bank(
        rows[chosen].float().to(device), origins[chosen.cpu()], tuple(names), scales.to(device), search=recipe.search
    )


def calibrate(recipe: Recipe, scored: Iterable[tuple[float, float]]) -> Calibration:
    """The thresholds, from the image score and the map's maximum of good images that the bank has not seen."""
    scores, maxima = zip(*scored, strict=True) if (scored := list(scored)) else ((), ())
    calibration = Calibration.fit(scores, maxima, recipe.false_reject_rate)
    log.log(logging.INFO if calibration.enough else logging.WARNING, calibration.summary())
    return calibration
