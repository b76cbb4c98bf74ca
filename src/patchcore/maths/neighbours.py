"""Exact nearest points: by groups that bounds rule out on the processor, by products of all pairs elsewhere."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from patchcore.maths.groups import Groups, rounding
from patchcore.maths.threads import by_threads

_CELLS = 1 << 21  # products at a time: 8 MB stay in the cache
_GROUP = 64  # points whose highest product stands for all of them
_SPARE = 15  # rows that may be as near as the k nearest, rounding included; beyond these all rows are compared
_AT_ONCE = 128  # queries: more than the threads have, so that one that is held up does not hold up the rest
_FEW = 1 << 32  # coordinates times pairs, about a third of a second: until then sorting and compiling do not pay


class Points:
    """Points (M, D), float32, prepared to be searched.

    On the processor they are sorted into groups once more than `few` has been searched, in coordinates times pairs.
    """

    def __init__(self, rows: Tensor, few: int = _FEW) -> None:
        self.rows, self._few = rows, few
        self._searched = 0

    @cached_property
    def groups(self) -> Groups:
        """The points in groups."""
        return Groups(self.rows.detach())

    @cached_property
    def sorted_rows(self) -> Tensor:
        """The points in the groups' order."""
        return self.rows.detach()[torch.from_numpy(self.groups.order)]

    @cached_property
    def centre(self) -> Tensor:
        """(D,), the mean of the points: a shift changes no distance and makes products small."""
        return self.rows.mean(0)

    @cached_property
    def lengths(self) -> Tensor:
        """Half the squared lengths of the points, from their centre."""
        return (self.rows - self.centre).square().sum(1) / 2

    def grouped(self, queries: int) -> bool:
        """Whether so many queries more are best looked for in groups."""
        self._searched += queries * self.rows.numel()
        return self.rows.device.type == "cpu" and self._searched > self._few


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of (..., D) points. |a|² - 2ab + |b|² in float32 would be off by several 1e-2
    at a true distance of zero, and a good part is exactly that case."""
    return (a - b).square_().sum(-1)


def nearest(queries: Tensor, points: Points, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest points for each of `queries` (N, D), by Euclidean distance.

    Returns distances (N, k), ascending, and the points' indices (N, k); of equal distances the
    lower index comes first. Fewer than k points: all of them. A query that holds a value that is
    no number, or an infinite one, is at distance NaN from the first k points.
    """
    k = min(k, len(points.rows))
    finite = (queries - points.rows[:1]).square().sum(1, keepdim=True).isfinite()
    if not finite.all():
        distances, rows = nearest(torch.where(finite, queries, points.rows[:1]), points, k)
        return distances.where(finite, torch.nan), rows.where(finite, torch.arange(k, device=rows.device))
    i, j = _grouped(queries, points, k) if points.grouped(len(queries)) else _plain(queries, points, k)
    distances = _of_pairs(queries, i, points.rows, j)
    if k == 1:
        least = distances.new_full((len(queries),), torch.inf).scatter_reduce_(0, i, distances, "amin")
        best = distances == least[i]
        rows = j.new_full((len(queries),), len(points.rows)).scatter_reduce_(0, i[best], j[best], "amin")
        return least[:, None].sqrt(), rows[:, None]
    order = j.sort(stable=True).indices
    order = order[distances[order].sort(stable=True).indices]
    order = order[i[order].sort(stable=True).indices]  # query by query, nearest first, of these the lowest index
    first = torch.searchsorted(i[order], torch.arange(len(queries), device=i.device))
    picks = order[first[:, None] + torch.arange(k, device=i.device)]
    return distances[picks].sqrt(), j[picks]


def _grouped(queries: Tensor, points: Points, k: int) -> tuple[Tensor, Tensor]:
    """Pairs of a query and a point that may be among its k nearest: indices (P,) of both."""
    from patchcore.maths.kernels import candidates  # compiled when it is first used

    groups = points.groups
    forms, lengths = groups.of(queries.detach())
    slack, direct = groups.slack(lengths), 1 + rounding(queries.shape[1])
    own, rows = queries.detach().contiguous().numpy(), points.sorted_rows.numpy()
    found, counts = np.empty((len(queries), k + _SPARE), np.int64), np.empty(len(queries), np.int64)

    def search(part: slice) -> None:
        candidates(
            own[part], forms[part], groups.forms, groups.boxes, rows, slack[part], direct, k,
            found[part], counts[part],
        )  # fmt: skip

    threads = torch.get_num_threads()
    step = _AT_ONCE if threads > 1 else max(1, len(queries))
    by_threads(search, [slice(b, b + step) for b in range(0, len(queries), step)], threads)
    inside = np.arange(found.shape[1]) < counts[:, None]
    i, j = torch.from_numpy(np.nonzero(inside)[0]), torch.from_numpy(groups.order[found[inside]])
    many = torch.from_numpy(np.flatnonzero(counts < 0))  # rows that are equal, most likely
    if len(many):
        more, others = _plain(queries[many], points, k)
        i, j = torch.cat([i, many[more]]), torch.cat([j, others])
    return i, j


def _plain(queries: Tensor, points: Points, k: int) -> tuple[Tensor, Tensor]:
    """The same by products of all pairs."""
    step = max(1, _CELLS // len(points.rows))
    centred = points.rows - points.centre
    parts = [_products(block, points, centred, k) for block in queries.split(step)]
    i = torch.cat([own + number * step for number, (own, _) in enumerate(parts)])
    return i, torch.cat([j for _, j in parts])


def _products(queries: Tensor, points: Points, centred: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Half the squared distances come from one product, in which half the squared lengths are columns too."""
    rows, own_centred = points.rows, queries - points.centre
    m, d = rows.shape
    own = own_centred.square().sum(1, keepdim=True) / 2
    half = torch.addmm(own + points.lengths, own_centred, centred.T, alpha=-1)
    group = _GROUP if m > 4 * k * _GROUP else 1
    groups = F.pad(half, (0, -m % group), value=torch.inf).unflatten(1, (-1, group))
    lowest = groups.amin(2)
    likely = lowest.topk(k, largest=False).indices  # one point of each of these groups is measured
    within = groups.gather(1, likely[:, :, None].expand(-1, -1, group)).argmin(2)
    limits = squared(queries[:, None], rows[likely * group + within]).amax(1) * (1 + rounding(d))
    highest = limits / 2 + rounding(2 * d) * (own[:, 0] + points.lengths.max())
    i, g = (lowest <= highest[:, None]).nonzero().T
    hit, within = (groups[i, g] <= highest[i, None]).nonzero().T
    return i[hit], g[hit] * group + within


def _of_pairs(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Tensor:
    """Squared distances of a[i] and b[j], some thousand at a time."""
    few = max(1, (1 << 18) // a.shape[1])
    return torch.cat([squared(a[m], b[n]) for m, n in zip(i.split(few), j.split(few), strict=True)])
