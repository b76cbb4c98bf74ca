"""Networks of torchvision, whose weights come from its server or torch's cache."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from patchcore.backbones.libraries import Library, Source
from patchcore.backbones.weight_files import announce_download
from patchcore.errors import BackboneError, nearest_name


def _weights(name: str) -> Any:
    """The weights of a name, `NAME` or `NAME.TAG`."""
    from torchvision import models

    base, _, tag = name.partition(".")
    weights: Any = models.get_model_weights(base)
    if tag and tag not in weights.__members__:
        raise BackboneError(f"torchvision has no weights {name!r}; it has {', '.join(weights.__members__)}.")
    return weights[tag] if tag else weights.DEFAULT


def _source(name: str) -> Source:
    from torchvision import models

    base = name.partition(".")[0]
    if base not in models.list_models():
        raise BackboneError(f"torchvision has no {base!r}.{nearest_name(base, models.list_models())}")
    weights = _weights(name)
    transforms = weights.transforms()
    return Source(
        f"torchvision:{name}",
        f"torchvision {weights}",
        "BSD-3-Clause",
        tuple(transforms.mean),
        tuple(transforms.std),
        "bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
    )


def _create(name: str, size: tuple[int, int]) -> nn.Module:
    from torchvision import models

    name = name.partition(".")[0]
    # Some torchvision vision transformers fix their grid when they are built.
    fixed: dict[str, Any] = {"image_size": size[0]} if name.startswith("vit_") else {}
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        fixed["weights_backbone"] = None
    return models.get_model(name, weights=None, **fixed)


def _pretrained(name: str, model: nn.Module) -> dict[str, Tensor]:
    weights = _weights(name)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name
    if not file.exists():
        announce_download(weights.url)
    state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    return state


LIBRARY = Library("torchvision", _source, _create, _pretrained)
