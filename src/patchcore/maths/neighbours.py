"""Exact nearest bank rows of a set of patches."""

from __future__ import annotations

import torch
from torch import Tensor

_CELLS = 1 << 22  # entries of one block of the distance matrix: 16 MB, about a cache's worth
_SPARE = 2  # extra candidates, so that rounding in the product cannot lose a true neighbour


def nearest(queries: Tensor, bank: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest rows of `bank` (M, D) for each of `queries` (N, D), by Euclidean distance.

    Returns distances (N, k), ascending, and row indices (N, k). A matrix product finds candidates;
    their distances are then computed directly, because |q|² - 2q·b + |b|² in float32 is off by
    several 1e-2 at a true distance of zero, and a good part is exactly that case. Distances are thus
    right to rounding; of rows whose products differ by less than float32 rounding, either may be given.
    """
    k = min(k, len(bank))
    centre = bank.mean(0)  # a shift changes no distance and makes the products small
    bank_c = bank - centre
    half_norms = bank_c.square().sum(1) / 2
    candidates = min(k + _SPARE, len(bank)) if k > 1 else 1
    distances, rows = [], []
    for block in queries.split(max(1, _CELLS // len(bank))):
        products = torch.addmm(half_norms, block - centre, bank_c.T, alpha=-1)  # |b|²/2 - q·b
        if candidates == 1:
            found = products.argmin(1, keepdim=True)
        else:
            found = products.topk(candidates, dim=1, largest=False).indices
        exact = (block[:, None] - bank[found]).square().sum(2).sqrt()  # n, candidates
        best = exact.sort(dim=1, stable=True)
        distances.append(best.values[:, :k])
        rows.append(found.gather(1, best.indices[:, :k]))
    return torch.cat(distances), torch.cat(rows)
