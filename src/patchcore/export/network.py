"""A backbone up to its taps, as a module that `torch.export` can capture for images of any size."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchcore.backbones import Extractor
from patchcore.backbones.extractor import channels_last
from patchcore.backbones.lite import Same


class _Skipped(nn.Module):
    """Replaces a module behind the deepest tap, which the graph does not need."""

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        return x


class Taps(nn.Module):
    """The taps of an extractor, each (B, C, h, w), from a copy of its network.

    An `Extractor` inspects the shapes of every pass, to see whether a tap is a grid (channels first or last) or tokens.
    Here one pass at construction decides that, and whole-number formulas without branches give the other sizes.
    """

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.model = copy.deepcopy(extractor.model)
        for module in self.model.modules():  # these hooks belong to the original
            module._forward_hooks.clear()
        self.names = extractor.taps
        self._found: dict[str, Tensor] = {}
        skipped = [name for name, _ in self.model.named_modules() if name and name not in extractor.used]
        for name in skipped:
            if name.rpartition(".")[0] not in skipped and name != "norm":
                self.model.set_submodule(name, _Skipped())
        for name in set(self.names):
            self.model.get_submodule(name).register_forward_hook(self._hook(name))
        image = torch.zeros(1, 3, *extractor.size)
        with torch.no_grad():
            outputs, grids = self._run(image), extractor(image)
        self.norm = extractor._norm and getattr(self.model, "norm", None)
        self.cells = [(extractor.size[0] // g.shape[2], extractor.size[1] // g.shape[3]) for g in grids]
        self.layouts = [
            "tokens" if o.ndim == 3 else "last" if channels_last(o, extractor.size) else "first" for o in outputs
        ]
        self.prefixes = [
            o.shape[1] - g.shape[2] * g.shape[3] if o.ndim == 3 else 0 for o, g in zip(outputs, grids, strict=True)
        ]
        _replace_same(self.model)

    def _hook(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            self._found[name] = output

        return keep

    def _run(self, images: Tensor) -> list[Tensor]:
        self._found = {}
        self.model(images)
        found, self._found = self._found, {}
        return [found[name] for name in self.names]

    def forward(self, images: Tensor) -> list[Tensor]:
        taps = []
        for output, layout, prefix, cell in zip(
            self._run(images), self.layouts, self.prefixes, self.cells, strict=True
        ):
            if layout == "tokens":
                tokens = output if self.norm is None else self.norm(output)
                grid = (images.shape[2] // cell[0], images.shape[3] // cell[1])
                output = tokens[:, prefix:].transpose(1, 2).unflatten(2, grid)
            taps.append(output.permute(0, 3, 1, 2) if layout == "last" else output)
        return taps


class _Same(nn.Module):
    """TensorFlow's "SAME" padding before a convolution or pooling, in whole numbers."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.fill = -float("inf") if isinstance(module, nn.MaxPool2d) else 0.0
        self.geometry = [
            (_side(module.kernel_size, i), _side(module.stride, i), _side(getattr(module, "dilation", 1), i))
            for i in (0, 1)
        ]

    def forward(self, x: Tensor) -> Tensor:
        amounts: list[Any] = []
        for side, (kernel, stride, dilation) in zip(x.shape[2:], self.geometry, strict=True):
            reach = dilation * (kernel - 1) + 1
            pad: Any = ((side + stride - 1) // stride - 1) * stride + reach - side
            pad = pad if reach >= stride else torch.sym_max(pad, 0)
            amounts = [pad // 2, pad - pad // 2, *amounts]
        x, module = F.pad(x, amounts, value=self.fill), self.module
        if isinstance(module, nn.Conv2d):
            return F.conv2d(x, module.weight, module.bias, module.stride, 0, module.dilation, module.groups)
        if isinstance(module, nn.MaxPool2d):
            return F.max_pool2d(x, module.kernel_size, module.stride, 0, module.dilation, module.ceil_mode)
        assert isinstance(module, nn.AvgPool2d)
        return F.avg_pool2d(x, module.kernel_size, module.stride, 0, module.ceil_mode, module.count_include_pad)


def _replace_same(model: nn.Module) -> None:
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame

    for name, module in list(model.named_modules()):
        if isinstance(module, Same | Conv2dSame | MaxPool2dSame | AvgPool2dSame):
            hooks = module._forward_hooks
            replacement = _Same(module)
            replacement._forward_hooks.update(hooks)
            module._forward_hooks = type(hooks)()
            model.set_submodule(name, replacement)


def _side(value: Any, axis: int) -> int:
    return int(value[axis] if isinstance(value, tuple | list) else value)
