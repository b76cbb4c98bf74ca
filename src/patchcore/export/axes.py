"""Short forms of points along principal axes, for products in a graph, which cannot stop early."""

from __future__ import annotations

import torch
from torch import Tensor

from patchcore.maths.groups import principal_axes, rounding

_NUMBERS = (16, 24, 32, 48, 64, 96, 128)  # of axes to choose from


class ShortForms:
    """What points have along the first principal axes of rows (M, D), and the length of what these leave.

    Two short forms are never farther apart than their points, rounding aside.

    Attributes:
        centre: (D,), the mean of the rows; a shift changes no distance and makes products small.
        vectors: (D, axes), as many as make the cheapest search by products of short forms; none where a product of all
            coordinates is cheaper.
        share: What rounding can add to a squared distance of short forms, as a share of the two squared lengths.
    """

    def __init__(self, rows: Tensor) -> None:
        self.centre = rows.mean(0)
        centred = rows - self.centre
        # A short form is a product of all coordinates, and a bound one of short forms.
        self.share = 2 * rounding(2 * rows.shape[1])
        vectors = principal_axes(centred, max(_NUMBERS))
        self.vectors = vectors[:, : best_axes(centred, vectors, self.share)].contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """Points (n, D) -> (n, 1 + axes), what the axes leave first."""
        centred = x - self.centre
        along = centred @ self.vectors
        rest = torch.addmm(centred, along, self.vectors.T, alpha=-1)
        return torch.cat([rest.square().sum(1, keepdim=True).sqrt(), along], 1)


def best_axes(centred: Tensor, vectors: Tensor, share: float = 0.0) -> int:
    """How many of the axes (D, a) make the cheapest search among centred points (M, D); 0 is plain.

    By a count of the work, not by a clock, so that one machine always decides the same: on some of the points, the
    pairs that bounds would leave to measure, if the answer were at the squared distance of their nearest other point.
    The weights of the parts are measured figures.
    """
    m, d = centred.shape
    sample = centred[:: -(-m // 64)]
    own = torch.arange(len(sample), device=centred.device)
    apart = torch.cdist(sample, centred)
    apart[own, own * -(-m // 64)] = torch.inf
    limits = apart.amin(1).square()[:, None]
    short, full = sample @ vectors, centred @ vectors
    costs = {0: m * (d + 8.0)}
    for n in [n for n in _NUMBERS if n < d]:
        a, b = (
            torch.cat([s[:, :n], (x.square().sum(1) - s[:, :n].square().sum(1)).clamp(min=0).sqrt()[:, None]], 1)
            for x, s in ((sample, short), (centred, full))
        )
        bounds = torch.cdist(a, b).square() - share * (a.square().sum(1)[:, None] + b.square().sum(1))
        left = float((bounds <= limits).sum(1).double().mean())
        costs[n] = m * (n + 9) + n * d + left * 100 * (min(d, 512) + 100)
    return min(costs, key=costs.__getitem__)
