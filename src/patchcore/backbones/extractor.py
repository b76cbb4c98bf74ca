"""Reading feature maps out of a network: the taps are found by name or by stride, and the deepest one ends the pass."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from patchcore.errors import BackboneError, nearest_name

Tap = int | str
_MOST_STAGES = 20  # in an error


class _DeepestTapSignal(Exception):  # noqa: N818, it is not an error
    """Ends a forward pass once everything that was asked for has been seen."""


class Extractor(nn.Module):
    """A network that returns its taps: (B, 3, H, W) -> one (B, C, h, w) for each tap, as listed.

    `taps` are module names in dot notation, or strides (see `resolve_taps`). Token outputs
    (B, N, C) become grids: prefix tokens (class, registers) are dropped, and the network's last
    norm, if it has one, is applied, as is usual for intermediate tokens. `size` is the (height,
    width) of the images to come, which have `channels`; one probe like them finds the order of execution.

    Safe to call from several threads. Errors: BackboneError for taps the network does not have.
    """

    def __init__(self, model: nn.Module, taps: Sequence[Tap], size: tuple[int, int], channels: int = 3) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self._pass = threading.local()
        probe = Probe(model, size, channels)
        self.taps = resolve_taps(model, taps, probe)
        self._deepest = max(self.taps, key=probe.finished.index)
        self.used = probe.entered_until(self._deepest)
        for name in self.taps:
            handle = model.get_submodule(name).register_forward_hook(self._hook(name))
            weakref.finalize(self, handle.remove)  # the network may be another extractor's next
        norm = getattr(model, "norm", None)
        self._norm = norm if isinstance(norm, nn.Module) and probe.tokens(self.taps) else None
        self.size = size
        outputs = self(probe.image)
        self.channels = [tap.shape[1] for tap in outputs]
        self.strides = [stride_of(size[0], tap.shape[2]) for tap in outputs]  # pixels per cell

    def _hook(self, name: str):  # type: ignore[no-untyped-def]
        own, deepest = self._pass, self._deepest  # and not self, which the network would keep alive

        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            found = getattr(own, "found", None)
            if found is None:  # somebody else is running the network
                return
            found[name] = output
            if name == deepest and own.stop:
                raise _DeepestTapSignal

        return keep

    def forward(self, images: Tensor, stop: bool = True) -> list[Tensor]:
        """`stop=False` runs the whole network: graph capture cannot follow an exception."""
        self._pass.found, self._pass.stop = {}, stop
        try:
            self.model(images)
        except _DeepestTapSignal:
            pass
        except (AssertionError, RuntimeError, ValueError) as error:
            if tuple(images.shape[-2:]) == self.size:
                raise  # the probe has shown that this size is taken
            raise refused(images.shape[-2:], error) from error
        finally:
            found, self._pass.found = self._pass.found, None
        return [self._as_grid(found[name], images.shape[-2:]) for name in self.taps]

    def _as_grid(self, output: Tensor, size: Sequence[int]) -> Tensor:
        if output.ndim == 3:
            if self._norm is not None:
                output = self._norm(output)
            h, w = _token_grid(self.model, output.shape[1], size)
            return output[:, -h * w :].transpose(1, 2).unflatten(2, (h, w))
        return output.permute(0, 3, 1, 2) if channels_last(output, size) else output

    def needed_state(self) -> dict[str, Tensor]:
        """The tensors that a pass up to the deepest tap reads, by their names in the network."""
        norm = self._norm is not None
        return {
            name: tensor
            for name, tensor in self.model.state_dict().items()
            if name.rpartition(".")[0] in self.used or (norm and name.startswith("norm."))
        }


def _token_grid(model: nn.Module, n_tokens: int, size: Sequence[int]) -> tuple[int, int]:
    """The grid of the patch tokens among n tokens of an image of (height, width) pixels."""
    for patch in range(4, 65):
        h, w = size[0] // patch, size[1] // patch
        prefix = n_tokens - h * w
        if 0 <= prefix <= 16 and size[0] % patch == 0 and size[1] % patch == 0:
            return h, w
    raise BackboneError(
        f"{n_tokens} tokens do not form a grid for images of {size[0]} x {size[1]} pixels. "
        "Choose a `size` that is a multiple of the patch of the vision transformer."
    )


class Probe:
    """What one pass of a blank image does: which modules run, in what order, with what shapes."""

    def __init__(self, model: nn.Module, size: tuple[int, int], channels: int = 3) -> None:
        parameter = next(model.parameters(), torch.empty(0))
        self.image = torch.zeros(1, channels, *size, device=parameter.device, dtype=parameter.dtype)
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
