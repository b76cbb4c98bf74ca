"""Choosing the patches to remember: exact greedy k-center, random, and projections for selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from patchcore.errors import UsageError
from patchcore.maths.neighbours import Points, near_pairs, rounding, squared

Coreset = Literal["k_center", "merge", "random", "identity"]
Projection = Literal["none", "dense", "sparse"]
Start = Literal["first", "random", "mean_of_ten"]
Empty = Callable[[int, int, torch.dtype], Tensor]

_CANDIDATES = 2048
_BLOCK = 1 << 14  # rows at a time where all of them are visited
_SHARD = 1 << 18  # rows that `merged` chooses from at a time
_PART = 256  # candidates that are brought up to date together


def _empty(n: int, d: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(n, d, dtype=dtype)


def k_center_greedy(
    x: Tensor,
    n_picks: int,
    *,
    start: int | Tensor = 0,
    candidates: int = _CANDIDATES,
    on_progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Farthest-point-first selection (paper alg. 1): the exact greedy, without scanning.

    `x` is (N, D), any float type; returns `n_picks` distinct row indices in the order they were
    picked. `start` is the index of the first pick, or (N,) distances to points that count as
    picked already. Each pick is the row farthest from all picks so far, lowest index on ties.
    `on_progress` is called with the number of picks made.

    Why it is exact: minimum distances only shrink as picks are added, so an old one is an upper
    bound. Only the rows with the highest bounds, the candidates, are brought up to date, against
    the picks they have not seen. While the best of them exceeds every bound outside, no row outside
    can be the farthest. Short forms of rows and picks (see `neighbours`) tell in float32 which
    pairs could matter; those are settled in float64 from the coordinates. Every comparison between
    rows is therefore one of float64 distances, whatever the number of candidates or of axes, the
    block sizes or the number of threads.
    """
    n = len(x)
    if not 1 <= n_picks <= n:
        raise UsageError(f"n_picks is {n_picks}; it must be between 1 and the number of rows, {n}.")
    space = _Rows(x)
    picks = torch.empty(n_picks, dtype=torch.long, device=x.device)
    seen = torch.zeros(n, dtype=torch.int32, device=x.device)  # picks that a row's bound knows of
    if isinstance(start, Tensor):
        if start.shape != (n,):
            raise UsageError(f"start has shape {tuple(start.shape)}; expected ({n},) distances.")
        bounds = start.to(x.device, torch.float64).square()
        picks[0] = bounds.argmax()  # the lowest index on ties
    else:
        if not 0 <= start < n:
            raise UsageError(f"start is {start}; it must be a row index below {n}.")
        picks[0] = start
        bounds = space.upper_bounds(start)
    bounds[space.copies(bounds)] = 0.0  # what they have when their turn comes: that of their equal is before it
    bounds[picks[0]] = -1.0  # below every distance: never picked again
    count, prepared = 1, 0

    while count < n_picks:
        rows, outside, outside_row = _highest(bounds, min(candidates, n))
        local = space.centred(rows)
        if count >= 2 * prepared:  # the best axes change while the picks come closer to each other
            known = Points(space.centred(picks[:count]), None if count >= 256 else 0, capacity=n_picks)
            prepared = count
        forms = known.forms(local)
        values = space.refresh(rows, local, forms, bounds[rows], seen[rows], picks, known)
        short = forms[:, : known.width].contiguous()
        lengths, begin = short.square().sum(1), count
        slack = rounding(short.shape[1]) * 4 * lengths.max() + space.blur
        while count < n_picks:
            best = int(values.argmax())  # rows ascend, so this is the lowest index on ties
            value, row = float(values[best]), int(rows[best])
            if value < outside or (value == outside and row > outside_row):
                break
            if value == 0:  # all that are left equal a pick: they follow as they come, the lowest index first
                bounds[rows], left = values, n_picks - count
                picks[count:], count = (bounds >= 0).nonzero().flatten()[:left], n_picks
                break
            picks[count] = row
            count += 1
            values[best] = -1.0
            bound = torch.addmv(lengths, short, short[best], alpha=-2) + (lengths[best] - slack)
            near = ((bound < values) & (values > 0)).nonzero().flatten()  # what equals a pick stays at 0
            values[near] = torch.minimum(values[near], space.exact(rows[near], rows[best : best + 1]))
        if begin < count < n_picks:
            known.append(space.centred(picks[begin:count]))
        bounds[rows], seen[rows] = values, count
        if on_progress is not None:
            on_progress(count)
    return picks


