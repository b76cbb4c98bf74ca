"""Shards: the exact greedy selection from rows that lie in several places, by few messages.

Every shard keeps, for its own rows, bounds on their distances to the picks (see `coreset.Greedy`). In a round it hears
of the new picks, brings those groups up to date that have the highest bounds, and offers their best rows with the
highest bound that is left. What is offered above the highest of these bounds is farther from all picks than any row
elsewhere, so whoever asks picks from the offers until they fall below it; at least one pick is made in each round.
Distances between rows are summed up in float64 from their coordinates, as in one place, so the picks are the same, bit
for bit, for any number of shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchcore.maths.groups import Empty, Groups, in_memory

_AT_ONCE = 64  # groups of all shards together that are brought up to date in a round
_MOST = 2048  # rows that a shard offers at a time
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


class Offer(NamedTuple):
    """Rows of a shard that may be picked next, and what bounds all its others.

    `values` (c,): their squared distances to the picks; `numbers` (c,): of all rows; `points` (c, D), float64; `limit`,
    `first`: the highest squared distance that another row may have, -1 if there is none, and the lowest such row.
    """

    values: Doubles
    numbers: Ints
    points: Doubles
    limit: float
    first: int


class Shard:
    """Some rows x (n, D) of those that there are, and their `numbers` (n,), ascending, among all of them."""

    def __init__(self, x: Tensor, numbers: Ints, shards: int = 1, empty: Empty = in_memory) -> None:
        self._x, self._numbers = x.detach().contiguous(), numbers
        self._groups = Groups(self._x, empty)
        self._at_once = max(4, -(-_AT_ONCE // shards))
        self._bounds: dict[int, _Bounds] = {}

    def begin(self, selection: int, squares: Doubles) -> None:
        """A selection whose rows have these squared distances (n,) to what counts as picked; -1: not to be picked."""
        self._bounds[selection] = _Bounds(self._x, self._groups, squares)

    def offers(self, news: Mapping[int, tuple[Doubles, Ints]]) -> dict[int, Offer]:
        """Of each selection, when so many points (p, D) with these numbers (p,) were picked since the last time."""
        return {
            number: self._bounds[number].offer(points, self._own(picked), self._numbers, self._at_once)
            for number, (points, picked) in news.items()
        }

    def equal(self, selection: int, most: int) -> Ints:
        """The lowest numbers of rows that equal a pick and are none."""
        return np.asarray(np.sort(self._numbers[self._bounds[selection].equal()])[:most])

    def end(self, selection: int) -> None:
        """Nothing more is asked about it."""
        del self._bounds[selection]

    def _own(self, picked: Ints) -> Ints:
        """The places here of those rows that are here."""
        at = np.searchsorted(self._numbers, picked)
        at[at == len(self._numbers)] = 0
        return at[self._numbers[at] == picked]


class _Bounds:
    """What is known of the distances of a shard's rows to the picks of one selection."""

    def __init__(self, x: Tensor, groups: Groups, squares: Doubles) -> None:
        from patchcore.maths.vectors import GROUP  # compiled, and so imported, where they are used

        self._x, self._groups, n = x, groups, len(x)
        count = groups.forms.shape[1]
        self._order = np.full(count * GROUP, n)
        self._order[:n] = groups.order
        self._place = np.empty(n, np.int64)
        self._place[groups.order] = np.arange(n)
        self._bounds = np.full(count * GROUP, -1.0)
        self._bounds[:n] = squares[groups.order]
        self._highest, self._seen = np.full(count, np.inf), np.zeros(count, np.int64)
        self._slack, self._longest = np.zeros(count * GROUP + 1, np.float32), -1.0
        self._picked, self._forms = np.empty((0, x.shape[1])), groups.of(x[:1])[0][:0]
        self._made = 0
        numbers = x.view(torch.uint16) if x.dtype == torch.float16 else x.float() if x.dtype == torch.bfloat16 else x
        self._numbers = numbers.numpy()

    def _add(self, points: Doubles, own: Ints) -> None:
        """New picks."""
        forms, lengths = self._groups.of(torch.tensor(points))
        while self._made + len(points) > len(self._picked):  # twice the room
            self._picked = np.concatenate([self._picked, np.empty((max(64, len(self._picked)), points.shape[1]))])
            self._forms = np.concatenate([self._forms, np.empty((max(64, len(self._forms)), *forms.shape[1:]), "f4")])
        made = slice(self._made, self._made + len(points))
        self._picked[made], self._forms[made], self._made = points, forms, made.stop
        self._bounds[self._place[own]] = -1.0
        if (longest := max(self._groups.longest, float(lengths.max(initial=0)))) > self._longest:
            self._longest = longest  # rounding grows with what lies far away, which may be a pick of another shard
            n = len(self._x)
            self._slack[:n] = self._groups.slack(self._groups.lengths, longest)
            self._slack[-1] = self._slack[:-1].max()

    def _update(self, which: Ints) -> None:
        from patchcore.maths.kernels import bring_up

        groups = self._groups
        bring_up(
            which, self._made, self._numbers, self._order, self._picked, self._forms, groups.forms, groups.lows,
            groups.highs, self._slack, self._bounds, self._highest, self._seen,
        )  # fmt: skip

    def offer(self, points: Doubles, own: Ints, numbers: Ints, at_once: int) -> Offer:
        from patchcore.maths.kernels import farthest, first_rows
        from patchcore.maths.vectors import GROUP

        fresh = not self._made
        self._add(points, own)
        count = len(self._highest)
        every = np.arange(count)
        if fresh:
            self._update(every)
        while True:
            some, outside = every, every[:0]
            if count > at_once:
                edge = np.partition(self._highest, count - at_once - 1)[count - at_once - 1]
                some = np.flatnonzero(self._highest >= edge)
                rows = first_rows(some, self._order, self._bounds, self._highest)
                some = some[np.lexsort((rows, -self._highest[some]))]
                some, outside = some[:at_once], some[at_once : at_once + 1]
            self._update(some)
            limit, first, _ = farthest(outside, self._order, self._bounds, self._highest)
            value, row, _ = farthest(some, self._order, self._bounds, self._highest)
            if value > limit or (value == limit and row < first) or value < 0:
                break  # its farthest row is among them
        places = (some[:, None] * GROUP + np.arange(GROUP)).ravel()
        values, rows = self._bounds[places], self._order[places]
        kept = (values > max(limit, 0)) | ((values == limit) & (values > 0) & (rows < first))
        values, rows = values[kept], rows[kept]
        order = np.lexsort((rows, -values))
        if len(order) > _MOST:  # the first that is left out bounds the others
            limit, first = float(values[order[_MOST]]), int(rows[order[_MOST]])
            order = order[:_MOST]
        values, rows = values[order], rows[order]
        points = self._x[torch.from_numpy(rows)].double().numpy()
        return Offer(values, numbers[rows], points, float(limit), int(numbers[first]) if limit >= 0 else -1)

    def equal(self) -> Ints:
        n = len(self._x)
        return np.asarray(self._groups.order[self._bounds[:n] == 0])


