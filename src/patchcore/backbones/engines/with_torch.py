"""torch, in fp32 or bf16."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from patchcore.backbones.engines import Engine
from patchcore.backbones.folding import folded
from patchcore.backbones.registry import Backbone


def check(device: torch.device) -> None:
    """torch is always there, and runs on any device."""


def start(backbone: Backbone, precision: str, device: torch.device, threads: int | None) -> Engine:
    """The engine; `threads` has no effect: torch has a setting of its own."""
    if precision == "bf16":
        return partial(_in_bfloat16, backbone.extractor)
    own = backbone.source.architecture == "module"  # the caller may want to change it, or watch it
    return backbone.extractor if own or device.type != "cpu" else folded(backbone.extractor)


def _in_bfloat16(extractor: Engine, images: Tensor) -> list[Tensor]:
    # In this layout about twice as fast.
    with torch.autocast(images.device.type, torch.bfloat16):
        return [tap.float() for tap in extractor(images.contiguous(memory_format=torch.channels_last))]