def _highest(bounds: Tensor, m: int) -> tuple[Tensor, float, int]:
    """The m rows of highest bound, in ascending order, lowest index first among equals.

    Also the highest bound that is left outside, and the lowest row that has it.
    """
    if m == len(bounds):
        return torch.arange(m, device=bounds.device), -torch.inf, m
    edge = bounds.topk(m + 1, sorted=False).values.min()
    above = (bounds > edge).nonzero().flatten()
    ties = (bounds == edge).nonzero().flatten()
    taken = m - len(above)
    return torch.cat([above, ties[:taken]]).sort().values, float(edge), int(ties[taken])


class _Rows:
    """The rows of x, with float32 distances that know their own error, and float64 ones."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        # Distances do not change when the centre is moved to 0, and their products become small.
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.centre = torch.stack([b.to(wide).sum(0) for b in x.split(_BLOCK)]).sum(0) / len(x)
        # What the rounding of centred coordinates can change in a squared distance.
        longest = torch.stack([self._shift(b).square().sum(1).max() for b in x.split(_BLOCK)]).max()
        self.blur = float(rounding(0) * 4 * longest)

    def centred(self, rows: Tensor) -> Tensor:
        """Rows by index, float32, about the centre."""
        return self._shift(self.x[rows])

    def _shift(self, block: Tensor) -> Tensor:
        return (block.to(self.centre.dtype) - self.centre).float()

    def upper_bounds(self, row: int) -> Tensor:
        """Upper bounds on the squared distances of all rows to one of them, in float64."""
        target = self.centred(torch.tensor([row], device=self.x.device))
        blocks = [squared(self._shift(block), target) for block in self.x.split(_BLOCK)]
        return torch.cat(blocks).double() * (1 + rounding(self.x.shape[1])) + self.blur

    def copies(self, bounds: Tensor) -> Tensor:
        """Rows that equal an earlier one, and have its bound; most of them, if there are many.

        Black borders and exposures of a fixed scene give thousands, which would crowd the candidates.
        """
        if len(bounds.unique()) > 0.9 * len(bounds):
            return bounds.new_empty(0, dtype=torch.long)
        weights = torch.randn(self.x.shape[1], generator=torch.Generator().manual_seed(0)).to(self.x.device)
        keys = torch.cat([(self._shift(b) * weights).sum(1) for b in self.x.split(_BLOCK)])
        keys, order = keys.sort(stable=True)
        repeats = torch.cat([keys[:1] != keys[:1], keys[1:] == keys[:-1]])
        firsts = order[(~repeats).nonzero().flatten()[(~repeats).cumsum(0) - 1]]
        pairs = zip(order[repeats].split(_BLOCK), firsts[repeats].split(_BLOCK), strict=True)
        equal = [a[(self.x[a] == self.x[b]).all(1) & (bounds[a] == bounds[b])] for a, b in pairs]
        return torch.cat([order[:0], *equal])

    def exact(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distances between rows a and b, pair by pair, from float64 coordinates."""
        step = max(1, (1 << 19) // self.x.shape[1])
        b = b.expand(len(a))
        return torch.cat(
            [
                (self.x[i].double() - self.x[j].double()).square_().sum(1)
                for i, j in zip(a.split(step), b.split(step), strict=True)
            ]
        )

    def refresh(
        self, rows: Tensor, local: Tensor, forms: Tensor, bounds: Tensor, seen: Tensor, picks: Tensor, known: Points
    ) -> Tensor:
        """Exact squared distances of `rows` to their nearest pick, given bounds that know the first `seen` of them."""
        values, error = bounds.clone(), 1 + 3 * rounding(self.x.shape[1])
        for part in seen.argsort().split(_PART):  # rows that have seen as much go together
            first = int(seen[part[0]])
            if first == known.count:
                break  # these rows, and all that follow, have seen every pick
            limits = bounds[part].float() + self.blur
            i, j, distances = near_pairs(local[part], forms[part], known, limits=limits, first=first)
            best = limits.scatter_reduce(0, i, distances, "amin")
            near = distances <= best[i] * error + 3 * self.blur
            i, j = i[near], j[near]
            values.scatter_reduce_(0, part[i], self.exact(rows[part[i]], picks[j]), "amin")
        return values


def random_subset(n: int, n_picks: int, seed: int) -> Tensor:
    """`n_picks` of n indices, drawn without replacement, ascending."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator)[:n_picks].sort().values


def project(x: Tensor, kind: Projection, dims: int, seed: int, empty: Empty = _empty) -> Tensor:
    """(N, D) -> (N, d), a random projection used to select only; the bank keeps the originals.

    `dense`: uniform weights in ±1/sqrt(D), `dims` outputs, skipped when D is `dims` already
    (patchcore-inspection). `sparse`: Johnson-Lindenstrauss with eps 0.9, whose number of outputs
    follows from N (Li et al. 2006; anomalib), skipped when D is no larger; `dims` has no effect.
    Products in float64, rounded to float32: the same in whatever order they have been summed.
    """
    from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim  # half a second

    n, d = x.shape
    if kind == "dense" and d != dims:
        generator = torch.Generator().manual_seed(seed)
        weights = (torch.rand(d, dims, generator=generator) * 2 - 1) / d**0.5
    elif kind == "sparse" and (dims := int(johnson_lindenstrauss_min_dim(n, eps=0.9))) < d:
        projection = SparseRandomProjection(dims, random_state=seed).fit(np.zeros((1, d)))
        weights = torch.from_numpy(projection.components_.toarray().T).float()
    else:
        return x
    weights = weights.to(x.device, torch.float64)
    projected = empty(n, weights.shape[1], torch.float32).to(x.device)
    for begin in range(0, n, _BLOCK):
        projected[begin : begin + _BLOCK] = x[begin : begin + _BLOCK].double() @ weights
    return projected


def starting_point(x: Tensor, start: Start, seed: int) -> int | Tensor:
    """What `k_center_greedy` starts from.

    `first` is row 0, `random` a random row. `mean_of_ten` is no pick but an initial distance for
    every row: its mean distance to ten random rows, which are not picks (patchcore-inspection).
    """
    if start == "first":
        return 0
    if start == "random":
        return int(torch.randint(len(x), (1,), generator=torch.Generator().manual_seed(seed)))
    return mean_distances(x, 10, seed)


def mean_distances(x: Tensor, points: int, seed: int) -> Tensor:
    """The mean distance (N,), float64, of each row of x (N, D) to `points` of the rows, drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = x[torch.randperm(len(x), generator=generator)[:points].to(x.device)].double()
    return torch.cat([torch.cdist(block.double(), drawn).mean(1) for block in x.split(_BLOCK)])


def select(
    x: Tensor,
    n_picks: int,
    *,
    method: Coreset,
    projection: Projection,
    projection_dims: int,
    start: Start,
    seed: int,
    projection_from: int = 1,
    on_progress: Callable[[int], object] | None = None,
    empty: Empty = _empty,
) -> Tensor:
    """The indices of the rows of x (N, D) to remember, by any of the methods above.

    Rows of fewer than `projection_from` values are not projected. `empty` makes the tensor that
    holds a projection, from its shape and type.
    """
    n_picks = min(n_picks, len(x))
    if method == "identity" or n_picks == len(x):
        return torch.arange(len(x), device=x.device)
    if method == "random":
        return random_subset(len(x), n_picks, seed).to(x.device)
    projected = project(x, projection, projection_dims, seed, empty) if x.shape[1] >= projection_from else x
    if method == "merge":
        return merged(projected, n_picks, on_progress)
    begin = starting_point(projected, start, seed)
    return k_center_greedy(projected, n_picks, start=begin, on_progress=on_progress)


def merged(x: Tensor, n_picks: int, on_progress: Callable[[int], object] | None = None, shard: int = _SHARD) -> Tensor:
    """Greedy k-center over shards of x (N, D), and then over what the shards gave; (n_picks,) indices.

    Every row is within the shards' largest radius plus the last selection's radius of a pick. Both
    are at most twice the smallest radius that so many picks can have, so the whole is within four
    times of it, where the greedy over all rows is within twice (Malkomes et al., NeurIPS 2015).
    """
    shard = max(shard, 2 * n_picks)
    found = []
    for begin in range(0, len(x), shard):
        part = x[begin : begin + shard]
        found.append(begin + k_center_greedy(part, min(n_picks, len(part))))
    union = torch.cat(found)
    return union[k_center_greedy(x[union], n_picks, on_progress=on_progress)]
