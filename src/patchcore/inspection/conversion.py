"""Convert a PatchCore to a Detector, which reads image files, has thresholds, and is saved as one file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from patchcore.backbones import registry
from patchcore.backbones.engines import choose_device
from patchcore.backbones.libraries import Source
from patchcore.data.reading import Reading
from patchcore.data.resolve import Images, resolve
from patchcore.detector import Detector
from patchcore.errors import UsageError
from patchcore.inspection.backbones import NAMES
from patchcore.inspection.datasets.mvtec import MVTecDataset
from patchcore.inspection.patchcore import PatchCore
from patchcore.memory.bank import Bank
from patchcore.model.fitted import Fitted, Member
from patchcore.pipeline.copies import distinct
from patchcore.recipe.recipe import Recipe
from patchcore.verdict.calibration import Calibration

_RESIZE, _CROP = 256, 224  # defaults of patchcore-inspection's datasets


def detector_of(
    model: PatchCore,
    *,
    dataset: MVTecDataset | None = None,
    resize: int | None = None,
    interpolation: Literal["bilinear", "bicubic"] | None = None,
    calibration: Images | None = None,
) -> Detector:
    """A detector with the memory bank and the scores of a fitted model.

    It has to read images as the model's loader did, which the model does not know. `dataset`, the one that the model
    was fitted on, says all of it. Without one, `resize` is the shorter side of images before the centre crop to the
    model's `input_shape`, by default 8/7 of the crop, 256 for 224; `interpolation` is the kernel of the resize, by
    default bilinear; and mean and standard deviation are those of the backbone's `source`, otherwise ImageNet's.
    `calibration`: good images that the model has not seen, to set the thresholds; without them every verdict is
    `unsure`. Errors: NotFittedError, UsageError, RecipeError.
    """
    made = model.described()
    rows = torch.from_numpy(np.array(model.anomaly_scorer.nn_method.rows(), np.float32))
    _, height, width = made.input_shape
    if height != width:
        raise UsageError(
            f"input_shape is {made.input_shape}; expected equal height and width: a detector crops squares."
        )
    reading = _reading(height, dataset, resize, interpolation)
    source: Source | None = getattr(model.backbone, "source", None)
    recipe = Recipe.named("inspection").replace(
        backbone=NAMES.get(str(made.backbone), made.backbone) if source else "module",
        weights=getattr(model.backbone, "weights", "pretrained"),
        taps=made.layers,
        size=reading["size"],
        crop=height,
        interpolation=reading["interpolation"],
        tap_bins=made.pretrain_embed_dimension,
        bins=made.target_embed_dimension,
        patch_size=made.patchsize,
        patch_stride=made.patchstride,
        neighbours=made.neighbours,
    )
    device = choose_device(str(model.device))
    backbone = registry.wrap(model.backbone, recipe.taps, recipe.window)
    unknown = torch.full((len(rows), 3), -1, dtype=torch.int32)
    bank = Bank(rows.to(device), unknown, torch.ones(rows.shape[1], device=device))
    source = source or backbone.source
    if dataset is not None:
        source = replace(source, mean=tuple(dataset.transform_mean), std=tuple(dataset.transform_std))
    member = Member(recipe, replace(backbone, source=source), bank)
    fitted = Fitted(recipe, (member,), Calibration.fit((), (), recipe.false_reject_rate))
    detector = Detector.of(fitted, device=str(device))
    if calibration is None:
        return detector
    results = list(detector.stream(distinct(resolve(calibration, learning=True).samples, Reading()).values()))
    maxima = [float(np.nanmax(result.map)) for result in results]
    thresholds = Calibration.fit([r.score for r in results], maxima, recipe.false_reject_rate)
    return Detector.of(replace(fitted, calibration=thresholds), device=str(device))


def _reading(crop: int, dataset: MVTecDataset | None, resize: int | None, kernel: str | None) -> dict[str, Any]:
    """`size` and `interpolation` of the recipe. Errors: UsageError."""
    if dataset is None:
        size = round(crop * _RESIZE / _CROP) if resize is None else resize
        return {"size": size, "interpolation": kernel or "bilinear"}
    if resize is not None or kernel is not None:
        raise UsageError("detector_of takes either dataset=, which has its resize and interpolation, or these alone.")
    if not isinstance(dataset, MVTecDataset):
        raise UsageError(
            f"dataset is a {type(dataset).__name__}; expected an MVTecDataset. Of another one, state resize= and "
            "interpolation=."
        )
    if dataset.imagesize != (3, crop, crop):
        raise UsageError(
            f"The dataset's images are {dataset.imagesize}, and the model's input_shape is {(3, crop, crop)}. Give the "
            "dataset that the model was fitted on."
        )
    return {"size": dataset.resize, "interpolation": dataset.interpolation}
