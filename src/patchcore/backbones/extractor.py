"""Reading feature maps out of a network, and stopping it at the deepest one."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from torch import Tensor, nn

from patchcore.backbones.taps import Probe, Tap, channels_last, refused, resolve_taps, stride_of
from patchcore.errors import BackboneError


class _DeepestTapSignal(Exception):  # noqa: N818, it is not an error
    """Ends a forward pass once everything that was asked for has been seen."""


class Extractor(nn.Module):
    """A network that returns its taps: (B, 3, H, W) -> one (B, C, h, w) for each tap, as listed.

    `taps` are module names in dot notation, or strides (see `resolve_taps`). Token outputs
    (B, N, C) become grids: prefix tokens (class, registers) are dropped, and the network's last
    norm, if it has one, is applied, as is usual for intermediate tokens. `size` is the (height,
    width) of the images to come; one probe of that size finds the order of execution.

    Safe to call from several threads. Errors: BackboneError for taps the network does not have.
    """

    def __init__(self, model: nn.Module, taps: Sequence[Tap], size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self._pass = threading.local()
        probe = Probe(model, size)
        self.taps = resolve_taps(model, taps, probe)
        self._deepest = max(self.taps, key=probe.finished.index)
        self.used = probe.entered_until(self._deepest)
        for name in self.taps:
            model.get_submodule(name).register_forward_hook(self._hook(name))
        norm = getattr(model, "norm", None)
        self._norm = norm if isinstance(norm, nn.Module) and probe.tokens(self.taps) else None
        self.size = size
        outputs = self(probe.image)
        self.channels = [tap.shape[1] for tap in outputs]
        self.strides = [stride_of(size[0], tap.shape[2]) for tap in outputs]  # pixels per cell

    def _hook(self, name: str):  # type: ignore[no-untyped-def]
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            found = getattr(self._pass, "found", None)
            if found is None:  # somebody else is running the network
                return
            found[name] = output
            if name == self._deepest and self._pass.stop:
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
