"""What fitting needs and predicting does not: a network, the choice of the bank, thresholds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

import torch
from pydantic import ByteSize, TypeAdapter, ValidationError
from torch import nn
from tqdm.auto import tqdm

from patchcore import backbones
from patchcore.calibration import Calibration
from patchcore.embedder import Embedded, Embedder
from patchcore.errors import UsageError
from patchcore.maths import coreset
from patchcore.maths.embedding import channel_scales
from patchcore.memory import index
from patchcore.memory.bank import Bank
from patchcore.memory.patches import PatchStore
from patchcore.recipe import Recipe

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
        return backbones.wrap(network, recipe.taps, recipe.window)
    if recipe.backbone == "module":
        raise UsageError("The recipe has backbone='module'; give the network: Detector(recipe, backbone=network).")
    return backbones.build(recipe.backbone, recipe.weights, recipe.taps, recipe.window, recipe.seed)


def digested(one: Embedded) -> Embedded:
    """The same, its digest worked out by the thread that has read it."""
    _ = one.loaded.digest
    return one


def spill_limit(memory: int | str | None) -> int | None:
    """How many bytes of patches may stay in memory, if a fit may take `memory` in all.

    The rest is for pictures that are being read and for choosing the bank. By default a fit may
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
    """The bank: the coreset of the patches of the pictures that were kept, which leave the store."""
    scales = channel_scales(patches.each(kept)) if recipe.scaling == "channel" else None
    origins = patches.origins_of(kept)
    rows = patches.gather(kept, scales)
    if not patches.spilled:
        rows = rows.to(device)
    n_rows = min(max(1, int(len(rows) * recipe.ratio)), recipe.max_rows)
    if recipe.search == "ivf_pq":  # said before the work, and not by the first search
        index.check(len(rows) if recipe.coreset == "identity" else n_rows)
    with tqdm(total=n_rows, desc="Choosing patches", unit="patch", disable=not progress) as bar:
        chosen = coreset.select(
            rows,
            n_rows,
            method=recipe.coreset,
            projection=recipe.projection,
            projection_dims=recipe.projection_dims,
            start=recipe.start,
            seed=recipe.seed,
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
    """The thresholds, from the image score and the map's maximum of good pictures that the bank has not seen."""
    scores, maxima = zip(*scored, strict=True) if (scored := list(scored)) else ((), ())
    calibration = Calibration.fit(scores, maxima, recipe.false_reject_rate)
    log.log(logging.INFO if calibration.enough else logging.WARNING, calibration.summary())
    return calibration
