"""Folding: batch normalisations taken into the convolutions before them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from patchcore.backbones.extractor import Extractor
from patchcore.errors import BackboneError

_FOLDING_ERROR = 1e-5  # of a tap, relative to its norm


def folded(extractor: Extractor) -> Extractor:
    """The same taps from a copy of the network that computes less, or the extractor itself.

    In evaluation mode a batch normalisation multiplies and adds constants: the convolution before
    it can do that. The copy keeps the channels of a cell side by side, which its convolutions then
    leave as they are. Whether a convolution's output is used by anybody else cannot be seen from
    outside, so the copy is taken only if its taps are the same on an image of noise.
    """
    generator = torch.Generator().manual_seed(0)
    device = next(extractor.model.parameters(), torch.empty(0)).device
    image = torch.randn(1, 3, *extractor.size, generator=generator).to(device)
    model = copy.deepcopy(extractor.model)
    for module in model.modules():  # the hooks are the original's
        module._forward_hooks.clear()
    with torch.no_grad():
        expected = extractor(image)
        pairs = [pair for pair in _pairs(model, image) if pair[0] not in extractor.taps]
        if not pairs:
            return extractor
        for convolution, normalisation in pairs:
            _fold(model, convolution, normalisation)
        try:
            made = Extractor(model.to(memory_format=torch.channels_last), extractor.taps, extractor.size)
            errors = [(a - b).norm() / b.norm() for a, b in zip(made(image), expected, strict=True)]
        except (BackboneError, RuntimeError):
            return extractor
    return made if all(error <= _FOLDING_ERROR for error in errors) else extractor


def _pairs(model: nn.Module, image: Tensor) -> Iterator[tuple[str, str]]:
    """Names of convolutions and of the normalisations that are given their outputs, in one pass."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept, so that no identity comes twice
    pairs: list[tuple[str, str]] = []
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda _, i, o, n=name: outputs.__setitem__(id(o), (n, o))))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            hooks.append(
                module.register_forward_pre_hook(
                    lambda _, i, n=name: pairs.append((outputs[id(i[0])][0], n)) if id(i[0]) in outputs else None
                )
            )
    model(image)
    for hook in hooks:
        hook.remove()
    once = [name for pair in pairs for name in pair]
    return (pair for pair in pairs if once.count(pair[0]) == once.count(pair[1]) == 1)


def _fold(model: nn.Module, convolution: str, normalisation: str) -> None:
    old, norm = model.get_submodule(convolution), model.get_submodule(normalisation)
    model.set_submodule(convolution, fuse_conv_bn_eval(old, norm))  # type: ignore[type-var, arg-type]
    model.set_submodule(normalisation, getattr(norm, "act", None) or nn.Identity())  # timm's norms may end so
