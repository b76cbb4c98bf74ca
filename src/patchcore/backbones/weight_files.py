"""Files of weights, read and told apart."""

from __future__ import annotations

import hashlib
import logging
import socket
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from patchcore.errors import WeightsError

log = logging.getLogger(__name__)


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


def announce_download(url: str) -> None:
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
