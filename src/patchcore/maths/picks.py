"""Picks: the compiled loops of a selection. Nothing in here starts threads: callers split the work."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchcore.maths.vectors import AXES, GROUP, Doubles, Floats, Ints, hits_of, kernel, lowest_bit, part, squared


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
