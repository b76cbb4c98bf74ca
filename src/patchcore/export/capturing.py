"""Capturing a detector as a program whose sizes stay open: what becomes a constant, what an engine must be told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from patchcore import silence
from patchcore.errors import ExportError, UsageError
from patchcore.maths.sizes import Size, is_open

F = TypeVar("F", bound=Callable[..., Tensor])

LOUD = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch.fx")  # while a graph is captured

_constants: ContextVar[dict[Any, Tensor] | None] = ContextVar("constants", default=None)


@torch.inference_mode(False)
@torch.no_grad()
def capture(graph: nn.Module, static: tuple[int, int] | None) -> torch.export.ExportedProgram:
    """The graph with its batch, height, width and channels left open; height and width not if `static`."""
    open_ = torch.export.Dim.DYNAMIC
    height, width = static or (70, 90)
    example = (torch.rand(2, height, width, 3), torch.tensor([0.0, 1.0]))
    free = {} if static else {1: open_, 2: open_}
    try:
        with silence.logs_and_warnings(*LOUD), _constants_of_the_first_pass(), ExactDivision():
            graph(*example)
            return torch.export.export(graph, example, dynamic_shapes=({0: open_, 3: open_, **free}, None))
    except UsageError:
        raise
    except Exception as error:  # capturing has many
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        way = "Use another backbone." if static else "Give the images' size (--static H W), or use another backbone."
        raise ExportError(f"No graph can be made of this detector: {reason} {way}") from error


@contextmanager
def _constants_of_the_first_pass() -> Iterator[None]:
    token = _constants.set({})
    try:
        yield
    finally:
        _constants.reset(token)


def constant(function: F) -> F:
    """The function of sizes; where all of them are known, the first pass computes it, for the program to hold.

    So a program holds the matrix, and not the steps to it.
    """

    @wraps(function)
    def call(*sizes: Any) -> Tensor:
        known = _constants.get()
        if known is None or is_open(*sizes):
            return function(*sizes)
        key = (function.__name__, *sizes)
        if torch.compiler.is_exporting():
            return known[key] if key in known else function(*sizes)
        return known.setdefault(key, function(*sizes))

    return cast(F, call)


class ExactDivision(TorchFunctionMode):
    """In here `a // b` and `a % b` of whole numbers, b positive, are what they are in every engine.

    OpenVINO divides whole numbers as floats, and may say 255 for 30976 / 121: what is left says so.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name not in ("__floordiv__", "floor_divide", "__mod__", "remainder") or _has_floats(*args):
            return func(*args, **(kwargs or {}))
        a, b = args
        quotient = torch.div(a, b, rounding_mode="trunc")
        left = a - quotient * b
        quotient = quotient + (left >= b).long() - (left < 0).long()
        return quotient if "div" in name else a - quotient * b


def _has_floats(*values: Any) -> bool:
    return any(one.is_floating_point() if isinstance(one, Tensor) else isinstance(one, float) for one in values)


def as_size(value: Tensor, largest: Size) -> Size:
    """A computed size () that shapes may depend on: it is promised to be from 1 to `largest`."""
    size = value.item()
    assert isinstance(size, int | torch.SymInt)
    torch._check(size >= 1)
    torch._check(size <= largest)
    return size
