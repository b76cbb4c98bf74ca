"""Kernels: the compiled loops of search and selection. Nothing in here starts threads: callers split the work."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore.maths.vectors import (
    AXES,
    GROUP,
    Doubles,
    Floats,
    Ints,
    gaps_to,
    hits_of,
    kernel,
    lowest_bit,
    part,
    squared,
)

_BLOCK = 16  # queries that go through the groups together


@part
def _those_within(near: Floats, found: Ints, counts: Ints, i: int, limit: float) -> int:
    """Move what is within the limit to the front, and count it."""
    kept = 0
    for c in range(counts[i]):
        if near[i, c] <= limit:
            near[i, kept], found[i, kept] = near[i, c], found[i, c]
            kept += 1
    return kept


@part
def _share(
    own: int, other: int, i: int, queries: Floats, rows: Floats, direct: float, best: Floats, which: Ints,
    limits: Floats,
) -> None:  # fmt: skip
    """What another query has found nearest is near this one too, most likely, and limits what can be nearest."""
    k = best.shape[1]
    if best[other, k - 1] < np.inf:
        far = np.float32(0)
        for c in range(k):
            far = max(far, squared(queries, i, rows, which[other, c]))
        limits[own] = min(limits[own], far * direct)


@kernel
def candidates(
    queries: Floats,
    forms: Floats,
    groups: Floats,
    boxes: Floats,
    rows: Floats,
    slack: Floats,
    direct: float,
    k: int,
    found: Ints,
    counts: Ints,
) -> None:
    """Of each query the rows that may be among its k nearest.

    queries (n, D) and their forms (n, stages, AXES + 1); rows (M, D) as they lie in `groups`; the boxes around these
    (2, groups / GROUP, AXES + 1, GROUP); slack (n,): what rounding can add to a squared distance of forms; direct: by
    what factor it can change one that is summed up from coordinates. Fills found (n, cap) and counts (n,); a count of
    -1 is for more than cap, and where bounds rule out so little that a product of all pairs is faster, as far from all
    rows.
    """
    n, m, count, cap, boxed = queries.shape[0], rows.shape[0], groups.shape[1], found.shape[1], boxes.shape[1]
    near, bounds = np.empty((n, cap), np.float32), np.empty(GROUP, np.float32)
    within = np.zeros((_BLOCK, GROUP), np.float32)  # of each query its limit, as often as a group has points
    best, which = np.full((_BLOCK + 1, k), np.inf, np.float32), np.empty((_BLOCK + 1, k), np.int64)
    limits, tried, most = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.int64), max(256, m // 16)
    gaps, size = np.empty((_BLOCK, boxed * GROUP), np.float32), (AXES + 1) * GROUP
    for begin in range(0, n, _BLOCK):  # so many that a group is still in the cache for the last of them
        block = min(_BLOCK, n - begin)
        for own in range(block):
            i = begin + own
            counts[i], limits[own], tried[own] = 0, np.inf, 0
            best[own] = np.inf
            for c in range(boxed):
                at = own * boxed * GROUP + c * GROUP
                gaps_to(forms, i * forms.shape[1] * (AXES + 1), boxes, c * size, (boxed + c) * size, gaps, at)
        for step in range(-1, count):  # first the group of the nearest box, each query its own, which sets a limit
            for own in range(block):
                i, g = begin + own, step
                if step < 0:
                    g = int(np.argmin(gaps[own, :count]))
                    _share(own, own - 1 if own else _BLOCK, i, queries, rows, direct, best, which, limits)
                elif step == 0 and own + 1 < block:
                    _share(own, own + 1, i, queries, rows, direct, best, which, limits)
                limit = limits[own] + slack[i]
                if not gaps[own, g] <= limit:
                    continue
                gaps[own, g] = np.nan  # not again
                if within[own, 0] != limit:
                    for r in range(GROUP):
                        within[own, r] = limit
                hits = hits_of(forms, i, groups, g, bounds, within, own)
                while hits:
                    r = lowest_bit(hits)
                    hits &= hits - np.uint64(1)
                    row = g * GROUP + r
                    if bounds[r] > limits[own] + slack[i] or row >= m:
                        continue
                    s = squared(queries, i, rows, row)
                    tried[own] += 1
                    if s > limits[own] and tried[own] <= most:
                        continue
                    if counts[i] == cap:
                        counts[i] = _those_within(near, found, counts, i, limits[own])
                    if counts[i] == cap or tried[own] > most:
                        counts[i], limits[own] = -1, -np.inf  # nothing more is within
                        break
                    near[i, counts[i]], found[i, counts[i]] = s, row
                    counts[i] += 1
                    if s < best[own, k - 1]:
                        p = k - 1
                        while p > 0 and best[own, p - 1] > s:
                            best[own, p], which[own, p] = best[own, p - 1], which[own, p - 1]
                            p -= 1
                        best[own, p], which[own, p] = s, row
                        limits[own] = min(limits[own], best[own, k - 1] * direct)
        for own in range(block):
            if counts[begin + own] > 0:
                counts[begin + own] = _those_within(near, found, counts, begin + own, limits[own])
        best[_BLOCK], which[_BLOCK] = best[block - 1], which[block - 1]


@part
def _gap(forms: Floats, i: int, lows: Floats, highs: Floats, g: int) -> np.float32:
    """The square of the least distance of a first form to what is in the box of a group."""
    s = np.float32(0)
    for e in range(AXES + 1):
        below, above = lows[g, e] - forms[i, 0, e], forms[i, 0, e] - highs[g, e]
        v = below if below > above else above
        v = v if v > 0 else np.float32(0)
        s += v * v
    return s


@part
def _read(x: NDArray[Any], i: int, bits: NDArray[np.int32], floats: Floats, out: Doubles, r: int) -> None:
    """Row i of x into row r of `out`; of half precision, given as its bits, by way of those of float32.

    `bits` is where these are made, and `floats` what they are as numbers.
    """
    if bits.size:
        for e in range(x.shape[1]):
            half = np.int32(x[i, e])
            bits[e] = ((half & 0x8000) << 16) | ((half & 0x7FFF) << 13)
        for e in range(x.shape[1]):
            out[r, e] = np.float64(floats[e]) * 2.0**112
    else:
        for e in range(x.shape[1]):
            out[r, e] = x[i, e]


@part
def _limits_of(squares: Doubles, slack: Floats, g: int, limits: Floats) -> np.float32:
    """What squared distances of forms must be within to matter: below 0 where a row is a pick or equals one."""
    most = np.float32(-1)
    for r in range(GROUP):
        s = np.float32(squares[g * GROUP + r])
        limits[r] = s * np.float32(1.000001) + slack[g * GROUP + r] if s > 0 else np.float32(-1)
        most = max(most, limits[r])
    return most


@part
def _most(squares: Doubles, g: int) -> float:
    """The highest square of a group."""
    top = -1.0
    for r in range(GROUP):
        top = max(top, squares[g * GROUP + r])
    return top


@part
def _seen_to(
    g: int, count: int, x: NDArray[Any], order: Ints, picked: Doubles, forms: Floats, groups: Floats, lows: Floats,
    highs: Floats, slack: Floats, squares: Doubles, highest: Doubles, seen: Ints, room: Any,
) -> None:  # fmt: skip
    """Bring the rows of a group up to date with the first `count` picks; `room` is what `_room` makes."""
    limits, bounds, bits, rows, is_read = room
    most, ready, floats = np.float32(highest[g]) * np.float32(1.000001) + slack[-1], False, bits.view(np.float32)
    for p in range(seen[g], count):
        if most <= 0:
            break
        if _gap(forms, p, lows, highs, g) > most:
            continue
        if not ready:
            most, ready = _limits_of(squares, slack, g, limits), True
            is_read[:] = False
            if _gap(forms, p, lows, highs, g) > most:
                continue
        hits = hits_of(forms, p, groups, g, bounds, limits, 0)
        if hits == 0:
            continue
        while hits:
            r = lowest_bit(hits)
            hits &= hits - np.uint64(1)
            if not is_read[r]:  # from memory all over the place, so no more often than needed
                _read(x, order[g * GROUP + r], bits, floats, rows, r)
                is_read[r] = True
            squares[g * GROUP + r] = min(squares[g * GROUP + r], squared(rows, r, picked, p))
        most = _limits_of(squares, slack, g, limits)
    seen[g], highest[g] = count, _most(squares, g)


@part
def _room(x: NDArray[Any]) -> Any:
    """Where a thread keeps limits, bounds, the bits of a row of half precision, rows, and which of these are read."""
    d = x.shape[1]
    bits = np.empty(d if x.itemsize == 2 else 0, np.int32)
    rows, is_read = np.empty((GROUP, d), np.float64), np.zeros(GROUP, np.bool_)
    return np.empty(GROUP, np.float32), np.empty(GROUP, np.float32), bits, rows, is_read


@kernel
def bring_up(
    which: Ints,
    count: int,
    x: NDArray[Any],
    order: Ints,
    picked: Doubles,
    forms: Floats,
    groups: Floats,
    lows: Floats,
    highs: Floats,
    slack: Floats,
    squares: Doubles,
    highest: Doubles,
    seen: Ints,
) -> None:
    """Bring the rows of some groups up to date with the first `count` picks, as far as these have not seen them.

    x (N, D), half precision as uint16; order (N',): the rows of x as they lie in the groups; picked (n_picks, D) and
    their forms (n_picks, stages, AXES + 1); lows and highs (groups, AXES + 1), the boxes around first forms; slack
    (N' + 1,): what rounding can add to squared distances of forms, and the most of it. Changes squares (N',), the
    squared distance of each row to its nearest pick or a bound on it, -1 for picks; highest (groups,), the largest of
    them; seen (groups,), how many picks they know of.
    """
    room = _room(x)
    for g in which:
        _seen_to(g, count, x, order, picked, forms, groups, lows, highs, slack, squares, highest, seen, room)


@kernel
def farthest(which: Ints, order: Ints, squares: Doubles, highest: Doubles) -> tuple[float, int, int]:
    """The highest square in some groups, the first row of x that has it, and its place in the groups' order."""
    top, row, at = -1.0, 2**62, -1
    for g in which:
        if highest[g] < top:
            continue
        for place in range(g * GROUP, (g + 1) * GROUP):
            if squares[place] > top or (squares[place] == top and order[place] < row):
                top, row, at = squares[place], order[place], place
    return top, row, at


@kernel
def pick(
    which: Ints,
    limit: float,
    first: int,
    made: int,
    picks: Ints,
    x: NDArray[Any],
    order: Ints,
    picked: Doubles,
    forms: Floats,
    groups: Floats,
    lows: Floats,
    highs: Floats,
    slack: Floats,
    squares: Doubles,
    highest: Doubles,
    seen: Ints,
) -> int:
    """Pick from some groups while they have a row that is farther than `limit`, or as far and before the row `first`.

    Fills picks (n_picks,), picked and forms, of which `made` are there, and returns how many are then. Only the group
    that has the highest bound is brought up to date, until its row is the farthest. Ends at one that equals a pick.
    """
    room = _room(x)
    bits = room[2]
    floats = bits.view(np.float32)
    while made < len(picks):
        value, row, at = farthest(which, order, squares, highest)
        if value <= 0 or value < limit or (value == limit and row > first):
            break
        g = at // GROUP
        if seen[g] < made:
            _seen_to(g, made, x, order, picked, forms, groups, lows, highs, slack, squares, highest, seen, room)
            continue
        picks[made], squares[at] = row, -1.0
        highest[g] = _most(squares, g)
        forms[made] = groups[:, g, :, at % GROUP]
        _read(x, row, bits, floats, picked, made)
        made += 1
    return made


@kernel
def first_rows(which: Ints, order: Ints, squares: Doubles, highest: Doubles) -> Ints:
    """The first row of x that has the highest square of its group, for each of some groups."""
    rows = np.empty(len(which), np.int64)
    for n in range(len(which)):
        rows[n] = farthest(which[n : n + 1], order, squares, highest)[1]
    return rows


@kernel
def pick_offered(values: Doubles, rows: Ints, points: Doubles, limit: float, first: int, picks: Ints) -> int:
    """Pick from offered rows while one is farther than `limit`, or as far and before the row `first`.

    values (c,): their squared distances to all earlier picks, which change; rows (c,): their numbers; points (c, D).
    Fills picks (n,) with places in these, and returns how many. Ends at a row that equals a pick.
    """
    made, seen = 0, np.zeros(len(values), np.int64)
    while made < len(picks):
        top = -1
        for c in range(len(values)):
            if top < 0 or values[c] > values[top] or (values[c] == values[top] and rows[c] < rows[top]):
                top = c
        if top < 0 or values[top] <= 0 or values[top] < limit or (values[top] == limit and rows[top] > first):
            break
        if seen[top] < made:
            for p in range(seen[top], made):
                values[top] = min(values[top], squared(points, top, points, picks[p]))
            seen[top] = made
            continue
        picks[made], values[top] = top, -1.0
        made += 1
    return made
