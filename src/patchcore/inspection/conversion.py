"""From a PatchCore to a Detector, which reads images from files, has thresholds, and is one file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from patchcore import backbones
from patchcore.backbones import Source
from patchcore.calibration import Calibration
from patchcore.data import datasets
from patchcore.detector import Detector
from patchcore.embedder import Embedder
from patchcore.errors import UsageError
from patchcore.inspection.backbones import NAMES
from patchcore.inspection.patchcore import PatchCore
from patchcore.memory.bank import Bank
from patchcore.recipe import Recipe

_RESIZE, _CROP = 256, 224  # what patchcore-inspection's datasets do by default


def detector_of(model: PatchCore, *, resize: int | None = None, calibration: Any = None) -> Detector:
    """A detector with the bank of a fitted model, and its scores.

    `resize`: what the shorter side of an image was brought to before its centre was cut to the
    model's `input_shape`, which the model does not know: by default 8/7 of that, 256 for 224. Mean and
    standard deviation of the pixels are those that the backbone's `source` says, else ImageNet's.
    `calibration`: good images that the model has not seen, to set the thresholds with; without
    them every verdict is `unsure`. Errors: NotFittedError, UsageError, RecipeError.
    """
    made = model.described()
    rows = torch.from_numpy(np.array(model.anomaly_scorer.nn_method.rows(), np.float32))
    _, height, width = made.input_shape
    if height != width:
        raise UsageError(f"input_shape is {made.input_shape}; a detector cuts squares: height and width must agree.")
    source: Source | None = getattr(model.backbone, "source", None)
    recipe = Recipe.named("inspection").replace(
        backbone=NAMES.get(str(made.backbone), made.backbone) if source else "module",
        weights=getattr(model.backbone, "weights", "pretrained"),
        taps=made.layers,
        size=round(height * _RESIZE / _CROP) if resize is None else resize,
        crop=height,
        tap_bins=made.pretrain_embed_dimension,
        bins=made.target_embed_dimension,
        patch_size=made.patchsize,
        patch_stride=made.patchstride,
        neighbours=made.neighbours,
    )
    backbone = backbones.wrap(model.backbone, recipe.taps, recipe.window)
    detector = Detector(recipe, backbone=None if source else model.backbone, device=str(model.device))
    detector.embedder = Embedder(recipe, replace(backbone, source=source or backbone.source), detector.device)
    unknown = torch.full((len(rows), 3), -1, dtype=torch.int32)
    detector.bank = Bank(rows.to(detector.device), unknown, (), torch.ones(rows.shape[1], device=detector.device))
    detector.calibration = Calibration.fit((), (), recipe.false_reject_rate)
    if calibration is not None:
        results = list(detector.stream(datasets.samples(calibration)))
        maxima = [float(np.nanmax(result.map)) for result in results]
        detector.calibration = Calibration.fit([r.score for r in results], maxima, recipe.false_reject_rate)
    return detector
