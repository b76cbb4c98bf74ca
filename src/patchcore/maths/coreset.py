"""Choosing the patches to remember: exact greedy k-center, random, and projections for selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchcore.errors import UsageError
from patchcore.maths.groups import Empty, Groups, in_memory
from patchcore.maths.threads import by_threads

Coreset = Literal["k_center", "merge", "random", "identity"]
Projection = Literal["none", "dense", "sparse"]
Start = Literal["first", "random", "mean_of_ten"]

BLOCK = 1 << 14  # rows at a time where all of them are visited
_SHARD = 1 << 18  # rows that `merged` chooses from at a time
_AT_ONCE = 64  # groups that are brought up to date together
_TELL = 64  # picks between two words on progress


class Selection(NamedTuple):
    """How rows are chosen; see `select`."""

    method: Coreset
    start: Start
    seed: int
    projection: Projection
    projection_dims: int


def k_center_greedy(
    x: Tensor,
    n_picks: int,
    *,
    start: int | Tensor = 0,
    on_progress: Callable[[int], object] | None = None,
    empty: Empty = in_memory,
) -> Tensor:
    """Farthest-point-first selection (paper alg. 1): the exact greedy, without scanning.

    `x` is (N, D), any float type; returns `n_picks` distinct row indices in the order they were
    picked. `start` is the index of the first pick, or (N,) distances to points that count as
    picked already. Each pick is the row farthest from all picks so far, lowest index on ties.
    `on_progress` is called with the number of picks made; `empty` makes the tensor that holds short forms of the rows.
    """
    return Greedy(x, empty).picks(n_picks, start, on_progress=on_progress)


class Greedy:
    """Exact greedy selections from rows x (N, D); several may share its groups.

    Why it is exact: minimum distances only shrink as picks are added, so an old one is an upper
    bound. Rows lie in groups (see `groups`), and only those groups that have the highest bounds are brought up to date,
    against the picks they have not seen. While the best of their rows exceeds every bound outside, no row outside can
    be the farthest. Short forms tell in float32 which pairs could matter; those are settled in float64 from the
    coordinates. Every comparison between rows is therefore one of float64 distances, whatever the groups or the number
    of threads.
    """

    def __init__(self, x: Tensor, empty: Empty = in_memory) -> None:
        self.x = x.detach().contiguous()
        self._groups = Groups(self.x, empty) if x.device.type == "cpu" else None

    def picks(
        self,
        n_picks: int,
        start: int | Tensor = 0,
        *,
        among: Tensor | None = None,
        on_progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Indices as `k_center_greedy` returns them; `among`: (N,) bool, the rows that there are to choose from."""
        n, told = len(self.x), on_progress or (lambda _: None)
        count = n if among is None else int(among.sum())
        if not 1 <= n_picks <= count:
            raise UsageError(f"n_picks is {n_picks}; it must be between 1 and the number of rows, {count}.")
        if isinstance(start, Tensor):
            if start.shape != (n,):
                raise UsageError(f"start has shape {tuple(start.shape)}; expected ({n},) distances.")
            squares = start.detach().double().square()
        else:
            if not 0 <= start < n or (among is not None and not among[start]):
                raise UsageError(f"start is {start}; it must be the index of one of the {count} rows.")
            squares = torch.full((n,), torch.inf, dtype=torch.float64)
        if among is not None:
            squares = torch.where(among.to(squares.device), squares, -1.0)  # below every distance: never picked
        first = int(squares.argmax()) if isinstance(start, Tensor) else start  # the lowest index on ties
        if self._groups is None:
            return _scanned(self.x, n_picks, first, squares.to(self.x.device), told)
        return _by_groups(self.x, self._groups, n_picks, first, squares, told)


def _scanned(x: Tensor, n_picks: int, first: int, squares: Tensor, told: Callable[[int], object]) -> Tensor:
    """Every row is compared with every pick, which an accelerator does faster than anything else."""
    picks = torch.empty(n_picks, dtype=torch.long, device=x.device)
    for count in range(n_picks):
        picks[count] = first if count == 0 else squares.argmax()
        new = x[picks[count]].double()
        apart = [(block.double() - new).square().sum(1) for block in x.split(BLOCK)]
        squares = torch.minimum(squares, torch.cat(apart))
        squares[picks[: count + 1]] = -1.0  # below every distance: never picked again
        if (count + 1) % _TELL == 0 or count + 1 == n_picks:
            told(count + 1)
    return picks


