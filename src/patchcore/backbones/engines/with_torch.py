"""torch, in fp32 or bf16."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache, partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from patchcore.backbones.engines import Engine
from patchcore.backbones.extractor import Extractor
from patchcore.backbones.folding import folded
from patchcore.backbones.registry import Backbone

log = logging.getLogger(__name__)
_State = list[tuple[int, int]]
# Of a network with these weights; None: it stays as it is.
_FOLDED: WeakKeyDictionary[Extractor, tuple[_State, Extractor | None]] = WeakKeyDictionary()
_UNITS = ("avx512_bf16", "avx10_2", "amx_bf16", "bf16", "sve_bf16")  # of x86 and of ARM


def check(device: torch.device) -> None:
    """torch is always there, and runs on any device."""


def start(backbone: Backbone, precision: str, device: torch.device, threads: int | None) -> Engine:
    """The engine; `threads` has no effect: torch has a setting of its own."""
    if precision == "bf16" and (device.type != "cpu" or _multiplies_bf16()):
        return partial(_in_bfloat16, backbone.extractor)
    own = backbone.source.architecture == "module"  # the caller may want to change it, or watch it
    return backbone.extractor if own or device.type != "cpu" else _folded(backbone.extractor)


def _folded(extractor: Extractor) -> Extractor:
    """Folded once: a model is loaded, checked and used, or fitted and used, by embedders of their own.

    Again if its weights have changed since, as by a checkpoint that is loaded into it.
    """
    tensors = extractor.model.state_dict().values()
    if any(tensor.is_inference() for tensor in tensors):  # which do not tell whether they have changed
        return folded(extractor)
    state = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
    known, made = _FOLDED.get(extractor, (None, None))
    if known != state:
        made = folded(extractor)
        made = None if made is extractor else made
        _FOLDED[extractor] = state, made
    return made or extractor


def has_bf16() -> bool:
    """Whether the processor has units for bf16, as far as torch can tell."""
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 cannot tell
    return not found or any(found.get(unit) for unit in _UNITS)


@cache
def _multiplies_bf16() -> bool:
    """Whether the processor does so itself; else bf16 takes longer than fp32, and it is said that fp32 is taken."""
    if not has_bf16():
        log.warning("This processor has no units for bf16, where torch is faster in fp32: precision fp32 is taken.")
        return False
    return True


def _in_bfloat16(extractor: Engine, images: Tensor) -> list[Tensor]:
    # In this layout about twice as fast.
    with torch.autocast(images.device.type, torch.bfloat16):
        return [tap.float() for tap in extractor(images.contiguous(memory_format=torch.channels_last))]
