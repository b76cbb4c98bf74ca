"""PreProcessor: from an image to the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import Compose, Normalize, Resize, Transform

from patchcore.arguments import known_arguments
from patchcore.backbones.libraries import IMAGENET_MEAN, IMAGENET_STD
from patchcore.data.images import ImageLike, read, to_tensor
from patchcore.errors import UsageError

_TRIAL = (1024, 1280)  # of the image that a transform is tried on


class PreProcessor:
    """Resizes an image with antialiasing, normalises it, and converts it to a tensor.

    `config`: a torchvision transform of tensors (3, H, W) in [0, 1], such as a model's
    `configure_transforms()`. Without one, images are resized to `image_size`, a side or (height, width),
    and normalised with ImageNet's mean and standard deviation. `to_tensor=False` gives arrays instead.
    Errors: UsageError, for a transform that cannot be used too: it is tried on a black image.
    """

    @known_arguments
    def __init__(
        self, config: Transform | None = None, image_size: int | Sequence[int] | None = None, to_tensor: bool = True
    ) -> None:
        if (config is None) == (image_size is None):
            raise UsageError("PreProcessor takes either a transform (config=) or image_size=; give one of them.")
        if config is None:
            size = _sides(image_size)
            config = Compose([Resize(size, antialias=True), Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))])
        else:
            _try(config)
        self.transforms = config
        self.to_tensor = to_tensor

    @known_arguments
    def __call__(self, image: ImageLike, mask: Any = None) -> dict[str, Any]:
        """A path, PIL image, array (H, W, C) or tensor (C, H, W) of any depth -> `image`, (3, H, W) float.

        With a `mask` (H, W), true where defective, also `mask`, at the new size. With `to_tensor=False`,
        `image` is an array (H, W, 3). Grey becomes three equal channels. Errors: ImageError.
        """
        name = str(image) if isinstance(image, str) else "an image"
        pixels = tv_tensors.Image(to_tensor(read(image, name), name).expand(3, -1, -1))
        if mask is None:
            done = {"image": self.transforms(pixels)}
        else:
            small, truth = self.transforms(pixels, tv_tensors.Mask(torch.tensor(np.asarray(mask))))
            done = {"image": small, "mask": truth}
        tensors = {key: value.as_subclass(torch.Tensor) for key, value in done.items()}
        if self.to_tensor:
            return tensors
        tensors["image"] = tensors["image"].permute(1, 2, 0)
        return {key: tensor.numpy() for key, tensor in tensors.items()}


def _sides(value: Any) -> list[int]:
    """(height, width) in pixels. Errors: UsageError."""
    pair = [value, value] if isinstance(value, int) else value
    whole = isinstance(pair, Sequence) and len(pair) == 2 and all(type(side) is int and side > 0 for side in pair)
    if not whole:
        raise UsageError(f"image_size is {value!r}; expected a side or (height, width) in pixels.")
    return list(pair)


def _try(config: Any) -> None:
    """Errors: UsageError for what is no transform from an image to an image."""
    expected = (
        "Expected a torchvision transform of tensors (3, H, W) in [0, 1], such as model.configure_transforms(); "
        "albumentations' transforms, and their files, are not read. Or give image_size= alone."
    )
    if not callable(config):
        raise UsageError(f"config is {config!r:.200}. {expected}")
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            done = config(tv_tensors.Image(torch.zeros(3, *_TRIAL)))
    except Exception as error:  # whatever it raises would come at the first image
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"config is a {type(config).__name__} that fails on an image: {reason:.300}. {expected}"
        ) from error
    if not isinstance(done, torch.Tensor) or done.ndim != 3 or len(done) != 3 or not done.is_floating_point():
        shape = f" {tuple(done.shape)}, {done.dtype}" if isinstance(done, torch.Tensor) else ""
        raise UsageError(
            f"config is a {type(config).__name__} that makes a {type(done).__name__}{shape} of an image. {expected}"
        )
