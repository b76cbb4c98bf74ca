"""What fitting needs and predicting does not: a network, the choice of the bank, thresholds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from tqdm.auto import tqdm

from patchcore import backbones
from patchcore.calibration import Calibration
from patchcore.embedder import Embedded, Embedder
from patchcore.errors import UsageError
from patchcore.maths import coreset, maps
from patchcore.maths.embedding import channel_scales
from patchcore.maths.resize import Frame
from patchcore.memory.bank import Bank
from patchcore.memory.patches import PatchStore
from patchcore.recipe import Recipe

log = logging.getLogger(__name__)


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


def on_one_thread(embedded: Iterator[Embedded]) -> Iterator[Embedded]:
    """Run the network on one thread: its convolutions round differently on several, and the bank
    must not depend on their number. Limits the calling thread only."""
    while True:
        with threadpool_limits(1, user_api="openmp"):
            one = next(embedded, None)
        if one is None:
            return
        yield one


def choose(
    recipe: Recipe, patches: PatchStore, kept: list[int], names: list[str], device: torch.device, progress: bool
) -> Bank:
    """The bank: the coreset of the patches of the pictures that were kept."""
    rows = patches.rows_of(kept).to(device)
    if recipe.scaling == "channel":
        scales = channel_scales(rows)
        rows = torch.cat([(block * scales).half() for block in rows.split(1 << 14)])
    else:
        scales = torch.ones(rows.shape[1], device=device)
    n_rows = min(max(1, int(len(rows) * recipe.ratio)), recipe.max_rows)
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
        )
    origins = patches.origins_of(kept)[chosen.cpu()].int()
    return Bank(rows[chosen].float(), origins, tuple(names), scales)


def calibrate(recipe: Recipe, scored: Iterable[tuple[float, Tensor, Frame]]) -> Calibration:
    """The thresholds, from (image score, patch scores, frame) of good pictures that the bank has not seen."""
    scores, maxima = [], []
    for score, patch_scores, frame in scored:
        values = maps.anomaly_map(patch_scores, frame, **recipe.map_options)
        scores.append(score)
        maxima.append(float(values[~values.isnan()].max()))
    calibration = Calibration.fit(scores, maxima, recipe.false_reject_rate)
    log.log(logging.INFO if calibration.enough else logging.WARNING, calibration.summary())
    return calibration
