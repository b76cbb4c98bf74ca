"""Principal axes of points, and how many of them make a search cheapest."""

from __future__ import annotations

import torch
from torch import Tensor

TWO_STAGES = 512  # values of a point from which a second bound, along all axes, saves measuring
_NUMBERS = (16, 24, 32, 48, 64, 96, 128)  # of axes to choose from


def principal_axes(centred: Tensor, n: int = max(_NUMBERS)) -> Tensor:
    """About the first n principal axes of centred points (M, D), as orthonormal columns (D, n).

    Subspace iteration on a few thousand of the points: any axes give true bounds, so there is no
    need for more.
    """
    some = centred[:: -(-len(centred) // 4096)]
    covariance = some.T @ some
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(len(covariance), min(n + 8, len(covariance)), generator=generator).to(some)
    for _ in range(4):
        axes = torch.linalg.qr(covariance @ axes).Q
    return (axes @ torch.linalg.eigh(axes.T @ covariance @ axes).eigenvectors.flip(1))[:, :n]


def best_axes(
    centred: Tensor, vectors: Tensor, share: float = 0.0, number: torch.dtype = torch.float32, margin: float = 1.0
) -> int:
    """How many of the axes (D, a) make the cheapest search among centred points (M, D); 0 is plain.

    By a count of the work, not by a clock, so that one machine always decides the same: on some of
    the points, the pairs that bounds would leave to measure, if the answer were at `margin` times the
    squared distance of their nearest other point (at 1 time where a second bound takes what the first
    leaves). `share` of the squared lengths is the slack of a bound, and `number` what it is multiplied
    in. The weights of the parts are measured figures.
    """
    m, d = centred.shape
    sample = centred[:: -(-m // 64)]
    own = torch.arange(len(sample), device=centred.device)
    apart = torch.cdist(sample, centred)
    apart[own, own * -(-m // 64)] = torch.inf
    limits = (margin if d < TWO_STAGES else 1.0) * apart.amin(1).square()[:, None]
    short, full = sample @ vectors, centred @ vectors
    costs = {0: m * (d + 8.0)}
    for n in [n for n in _NUMBERS if n < d]:
        a, b = (
            torch.cat([s[:, :n], (x.square().sum(1) - s[:, :n].square().sum(1)).clamp(min=0).sqrt()[:, None]], 1)
            for x, s in ((sample, short), (centred, full))
        )
        bounds = torch.cdist(a, b).square() - share * (a.square().sum(1)[:, None] + b.square().sum(1))
        left = float((bounds <= limits).sum(1).double().mean())
        dear = d if d < TWO_STAGES else vectors.shape[1]
        costs[n] = m * (n * (0.25 if number == torch.bfloat16 else 1) + 9) + n * d + left * 100 * (dear + 100)
    return min(costs, key=costs.__getitem__)
