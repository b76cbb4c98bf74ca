"""Engines: what runs a network up to its taps, each a file of this folder."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

import torch
from torch import Tensor

from patchcore.backbones.registry import Backbone
from patchcore.errors import UsageError

# Images (B, 3, H, W) -> one (B, C, h, w) per tap, float32 both; safe to call from several threads.
Engine = Callable[[Tensor], list[Tensor]]
ENGINES, PRECISIONS = ("torch", "openvino"), ("fp32", "bf16")


class _Kind(Protocol):
    """What the file of an engine has: `with_torch.py` is that of `torch`."""

    def check(self, device: torch.device) -> None: ...
    def start(self, backbone: Backbone, precision: str, device: torch.device, threads: int | None) -> Engine: ...


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA, else MPS, else the CPU. Errors: UsageError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:  # its text lists every device that torch has ever known
        raise UsageError(f"device is {name!r}; expected auto, cpu, cuda, cuda:0 or mps.") from None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"device is {name!r}, which cannot be used here ({reason}). Try auto or cpu.") from None


def check(name: str, precision: str, device: torch.device) -> None:
    """Errors: UsageError for what there is not, MissingExtraError where the engine is not installed."""
    for what, got, known in (("engine", name, ENGINES), ("precision", precision, PRECISIONS)):
        if got not in known:
            raise UsageError(f"{what} is {got!r}; expected one of {', '.join(known)}.")
    _kind(name).check(device)


def engine(backbone: Backbone, name: str, precision: str, device: torch.device, threads: int | None = None) -> Engine:
    """The engine of a name. `threads` is OpenVINO's (None: as many as torch has); torch has its own setting."""
    check(name, precision, device)
    return _kind(name).start(backbone, precision, device, threads)


def _kind(name: str) -> _Kind:
    return cast("_Kind", import_module(f"{__name__}.with_{name}"))