def _by_groups(
    x: Tensor, groups: Groups, n_picks: int, first: int, squares: Tensor, told: Callable[[int], object]
) -> Tensor:
    from patchcore.maths.kernels import bring_up, farthest, first_rows, pick  # compiled when they are first used
    from patchcore.maths.vectors import GROUP

    n, threads = len(x), torch.get_num_threads()
    count = groups.forms.shape[1]  # of groups
    order, slack = np.full(count * GROUP, n), np.zeros(count * GROUP + 1, np.float32)
    order[:n], slack[:n] = groups.order, groups.slack(groups.lengths)
    slack[-1] = slack.max()
    bounds, highest, seen = np.full(count * GROUP, -1.0), np.full(count, np.inf), np.zeros(count, np.int64)
    bounds[:n] = squares.numpy()[groups.order]
    picks, forms = np.empty(n_picks, np.int64), np.empty((n_picks, *groups.of(x[:1])[0].shape[1:]), np.float32)
    at = int(np.flatnonzero(order == first)[0])
    picks[0], bounds[at], forms[0], made = first, -1.0, groups.forms[:, at // GROUP, :, at % GROUP], 1
    picked = np.empty((n_picks, x.shape[1]))
    picked[0] = x[first].double().numpy()

    numbers = x.view(torch.uint16) if x.dtype == torch.float16 else x.float() if x.dtype == torch.bfloat16 else x
    own = numbers.numpy(), order, picked, forms, groups.forms, groups.lows, groups.highs, slack, bounds, highest, seen

    def update(which: NDArray[np.int64]) -> None:
        bring_up(which, made, *own)

    by_threads(update, np.array_split(np.arange(count), 16 * threads), threads)
    while made < n_picks:
        some, outside = np.arange(count), np.empty(0, np.int64)
        if count > _AT_ONCE:
            # Those with the highest bounds, and of equal ones the first rows, are brought up to date; the next one is
            # the highest that is not.
            edge = np.partition(highest, count - _AT_ONCE - 1)[count - _AT_ONCE - 1]
            some = np.flatnonzero(highest >= edge)
            some = some[np.lexsort((first_rows(some, order, bounds, highest), -highest[some]))]
            some, outside = some[:_AT_ONCE], some[_AT_ONCE : _AT_ONCE + 1]
        by_threads(update, np.array_split(some, 4 * threads), threads)
        limit, first, _ = farthest(outside, order, bounds, highest)
        made = pick(some, limit, first, made, picks, *own)
        value, row, _ = farthest(some, order, bounds, highest)
        if value == 0 and (limit < 0 or (limit == 0 and row < first)):
            # All that are left equal a pick: they follow as they come, the lowest index first.
            picks[made:] = np.sort(order[bounds == 0])[: n_picks - made]
            made = n_picks
        told(made)
    return torch.from_numpy(picks)


def random_subset(n: int, n_picks: int, seed: int) -> Tensor:
    """`n_picks` of n indices, drawn without replacement, ascending."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator)[:n_picks].sort().values


def project(
    x: Tensor, kind: Projection, dims: int, seed: int, empty: Empty = in_memory, total: int | None = None
) -> Tensor:
    """(N, D) -> (N, d), a random projection used to select only; the bank keeps the originals.

    `dense`: uniform weights in ±1/sqrt(D), `dims` outputs, skipped when D is `dims` already
    (patchcore-inspection). `sparse`: Johnson-Lindenstrauss with eps 0.9, whose number of outputs
    follows from N, or from `total` where x are some of so many rows (Li et al. 2006; anomalib), skipped when D is no
    larger; `dims` has no effect. Products in float64, rounded to float32: the same in whatever order they are summed.
    """
    n = len(x)
    weights = projection_weights(total or n, x.shape[1], kind, dims, seed)
    if weights is None:
        return x
    weights = weights.to(x.device, torch.float64)
    projected = empty(n, weights.shape[1], torch.float32).to(x.device)
    for begin in range(0, n, BLOCK):
        projected[begin : begin + BLOCK] = x[begin : begin + BLOCK].double() @ weights
    return projected


def projection_weights(n: int, d: int, kind: Projection, dims: int, seed: int) -> Tensor | None:
    """What `project` multiplies n rows of d values with, (d, dims), or None if it leaves them as they are."""
    from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim  # half a second

    if kind == "dense" and d != dims:
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(d, dims, generator=generator) * 2 - 1) / d**0.5
    if kind == "sparse" and (dims := int(johnson_lindenstrauss_min_dim(n, eps=0.9))) < d:
        projection = SparseRandomProjection(dims, random_state=seed).fit(np.zeros((1, d)))
        return torch.from_numpy(projection.components_.toarray().T).float()
    return None


def starting_point(x: Tensor, start: Start, seed: int, among: Tensor | None = None) -> int | Tensor:
    """What `k_center_greedy` starts from, of the rows of x (N, D), or of those that `among` (N,) names.

    `first` is the first row, `random` a random row. `mean_of_ten` is no pick but an initial distance for
    every row: its mean distance to ten random rows, which are not picks (patchcore-inspection).
    """
    if start == "mean_of_ten":
        return mean_distances(x, 10, seed, among)
    count = len(x) if among is None else int(among.sum())
    drawn = int(torch.randint(count, (1,), generator=torch.Generator().manual_seed(seed))) if start == "random" else 0
    return drawn if among is None else int(among.nonzero()[drawn, 0])


def mean_distances(x: Tensor, points: int, seed: int, among: Tensor | None = None) -> Tensor:
    """The mean distance (N,), float64, of each row of x (N, D) to `points` of the rows, drawn from the seed."""
    drawn = x[drawn_rows(len(x), points, seed, among).to(x.device)].double()
    return mean_distances_of(x.split(BLOCK), drawn)


def drawn_rows(n: int, points: int, seed: int, among: Tensor | None) -> Tensor:
    """The rows, of n or of those that `among` (n,) names, that `mean_distances` draws."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(n) if among is None else among.nonzero()[:, 0]
    return rows[torch.randperm(len(rows), generator=generator)[:points]]


def mean_distances_of(blocks: Iterable[Tensor], drawn: Tensor) -> Tensor:
    """The mean distance of each row, which come in blocks of `BLOCK`, to the drawn ones (p, D), float64."""
    return torch.cat([torch.cdist(block.double(), drawn).mean(1) for block in blocks])


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
    empty: Empty = in_memory,
) -> Tensor:
    """The indices of the rows of x (N, D) to remember, by any of the methods above.

    Rows of fewer than `projection_from` values are not projected.
    """
    projected = project(x, projection, projection_dims, seed, empty) if x.shape[1] >= projection_from else x
    wanted = [(min(n_picks, len(x)), None)]
    return selections(projected, wanted, method=method, start=start, seed=seed, on_progress=on_progress, empty=empty)[0]


