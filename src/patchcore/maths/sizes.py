"""Sizes: whole numbers of pixels or cells, known now or only when an exported graph runs.

In a graph they are symbols of `torch.export`, or tensors (), int64. The same function serves both, so
that a graph repeats what the library does: exactly, because nothing is rounded before it is compared.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

Size: TypeAlias = "int | torch.SymInt"  # what shapes may depend on
Whole: TypeAlias = "int | torch.SymInt | Tensor"
N = TypeVar("N", int, Tensor)


def whole(size: Whole) -> Tensor:
    """A size as a tensor (), int64."""
    return size if isinstance(size, Tensor) else torch.scalar_tensor(size, dtype=torch.int64)


def is_open(*sizes: Any) -> bool:
    """Whether any of the sizes, or of tuples of them, is known only when a graph runs."""
    return any(is_open(*one) if isinstance(one, tuple) else isinstance(one, Tensor | torch.SymInt) for one in sizes)


def precision(*sizes: Any) -> torch.dtype:
    """What is computed in: float64, or float32 in a graph, because not every engine has float64."""
    return torch.float32 if is_open(*sizes) else torch.float64


def at_least(least: int, value: N) -> N:
    """The value, or `least` if that is more."""
    return value.clamp(min=least) if isinstance(value, Tensor) else max(least, value)


def smallest(first: N, *others: N) -> N:
    """The smallest of the values."""
    for other in others:
        if isinstance(first, Tensor) or isinstance(other, Tensor):
            first = torch.minimum(whole(first), whole(other))
        else:
            first = min(first, other)
    return first


def rounded(a: N, b: N) -> N:
    """round(a / b), halves up, at least 1."""
    return at_least(1, (2 * a + b) // (2 * b))


def rounded_root(a: N, b: N) -> N:
    """round(sqrt(a / b)), halves up, at least 1; in a graph for a / b below 2**21."""
    quotient = 4 * a // b
    # The float32 root of a whole number below 2**23 lies on the right side of every whole number.
    root = quotient.float().sqrt().long() if isinstance(quotient, Tensor) else math.isqrt(quotient)
    return at_least(1, (root + 1) // 2)


def half(value: N) -> N:
    """round(value / 2), a half to the even number."""
    return (value + value // 2 % 2) // 2


def share_of(count: N, share: float) -> N:
    """round(share * count), a half to the even number, at least 1."""
    if isinstance(count, Tensor):
        return at_least(1, (share * count.double()).round().long())
    return at_least(1, round(share * count))
