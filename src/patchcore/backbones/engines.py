"""Engines: what runs a network up to its taps, torch or OpenVINO, in fp32 or bf16; whole images or tiles."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from patchcore import silence
from patchcore.backbones.extractor import Extractor
from patchcore.backbones.registry import Backbone
from patchcore.errors import BackboneError, MissingExtraError, UsageError
from patchcore.maths.tiling import Merged, Tiling, split

# Images (B, 3, H, W) -> one (B, C, h, w) per tap, float32 both; safe to call from several threads.
Engine = Callable[[Tensor], list[Tensor]]
ENGINES, PRECISIONS = ("torch", "openvino"), {"fp32": "f32", "bf16": "bf16"}  # with OpenVINO's names
_SIZES = 8  # of images, for which a compiled network is kept; each holds the weights once
_LARGEST_ERROR = {"fp32": 1e-4, "bf16": 0.25}  # of a tap against torch's, relative to its norm
_AT_ONCE = 8  # tiles in one pass on a device; on a CPU one by one is faster, and takes the least memory
_CONVERTING = threading.Lock()  # tracing, and the filters of warnings, belong to the whole process


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
    """Errors: UsageError for what there is not, MissingExtraError where OpenVINO is not installed."""
    for what, got, known in (("engine", name, ENGINES), ("precision", precision, PRECISIONS)):
        if got not in known:
            raise UsageError(f"{what} is {got!r}; expected one of {', '.join(known)}.")
    if name == "openvino":
        if device.type != "cpu":
            raise UsageError(f"engine='openvino' runs on the CPU only, not on {device}. Take device='cpu'.")
        _openvino()


def engine(backbone: Backbone, name: str, precision: str, device: torch.device, threads: int | None = None) -> Engine:
    """The engine of a name. `threads` is OpenVINO's (None: as many as torch has); torch has its own setting."""
    check(name, precision, device)
    if name == "openvino":
        return _OpenVino(backbone.extractor, precision, threads or torch.get_num_threads())
    if precision == "bf16":
        return partial(_in_bfloat16, backbone.extractor)
    own = backbone.source.architecture == "module"  # the caller may want to change it, or watch it
    return backbone.extractor if own or device.type != "cpu" else folded(backbone.extractor)


def _in_bfloat16(extractor: Engine, images: Tensor) -> list[Tensor]:
    # In this layout about twice as fast.
    with torch.autocast(images.device.type, torch.bfloat16):
        return [tap.float() for tap in extractor(images.contiguous(memory_format=torch.channels_last))]


class _OpenVino:
    """Traces and compiles the network for each size of image, when one comes: tracing writes some sizes
    down as constants (padding, position embeddings). Compares with torch before anything is used."""

    def __init__(self, extractor: Callable[..., list[Tensor]], precision: str, threads: int) -> None:
        self._extractor, self._precision = extractor, precision
        self._options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],  # unsaid, it is bf16 wherever there is any
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


def taps_of(engine: Engine, images: Tensor, tiles: tuple[tuple[int, int], tuple[int, int]] | None) -> list[Tensor]:
    """The taps (B, C, h, w) of images (B, 3, H, W), read tile by tile and joined on their full grids.

    `tiles`: size of the tiles and their stride, in pixels, or None to read each image whole. Every
    side is a multiple of every tap's stride. Taps are joined and not embeddings, so that pooling and
    aligning, which come next, look across the tiles' borders. Errors: BackboneError.
    """
    if tiles is None:
        return engine(images)
    size = (images.shape[2], images.shape[3])
    tile, stride = (_within(sides, size) for sides in tiles)  # an image smaller than a tile is read whole
    tiling = Tiling(size, tile, stride)
    at_once = 1 if images.device.type == "cpu" else max(1, _AT_ONCE // len(images))
    source, joined = split(images, tiling), list[Merged]()
    while batch := list(islice(source, at_once)):
        taps = engine(torch.cat(batch))
        joined = joined or [Merged(tiling.in_cells(_cell(tap, tiling.tile))) for tap in taps]
        for tap, merged in zip(taps, joined, strict=True):
            for tile in tap.split(len(images)):
                merged.add(tile)
    return [merged.total() for merged in joined]


def _within(sides: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    return min(sides[0], size[0]), min(sides[1], size[1])


def _cell(tap: Tensor, tile: tuple[int, int]) -> int:
    """Pixels per cell of a tap."""
    h, w = tap.shape[-2:]
    cell = tile[0] // h
    if (h * cell, w * cell) != tile:
        raise BackboneError(
            f"A tile of {tile[0]} x {tile[1]} pixels gives a tap of {h} x {w} cells, which are no whole numbers of "
            "pixels, so tiles cannot be joined. Choose other taps, a `tile` of another size, or none."
        )
    return cell


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
