"""PreProcessor, of anomalib v2: the transform that a model gives to images that have none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize, Transform

from patchcore.arguments import known_arguments
from patchcore.errors import UsageError

_IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# What a checkpoint keeps of a transform: the arguments of each step, by its name.
_KEPT: dict[type[Transform], tuple[str, ...]] = {
    Resize: ("size", "interpolation", "max_size", "antialias"),
    CenterCrop: ("size",),
    Normalize: ("mean", "std"),
}
Kept = list[dict[str, Any]]


class PreProcessor:
    """Holds `transform`, which is applied to images (3, H, W) in [0, 1]: in training, testing and in exports alike."""

    @known_arguments
    def __init__(self, transform: Transform) -> None:
        if not callable(transform):
            raise UsageError(f"transform is a {type(transform).__name__}; expected a transform of torchvision.")
        self.transform = transform

    @property
    def export_transform(self) -> Transform:
        """The same: an export resizes as training does, antialiased."""
        return self.transform

    def __call__(self, batch: Any) -> Any:
        """What the transform makes of images."""
        return self.transform(batch)


def usual(image_size: tuple[int, int] | None, center_crop_size: tuple[int, int] | None) -> PreProcessor:
    """A resize, a crop of the centre if one is asked for, and ImageNet's mean and deviation, as version 2.1 has it."""
    height, width = image_size or (256, 256)
    if center_crop_size is not None and (center_crop_size[0] > height or center_crop_size[1] > width):
        raise UsageError(f"center_crop_size is {center_crop_size}; it must be at most image_size, {(height, width)}.")
    crop = [] if center_crop_size is None else [CenterCrop(center_crop_size)]
    return PreProcessor(Compose([Resize((height, width), antialias=True), *crop, Normalize(*_IMAGENET)]))


def given(pre_processor: Any) -> Transform | None:
    """The transform of what a model was given as its pre-processor; None: the model's own. Errors: UsageError."""
    if pre_processor is True or pre_processor is None:
        return None
    if isinstance(pre_processor, list) and pre_processor:  # what a checkpoint has kept
        names = {kind.__name__: kind for kind in _KEPT}
        return Compose([names[one["name"]](**one["arguments"]) for one in pre_processor])
    if isinstance(pre_processor, str):
        raise UsageError(
            f"The model of this checkpoint had a transform that is not kept, {pre_processor}. Give it again: "
            "load_from_checkpoint(path, pre_processor=PreProcessor(transform))."
        )
    transform = getattr(pre_processor, "transform", None)
    if not isinstance(transform, Transform):
        raise UsageError(
            f"pre_processor is {pre_processor!r:.100}; expected True, for the model's own transform, or "
            "PreProcessor(transform=...). For images that need none, give the data transform=Identity()."
        )
    return transform


def kept(transform: Transform) -> Kept | str:
    """What a checkpoint keeps of a transform: its steps, or for any other one, its description."""
    steps = list(_steps(transform))
    if any(type(one) not in _KEPT for one in steps):
        return str(transform)
    return [
        {"name": type(one).__name__, "arguments": {name: _plain(getattr(one, name)) for name in _KEPT[type(one)]}}
        for one in steps
    ]


def _steps(transform: Any) -> Iterator[Any]:
    if isinstance(transform, Compose):
        for one in transform.transforms:
            yield from _steps(one)
    else:
        yield transform


def _plain(value: Any) -> Any:
    value = getattr(value, "value", value)
    return list(value) if isinstance(value, tuple | list) else value