# Asks every shard, with the new picks of each selection (as `Shard.offers`), for its offers.
Ask = Callable[[Mapping[int, tuple[Doubles, Ints]]], Sequence[Mapping[int, Offer]]]


def picked(
    firsts: Mapping[int, tuple[int, Doubles]],
    wanted: Mapping[int, int],
    ask: Ask,
    equal: Callable[[int, int], Sequence[Ints]],
    told: Callable[[int, int], object] = lambda *_: None,
) -> dict[int, Ints]:
    """The picks of several selections, as `coreset.Greedy.picks` makes each of them from all rows.

    `firsts`: number and point (D,) of the first pick of each; `wanted`: how many picks; `ask`: all shards, one round of
    messages for all selections; `equal`: asks them for `Shard.equal`; `told`: called with a selection and its picks.
    """
    from patchcore.maths.kernels import pick_offered

    picks = {number: np.full(wanted[number], first, np.int64) for number, (first, _) in firsts.items()}
    made = dict.fromkeys(firsts, 1)
    news = {number: (point[None], np.array([first])) for number, (first, point) in firsts.items()}
    news = {number: one for number, one in news.items() if wanted[number] > 1}
    while news:
        answers, news = ask(news), {}
        for number in answers[0]:
            offers = [answer[number] for answer in answers]
            limit = max(one.limit for one in offers)
            first = min([one.first for one in offers if one.limit == limit and limit >= 0], default=2**62)
            values = np.concatenate([one.values for one in offers])
            rows = np.concatenate([one.numbers for one in offers])
            points = np.ascontiguousarray(np.concatenate([one.points for one in offers]))
            before, own = made[number], picks[number]
            at = np.empty(len(own) - before, np.int64)
            count = pick_offered(values, rows, points, limit, first, at)
            at = at[:count]
            own[before : before + count] = rows[at]
            made[number] += count
            if not count:  # all that are left equal a pick: they follow as they come, the lowest number first
                left = len(own) - before
                own[before:] = np.sort(np.concatenate(equal(number, left)))[:left]
                made[number] = len(own)
            elif made[number] < len(own):
                news[number] = points[at], rows[at]
            told(number, made[number])
    return picks
