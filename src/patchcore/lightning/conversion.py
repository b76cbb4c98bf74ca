"""Convert a Patchcore to a Detector, which reads image files, is saved as one file, and is exported as one graph."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torchvision.transforms.v2 import CenterCrop, Compose, Identity, Normalize, Resize, ToDtype, ToImage, Transform

from patchcore.detector import Detector
from patchcore.errors import UsageError
from patchcore.lightning.torch_model import RECIPE, PatchcoreModel
from patchcore.memory.bank import Bank
from patchcore.model.fitted import Fitted, Member
from patchcore.verdict.calibration import Calibration

if TYPE_CHECKING:
    from patchcore.lightning.lightning_model import Patchcore

# What a subclass may change, and a detector does not know of.
_STEPS = (
    "forward", "embed", "taps", "generate_embedding", "reshape_embedding", "nearest_neighbors",
    "compute_anomaly_score", "euclidean_dist",
)  # fmt: skip


def detector_of(model: Patchcore, transform: Transform | None = None) -> Detector:
    """A detector with the memory bank, scores and thresholds of a fitted model.

    `transform`: what images go through, by default the model's `configure_transforms`: a Resize, for a
    square one a CenterCrop or none, and a Normalize. With a crop, images that are not
    square are resized by their shorter side.
    Errors: NotFittedError; UsageError for another transform, or a subclass whose scores a detector does not have.
    """
    net = model.model
    changed = [name for name in _STEPS if getattr(type(net), name) is not getattr(PatchcoreModel, name)]
    if changed:
        raise UsageError(
            f"{type(net).__module__}.{type(net).__name__} has its own {', '.join(changed)}, which a detector does not "
            "have. Export the torch model itself: torch.onnx.export(model.model.eval(), images, path)."
        )
    rows = net.filled().detach().float().cpu()
    net = copy.deepcopy(net).cpu().float().eval()
    images, normalised = _images(model.configure_transforms() if transform is None else transform)
    recipe = RECIPE.replace(
        **images,
        backbone=net.backbone,
        taps=net.layers,
        reweight_neighbours=net.num_neighbors,
        sigma=float(net.anomaly_map_generator.sigma),
    )
    state = net.built.extractor.needed_state()
    backbone = replace(net.built, source=replace(net.source, **normalised), state=state)
    bank = Bank(rows, torch.full((len(rows), 3), -1, dtype=torch.int32), torch.ones(rows.shape[1]))
    thresholds = float(model.image_threshold), float(model.pixel_threshold)
    known = thresholds[0] == thresholds[0]
    calibration = Calibration((), (), model.false_reject_rate, *thresholds, enough=known)
    return Detector.of(Fitted(recipe, (Member(recipe, backbone, bank),), calibration), device="cpu")


def _images(transform: Transform) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe's fields for images, and the mean and deviation that they are normalised with."""
    steps = list(_steps(transform))
    kinds = [type(step) for step in steps]
    if kinds not in ([Resize, Normalize], [Resize, CenterCrop, Normalize]):
        raise _unknown(steps)
    resize, crop, normalise = steps[0], steps[1] if len(steps) == 3 else None, steps[-1]
    kernel = str(getattr(resize.interpolation, "value", resize.interpolation))  # an Enum, or a word in later versions
    if kernel not in ("bilinear", "bicubic") or resize.max_size is not None or not resize.antialias:
        raise _unknown(steps)
    height, width = resize.size if len(resize.size) == 2 else resize.size * 2
    fields: dict[str, Any] = {"interpolation": kernel}
    if crop is None and len(resize.size) == 2:
        fields |= {"resize": "stretch", "size": (height, width), "crop": None}
    elif crop is not None and height == width and crop.size[0] == crop.size[1]:
        fields |= {"resize": "short_side", "size": height, "crop": crop.size[0]}
    else:
        raise _unknown(steps)
    return fields, {"mean": tuple(normalise.mean), "std": tuple(normalise.std)}


def _steps(transform: Transform) -> Iterator[Any]:
    if isinstance(transform, Compose):
        for one in transform.transforms:
            yield from _steps(one)
    elif not isinstance(transform, ToImage | ToDtype | Identity):  # images are in [0, 1] already
        yield transform


def _unknown(steps: list[Any]) -> UsageError:
    got = ", ".join(map(str, steps)) or "nothing"
    return UsageError(
        f"The transform is {got}; a detector has a Resize to height and width (bilinear or bicubic, antialiased) "
        "and a Normalize; between them it may crop the centre, from a square resize to a square. Give such a transform."
    )