def selections(
    x: Tensor,
    wanted: Sequence[tuple[int, Tensor | None]],
    *,
    method: Coreset,
    start: Start,
    seed: int,
    on_progress: Callable[[int], object] | None = None,
    empty: Empty = in_memory,
) -> list[Tensor]:
    """Several selections from the rows of x (N, D), projected if they are to be: the indices of each.

    `wanted`: for each, the number of picks, and which rows (N,), bool, there are to choose from; None: all. Each is
    what it would be if there were no others. `on_progress` is called with the number of picks of all of them.
    """
    made, lock = [0] * len(wanted), Lock()

    def one(number: int) -> Tensor:
        def tell(count: int) -> None:
            with lock:
                made[number] = count
                if on_progress:
                    on_progress(sum(made))

        n_picks, among = wanted[number]
        if greedy is not None and n_picks < (len(x) if among is None else int(among.sum())):
            return greedy.picks(n_picks, starting_point(x, start, seed, among), among=among, on_progress=tell)
        rows = torch.arange(len(x), device=x.device) if among is None else among.nonzero()[:, 0].to(x.device)
        if method == "random" and n_picks < len(rows):
            return rows[random_subset(len(rows), n_picks, seed).to(x.device)]
        if method == "merge" and n_picks < len(rows):
            return merged(x, n_picks, tell, rows=rows)
        return rows

    greedy = Greedy(x, empty) if method == "k_center" and any(n < len(x) for n, _ in wanted) else None
    return by_threads(one, range(len(wanted)), torch.get_num_threads() if x.device.type == "cpu" else 1)


def merged(
    x: Tensor,
    n_picks: int,
    on_progress: Callable[[int], object] | None = None,
    shard: int = _SHARD,
    rows: Tensor | None = None,
) -> Tensor:
    """Greedy k-center over shards of x (N, D), or of some of its `rows`, and then over what the shards gave.

    Returns (n_picks,) indices. Every row is within the shards' largest radius plus the last selection's radius of a
    pick. Both are at most twice the smallest radius that so many picks can have, so the whole is within four
    times of it, where the greedy over all rows is within twice (Malkomes et al., NeurIPS 2015).
    """
    rows = torch.arange(len(x), device=x.device) if rows is None else rows
    found = []
    for part in rows.split(max(shard, 2 * n_picks)):
        found.append(part[k_center_greedy(x[part], min(n_picks, len(part)))])
    union = torch.cat(found)
    return union[k_center_greedy(x[union], n_picks, on_progress=on_progress)]
