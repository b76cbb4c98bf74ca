"""Engines: what runs a network up to its taps, each a file of this folder."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import islice
from typing import Protocol, cast

import torch
from torch import Tensor

from patchcore.backbones.registry import Backbone
from patchcore.errors import BackboneError, UsageError
from patchcore.maths.tiling import Merged, Tiling, split

# Images (B, 3, H, W) -> one (B, C, h, w) per tap, float32 both; safe to call from several threads.
Engine = Callable[[Tensor], list[Tensor]]
ENGINES, PRECISIONS = ("torch", "openvino", "auto"), ("fp32", "bf16")
_AT_ONCE = 8  # tiles in one pass on a device; on a CPU one by one is faster, and takes the least memory


class _Kind(Protocol):
    """What the file of an engine has: `with_torch.py` is that of `torch`."""

    def check(self, device: torch.device) -> None: ...
    def start(self, backbone: Backbone, precision: str, device: torch.device, threads: int | None) -> Engine: ...


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA, else MPS, else the CPU. Errors: UsageError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        if not isinstance(name, str | torch.device) or (device := torch.device(name)).type == "meta":
            raise RuntimeError  # a number would be a GPU's; tensors on `meta` have no values
    except RuntimeError:  # its text lists every device that torch has ever known
        raise UsageError(f"device is {name!r}; expected auto, cpu, cuda, cuda:0 or mps.") from None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise UsageError(f"device is {str(name)!r}, which cannot be used here ({reason}). Try auto or cpu.") from None


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
