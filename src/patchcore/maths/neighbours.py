"""Exact nearest points: plain where that is fastest, by bounds where they rule most points out.

Why bounds are exact: rotate all points to the principal axes of some of them. The coordinates on
the first axes, and the length of what they leave, are a point's short form; and two short forms are
never farther apart than their points: along the axes nothing changes, and two lengths differ by no
more than the vectors do. So a point whose short form is farther away than some point that has been
measured cannot be nearer than that one. Products of short forms bound all distances, and only the
pairs that a bound does not rule out, rounding errors included, are measured, coordinate by
coordinate. The plain search is the case of all axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


def fastest_number(device: torch.device) -> torch.dtype:
    """bfloat16 on a processor that multiplies in it, else float32."""
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else torch.float32


def rounding(terms: int) -> float:
    """The relative error of a squared distance that comes from a float32 product of so many terms.

    A dot product of n terms is off by at most n units in the last place of |a||b|, in any order of
    summation; a squared distance needs three of them, and some steps before. The unit is larger
    where the caller has allowed float32 products in fewer bits.
    """
    return 2.0 * (terms + 8) * 2.0 ** -_bits()


def _bits() -> int:
    """How many bits of a float32 the products keep."""
    try:
        return {"highest": 24, "high": 11, "medium": 8}[torch.get_float32_matmul_precision()]
    except RuntimeError:  # set for some kind of device on its own, which torch does not put into one word
        cpu = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
        return min({"tf32": 11, "bf16": 8}.get(p, 24) for p in (cpu, torch.backends.cuda.matmul.fp32_precision))


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


_CELLS = 1 << 21  # bounds at a time: 8 MB stay in the cache
_GROUP = 64  # points whose lowest bound stands for all of them


class Points:
    """Points (M, D), float32, prepared to be searched, with room for more up to `capacity`.

    `axes` is the number of principal axes in the short forms: `best_axes` chooses it if it is
    None, for queries whose squared distances are `margin` times those among the points; 0 is the
    plain search. `number` is what bounds are multiplied in: bfloat16, a quarter of the work, where
    the processor has it, else float32. Its rounding counts as slack.
    """

    def __init__(
        self,
        rows: Tensor,
        axes: int | None = None,
        *,
        capacity: int = 0,
        number: torch.dtype | None = None,
        margin: float = 1.0,
    ) -> None:
        self.centre = rows.mean(0)  # a shift changes no distance and makes the products small
        centred, d = rows - self.centre, rows.shape[1]
        self.number = number or fastest_number(rows.device)
        vectors = principal_axes(centred) if axes != 0 else centred[:0].T
        # What rounding can add to a squared distance between short forms, as a share of the two
        # squared lengths. A short form is a product of all coordinates, and a bound one of short forms.
        self.exact_share = 2 * rounding(2 * d)
        self.share = self.exact_share + (1.02 * 2.0**-7 if self.number == torch.bfloat16 else 0)
        self.axes = best_axes(centred, vectors, self.share, self.number, margin) if axes is None else axes
        if not self.axes:
            self.number, self.share = torch.float32, self.exact_share
        # Where measuring a pair is dear, more axes rule out some of those that the short forms leave.
        self.vectors = vectors if self.axes and d >= TWO_STAGES else vectors[:, : self.axes].contiguous()
        self.width = self.axes + 1 if self.axes else d  # of a short form
        capacity = max(capacity, len(rows))
        self.group = _GROUP if capacity > 16 * _GROUP else 1
        whole = -(-capacity // self.group) * self.group
        self.rows = rows if capacity == len(rows) else rows.new_empty(capacity, d)
        self.along = rows.new_zeros(capacity, self.vectors.shape[1])
        self.lengths = rows.new_zeros(capacity)  # squared, of the short forms
        self.factors = self._factors(rows.new_zeros(whole, self.width), rows.new_full((whole,), torch.inf), -1)
        self.count = 0
        self.append(rows)

    def append(self, rows: Tensor) -> None:
        """Add points (n, D)."""
        new = slice(self.count, self.count + len(rows))
        forms = self.forms(rows)
        short = forms[:, : self.width]
        self.rows[new], self.lengths[new] = rows, short.square().sum(1)
        if self.axes:
            self.along[new] = forms[:, 1:]
        self.factors[new] = self._factors(short, self.lengths[new] * (1 - self.share) / 2, -1)
        self.count = new.stop
        if "plain" in self.__dict__:
            self.plain.append(rows)

    def _factors(self, short: Tensor, half: Tensor, sign: int) -> Tensor:
        """What is multiplied to half the squared distances of short forms, less slack.

        |q|²/2 and |b|²/2 are columns of the product too, so that the results are small where the
        distances are, and so are their errors. In bfloat16 they need two columns each.
        """
        high = half.to(self.number)
        low = torch.where(half.isinf(), 0, half - high.float()).to(self.number)
        ends = [high, low] if self.number == torch.bfloat16 else [high]
        ones = [torch.ones_like(high)] * len(ends)
        columns = [*ends, *ones] if sign > 0 else [*ones, *ends]
        factors = torch.cat([sign * short.to(self.number), torch.stack(columns, 1)], 1)
        return torch.nn.functional.pad(factors, (0, -factors.shape[1] % 16))  # rows begin where caches do

    def bounds(self, forms: Tensor, columns: slice) -> Callable[[slice], Tensor]:
        """Half the squared distances, at least, of queries' short forms to some of the points' (see `ranks`)."""
        short = forms[:, : self.width]
        left = self._factors(short, short.square().sum(1) * (1 - self.share) / 2, 1)
        right = self.factors[columns].T
        buffer = left.new_empty(min(len(left), _step(len(left), right.shape[1])), right.shape[1])

        def of(part: slice) -> Tensor:
            return self.ranks(torch.mm(left[part], right, out=buffer[: len(left[part])]))

        return of

    def ranks(self, values: Tensor) -> Tensor:
        """Numbers that compare as `values` do. The bits of a bfloat16 from 0 on are in order, and
        those of the others below them: comparing integers is faster."""
        return values.view(torch.int16) if values.dtype == torch.bfloat16 else values

    def rank_of_limits(self, limits: Tensor) -> Tensor:
        """The highest ranks that bounds of pairs within squared distances can have."""
        if self.number == torch.float32:
            return limits / 2
        return self.ranks((limits / 2 * (1 + 1.02 * 2.0**-7)).to(torch.bfloat16))  # both may have been rounded

    def forms(self, x: Tensor) -> Tensor:
        """Points (n, D) -> what their coordinates along the first axes leave, and those along all axes.

        The first `width` columns are the short forms. If plain, the D centred coordinates.
        """
        x = x - self.centre
        if not self.axes:
            return x
        along = x @ self.vectors
        rest = torch.addmm(x, along[:, : self.axes], self.vectors[:, : self.axes].T, alpha=-1)
        return torch.cat([rest.square_().sum(1, keepdim=True).sqrt_(), along], 1)

    @cached_property
    def plain(self) -> Points:
        """The same points without axes, for queries that the bounds do not serve."""
        return Points(self.rows[: self.count], 0, capacity=len(self.rows))


def _step(queries: int, points: int) -> int:
    """How many queries at a time: all blocks alike, since a product of few rows takes as long as one of many."""
    blocks = round(queries / max(16, _CELLS // points))
    return max(1, -(-queries // max(1, blocks)))


def near_pairs(
    queries: Tensor, forms: Tensor, points: Points, k: int = 1, *, limits: Tensor | None = None, first: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair of a query and a point that may be among the query's k nearest.

    `queries` (N, D), and `forms`, what `points.forms` makes of them; `limits` (N,): squared
    distances beyond which no point matters; `first`: points before it need not be looked at.
    Returns the indices of queries and of points, ascending, and the squared distances of those
    pairs, each (P,). Pairs within rounding of what was asked for are there too.
    """
    group = points.group if points.count - first > 4 * k * points.group else 1
    first -= first % group
    columns = slice(first, -(-points.count // group) * group)
    bounds_of = points.bounds(forms, columns)
    direct = 1 + rounding(queries.shape[1])  # of distances that are summed up coordinate by coordinate
    step, found = _step(len(queries), columns.stop - columns.start), []
    for begin in range(0, len(queries), step):
        part = slice(begin, begin + step)
        groups = bounds_of(part).unflatten(1, (-1, group))
        lowest = groups.amin(2)
        likely = lowest.topk(k, largest=False).indices  # one point of each of these groups is measured
        within = groups.gather(1, likely[:, :, None].expand(-1, -1, group)).argmin(2)
        limit = squared(queries[part][:, None], points.rows[likely * group + within + first]).amax(1)
        if limits is not None:
            limit = torch.minimum(limit, limits[part])
        limit = limit * direct
        highest = points.rank_of_limits(limit)
        i, g = (lowest <= highest[:, None]).nonzero().T
        if points.axes and len(i) * group > groups.numel() // 4:  # these bounds rule out too little
            rest, limits = queries[begin:], limits if limits is None else limits[begin:]
            plain = points.plain
            i, j, distances = near_pairs(rest, plain.forms(rest), plain, k, limits=limits, first=first)
            found.append((i + begin, j, distances))
            break
        hit, within = (groups[i, g] <= highest[i, None]).nonzero().T
        i, j = i[hit], g[hit] * group + within + first
        if points.vectors.shape[1] > points.axes:
            lengths = forms[part, : points.width].square().sum(1)[i] + points.lengths[j]
            near = _of_pairs(forms[part, 1:], i, points.along, j) <= limit[i] + points.exact_share * lengths
            i, j = i[near], j[near]
        found.append((i + begin, j, _of_pairs(queries[part], i, points.rows, j)))
    i, j, distances = (torch.cat(parts) for parts in zip(*found, strict=True))
    return i, j, distances


def _of_pairs(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Tensor:
    """Squared distances of a[i] and b[j], some thousand at a time."""
    few = max(1, (1 << 18) // a.shape[1])
    return torch.cat([squared(a[m], b[n]) for m, n in zip(i.split(few), j.split(few), strict=True)])


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
    k = min(k, points.count)
    # So many at a time that the pairs fit in memory even if no bound rules any of them out.
    blocks = [_nearest(block, points, k) for block in queries.split(_step(len(queries), points.count))]
    return torch.cat([block[0] for block in blocks]), torch.cat([block[1] for block in blocks])


def _nearest(queries: Tensor, points: Points, k: int) -> tuple[Tensor, Tensor]:
    forms = points.forms(queries)
    finite = forms.isfinite().all(1, keepdim=True)
    if not finite.all():
        distances, rows = _nearest(torch.where(finite, queries, points.centre), points, k)
        return distances.where(finite, torch.nan), rows.where(finite, torch.arange(k, device=rows.device))
    i, j, distances = near_pairs(queries, forms, points, k)
    if k == 1:
        least = distances.new_full((len(queries),), torch.inf).scatter_reduce_(0, i, distances, "amin")
        best = distances == least[i]
        rows = j.new_full((len(queries),), points.count).scatter_reduce_(0, i[best], j[best], "amin")
        return least[:, None].sqrt(), rows[:, None]
    order = distances.sort(stable=True).indices
    order = order[i[order].sort(stable=True).indices]  # query by query, nearest first
    first = torch.searchsorted(i, torch.arange(len(queries), device=i.device))
    picks = order[first[:, None] + torch.arange(k, device=i.device)]
    return distances[picks].sqrt(), j[picks]
