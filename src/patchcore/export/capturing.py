"""Capture a detector as a program for images of any size, with the constants and hints that engines need."""

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

LOUD = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch.fx")  # loggers that are silenced

_constants: ContextVar[dict[Any, Tensor] | None] = ContextVar("constants", default=None)


@torch.inference_mode(False)
@torch.no_grad()
def capture(graph: nn.Module, static: tuple[int, int] | None) -> torch.export.ExportedProgram:
    """The graph as a program with open batch size, channels and, unless `static`, height and width."""
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
    except Exception as error:  # capturing raises many kinds of errors
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        way = "Use another backbone." if static else "Give the images' size (--static H W), or use another backbone."
        raise ExportError(f"This detector cannot be captured as a graph: {reason} {way}") from error


@contextmanager
def _constants_of_the_first_pass() -> Iterator[None]:
    token = _constants.set({})
    try:
        yield
    finally:
        _constants.reset(token)


def constant(function: F) -> F:
    """Wrap a function of sizes: if all are known, the program stores its result, and not the steps to compute it."""

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
    """In this context, `a // b` and `a % b` of whole numbers (b positive) give the same result in every engine.

    OpenVINO divides whole numbers as floats and may return 255 for 30976 // 121; the remainder shows the error.
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
    """A computed size () that shapes may depend on, declared to be between 1 and `largest`."""
    size = value.item()
    assert isinstance(size, int | torch.SymInt)
    torch._check(size >= 1)
    torch._check(size <= largest)
    return size
