"""Finding the taps that were asked for, by name or by stride, in any network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from patchcore.errors import BackboneError, nearest_name

Tap = int | str
_MOST_STAGES = 20  # in an error


class Probe:
    """What one pass of a blank image does: which modules run, in what order, with what shapes."""

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        parameter = next(model.parameters(), torch.empty(0))
        self.image = torch.zeros(1, 3, *size, device=parameter.device, dtype=parameter.dtype)
        self.size = size
        self.finished: list[str] = []
        self.shapes: dict[str, Tensor] = {}
        self.entered: list[tuple[str, int]] = []  # module, and how many had finished before it
        self.model = model
        hooks = []
        for name, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(self._enter(name)))
            hooks.append(module.register_forward_hook(self._leave(name)))
        try:
            with torch.no_grad():
                model(self.image)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise refused(size, error) from error
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str):  # type: ignore[no-untyped-def]
        return lambda module, inputs: self.entered.append((name, len(self.finished)))

    def _leave(self, name: str):  # type: ignore[no-untyped-def]
        def leave(module: nn.Module, inputs: object, output: object) -> None:
            if name and isinstance(output, Tensor):
                self.shapes[name] = output
            self.finished.append(name)

        return leave

    def entered_until(self, deepest: str) -> frozenset[str]:
        """The modules a pass needs: all that start before `deepest` ends, and what is inside them.

        A module that has ended counts with all its parts, called or not: some read the weights of
        a part without calling it. A module that is cut off counts with the parts that were called.
        """
        end = self.finished.index(deepest)
        started = {name for name, before in self.entered if before <= end}
        complete = {name for name in self.finished[: end + 1] if name}
        inside = {
            name for name, _ in self.model.named_modules() if any(name.startswith(f"{whole}.") for whole in complete)
        }
        return frozenset(started | inside)

    def tokens(self, taps: Sequence[str]) -> bool:
        return any(self.shapes[tap].ndim == 3 for tap in taps)

    def strides(self) -> dict[str, int]:
        """Stride of every module whose output is a feature map, in order of execution."""
        found: dict[str, int] = {}
        for name in self.finished:
            output = self.shapes.get(name)
            if output is not None and output.ndim == 4:
                height = output.shape[1 if channels_last(output, self.size) else 2]
                if height > 1:
                    found[name] = stride_of(self.size[0], height)
        return found


def refused(size: Sequence[int], error: Exception) -> BackboneError:
    """The error for images of a size that a network does not take."""
    return BackboneError(
        f"The backbone does not take images of {size[0]} x {size[1]} pixels: {error} "
        "Choose a `size` that it takes; for a vision transformer, a multiple of its patch."
    )


def stride_of(pixels: int, cells: int) -> int:
    """Pixels per cell, where a side need not be a whole number of cells."""
    powers = (stride for stride in (1, 2, 4, 8, 16, 32, 64) if cells in (pixels // stride, -(-pixels // stride)))
    return next(powers, max(1, round(pixels / cells)))


def resolve_taps(model: nn.Module, taps: Sequence[Tap], probe: Probe) -> list[str]:
    """Module names for names and strides.

    A stride stands for the last stage of a convolutional network with that stride: 8 and 16 are
    `layer2` and `layer3` of a ResNet. timm networks list their stages; in others it is the last
    module of that stride at the shallowest depth. In a vision transformer, whose blocks all have
    one stride, 4, 8, 16 and 32 stand for the blocks at 1/4, 1/2, 3/4 and all of its depth, which
    is where a ResNet has those strides.
    """
    return [_by_stride(model, tap, probe) if isinstance(tap, int) else _by_name(tap, probe) for tap in taps]


def _by_name(tap: str, probe: Probe) -> str:
    if tap not in probe.shapes:
        called = tap in probe.finished
        reason = "does not return a tensor" if called else "is not a module that runs"
        raise BackboneError(
            f"The tap {tap!r} {reason} in this backbone.{nearest_name(tap, probe.shapes)} "
            f"It has {', '.join(_stages(probe))}, and what is inside them."
        )
    if probe.shapes[tap].ndim not in (3, 4):
        raise BackboneError(
            f"The tap {tap!r} gives a shape {tuple(probe.shapes[tap].shape)}; expected a feature "
            f"map (B, C, h, w) or tokens (B, N, C). Choose an earlier module."
        )
    return tap


def _by_stride(model: nn.Module, stride: int, probe: Probe) -> str:
    blocks = [name for name in probe.shapes if name.startswith("blocks.") and name.count(".") == 1]
    blocks = blocks or [n for n in probe.shapes if n.startswith("encoder.layers.") and n.count(".") == 2]
    if blocks and probe.shapes[blocks[0]].ndim == 3:
        share = {4: 0.25, 8: 0.5, 16: 0.75, 32: 1.0}.get(stride)
        if share is None:
            raise BackboneError(f"The stride {stride} means nothing in a vision transformer; use 4, 8, 16 or 32.")
        return blocks[max(1, round(share * len(blocks))) - 1]
    strides = probe.strides()
    stages = {name: s for name, s in _timm_stages(model).items() if name in probe.shapes}
    if not stages:
        stages = strides
    fitting = [name for name, s in stages.items() if s == stride]
    if not fitting:
        raise BackboneError(f"The backbone has no tap of stride {stride}; it has {sorted(set(stages.values()))}.")
    shallowest = min(name.count(".") for name in fitting)
    return [name for name in fitting if name.count(".") == shallowest][-1]


def _timm_stages(model: nn.Module) -> dict[str, int]:
    """The stages that a timm network lists about itself: module name to stride."""
    info = getattr(model, "feature_info", None) or []
    return {stage["module"]: stage["reduction"] for stage in info if stage.get("module")}


def _stages(probe: Probe) -> Iterator[str]:
    """The modules of the upper levels that can be tapped, in order; `blocks.0 to blocks.6` where they are numbered."""
    shallow = min((name.count(".") for name in probe.shapes), default=0)
    numbered: dict[str, list[str]] = {}
    for name, output in probe.shapes.items():
        upper = name.count(".") <= shallow + 1 or (name.startswith("encoder.layers.") and name.count(".") == 2)
        if upper and output.ndim in (3, 4) and output.shape[2:] != (1, 1):
            numbered.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    shown: list[str] = []
    for names in numbered.values():
        shown += names if len(names) < 3 else [f"{names[0]} to {names[-1]}"]
    yield from shown[:_MOST_STAGES] + ["..."] * (len(shown) > _MOST_STAGES)


def channels_last(output: Tensor, size: Sequence[int]) -> bool:
    """Whether a 4-D output is (B, h, w, C): its middle two sides have the image's proportions."""
    _, a, b, c = output.shape
    height, width = size
    return abs(b * width - c * height) > max(height, width) >= abs(a * width - b * height)
