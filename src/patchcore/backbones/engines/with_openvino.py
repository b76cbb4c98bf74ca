"""OpenVINO, on a CPU, in fp32 or bf16."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from patchcore import silence
from patchcore.backbones.engines import Engine
from patchcore.backbones.registry import Backbone
from patchcore.errors import BackboneError, MissingExtraError, UsageError

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}  # by OpenVINO's names
_SIZES = 8  # of images, for which a compiled network is kept; each holds the weights once
_LARGEST_ERROR = {"fp32": 1e-4, "bf16": 0.25}  # of a tap against torch's, relative to its norm
_CONVERTING = threading.Lock()  # tracing, and the filters of warnings, belong to the whole process


def check(device: torch.device) -> None:
    """Errors: UsageError for another device than a CPU, MissingExtraError where OpenVINO is not installed."""
    if device.type != "cpu":
        raise UsageError(f"engine='openvino' runs on the CPU only, not on {device}. Take device='cpu'.")
    _openvino()


def start(backbone: Backbone, precision: str, device: torch.device, threads: int | None) -> Engine:
    """The engine; without `threads` it uses as many as torch has."""
    return _OpenVino(backbone.extractor, precision, threads or torch.get_num_threads())


class _OpenVino:
    """Traces and compiles the network for each size of image, when one comes: tracing writes some sizes
    down as constants (padding, position embeddings). Compares with torch before anything is used."""

    def __init__(self, extractor: Callable[..., list[Tensor]], precision: str, threads: int) -> None:
        self._extractor, self._precision = extractor, precision
        self._options = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],  # unsaid, it is bf16 wherever there is any
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # other processes have the same cores
        }
        self._compiled: dict[tuple[int, ...], Any] = {}  # the one used last is last

    def __call__(self, images: Tensor) -> list[Tensor]:
        with _CONVERTING:
            compiled = self._compiled.pop(images.shape[2:], None) or self._compile(images)
            self._compiled[images.shape[2:]] = compiled
            self._compiled = dict(list(self._compiled.items())[-_SIZES:])
        return _run(compiled, images)

    @torch.inference_mode(False)
    def _compile(self, images: Tensor) -> Any:
        two = torch.cat([images[:1], images[:1].flip(3)])  # a batch of one could be taken for a constant
        expected = self._extractor(two)
        try:
            with silence.logs_and_warnings():  # of what tracing writes down; the comparison answers them
                traced = torch.jit.trace(lambda x: tuple(self._extractor(x, stop=False)), two, check_trace=False)
                model = _openvino().convert_model(traced, example_input=two)
            model.reshape([-1, *two.shape[1:]])
            found = _run(compiled := _openvino().Core().compile_model(model, "CPU", self._options), two)
        except Exception as error:  # the tracer and OpenVINO have many
            reason = (str(error).strip() or repr(error)).splitlines()[-1]
            raise BackboneError(f"OpenVINO does not take this backbone: {reason} Use engine='torch'.") from error
        wrong = max(float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in zip(found, expected, strict=True))
        if not wrong <= _LARGEST_ERROR[self._precision]:
            at = f"taps differ by {wrong:.1e} at {two.shape[2]} x {two.shape[3]} pixels"
            raise BackboneError(f"OpenVINO computes something else than torch: {at}. Use engine='torch'.")
        return compiled


def _run(compiled: Any, images: Tensor) -> list[Tensor]:
    """In a request of its own, so that threads do not share one. The taps are copies, in the layout that pools fast."""
    request = compiled.create_infer_request()
    taps = request.infer([images.contiguous().numpy()], share_inputs=True, share_outputs=True)
    return [torch.from_numpy(taps[i]).clone(memory_format=torch.channels_last) for i in range(len(taps))]


def _openvino() -> Any:
    try:
        return silence.imported("openvino")
    except ImportError:
        raise MissingExtraError("openvino", "openvino", "engine='openvino'") from None
