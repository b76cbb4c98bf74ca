"""Kernels: the loops over pairs of points, compiled for this machine's processor when they are first used.

Points lie in groups of `GROUP`, as staged forms: (stages, groups, AXES + 1, GROUP). The form of stage t adds the
coordinates along the t-th AXES principal axes, and ends with the length of what all axes so far leave. Squared
distances of forms only grow from stage to stage and never exceed those of the points, so most groups are dismissed
after the first. Nothing in here starts threads: callers split the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

AXES = 16  # coordinates of a stage
GROUP = 64  # points that are looked at together: the columns of a form fill whole vectors
_BLOCK = 16  # queries that go through the groups together
F = TypeVar("F", bound=Callable[..., Any])
Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


def _compiled(function: F, **options: Any) -> F:
    """Compiled at the first call. Sums are taken in any order; infinities and what is no number stay what they are."""
    made: F = njit(nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy", **options)(function)
    return made


def _kernel(function: F) -> F:
    """Compiled once for a machine where a folder can be written for that, else once for a process."""
    try:
        return _compiled(function, cache=True)
    except RuntimeError:  # no folder can be written
        return _compiled(function)


def _part(function: F) -> F:
    """A part of kernels, which only they call."""
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_part
def _first_stage(bounds: Floats, forms: Floats, i0: int, i1: int, i2: int, i3: int, groups: Floats, g: int) -> None:
    """Squared distances of four forms to those of a group, all at the first stage: bounds (4, GROUP)."""
    for r in range(GROUP):
        bounds[0, r] = bounds[1, r] = bounds[2, r] = bounds[3, r] = 0
    for e in range(AXES + 1):
        v0, v1, v2, v3 = forms[i0, 0, e], forms[i1, 0, e], forms[i2, 0, e], forms[i3, 0, e]
        for r in range(GROUP):
            y = groups[0, g, e, r]
            bounds[0, r] += (v0 - y) * (v0 - y)
            bounds[1, r] += (v1 - y) * (v1 - y)
            bounds[2, r] += (v2 - y) * (v2 - y)
            bounds[3, r] += (v3 - y) * (v3 - y)


@_part
def _hits(bounds: Floats, part: int, limits: Floats, forms: Floats, i: int, groups: Floats, g: int) -> np.int32:
    """How many of a group are within their limits at every stage; bounds[part] are then those of the last."""
    hits = np.int32(0)
    for r in range(GROUP):
        hits += np.int32(bounds[part, r] <= limits[r])
    for t in range(1, groups.shape[0]):
        if hits == 0:
            break
        v, w = forms[i, t - 1, AXES], forms[i, t, AXES]  # the rest before goes, axes and the new rest come
        for r in range(GROUP):
            x, y = v - groups[t - 1, g, AXES, r], w - groups[t, g, AXES, r]
            bounds[part, r] += y * y - x * x
        for e in range(AXES):
            v = forms[i, t, e]
            for r in range(GROUP):
                bounds[part, r] += (v - groups[t, g, e, r]) * (v - groups[t, g, e, r])
        hits = np.int32(0)
        for r in range(GROUP):
            hits += np.int32(bounds[part, r] <= limits[r])
    return hits


@_part
def _gap(forms: Floats, i: int, centres: Floats, radii: Floats, g: int) -> np.float32:
    """The square of the least distance of a first form to anything in a group."""
    s = np.float32(0)
    for e in range(AXES + 1):
        v = forms[i, 0, e] - centres[g, e]
        s += v * v
    v = np.sqrt(s) - radii[g]
    return v * v if v > 0 else np.float32(0)


@_part
def _squared(a: Floats, i: int, b: Floats, j: int) -> np.float32:
    s = np.float32(0)
    for e in range(a.shape[1]):
        v = a[i, e] - b[j, e]
        s += v * v
    return s


@_part
def _those_within(near: Floats, found: Ints, counts: Ints, i: int, limit: float) -> int:
    """Move what is within the limit to the front, and count it."""
    kept = 0
    for c in range(counts[i]):
        if near[i, c] <= limit:
            near[i, kept], found[i, kept] = near[i, c], found[i, c]
            kept += 1
    return kept


@_kernel
def candidates(
    queries: Floats,
    forms: Floats,
    groups: Floats,
    centres: Floats,
    radii: Floats,
    rows: Floats,
    slack: Floats,
    direct: float,
    k: int,
    found: Ints,
    counts: Ints,
) -> None:
    """Of each query the rows that may be among its k nearest.

    queries (n, D) and their forms (n, stages, AXES + 1); rows (M, D) as they lie in `groups`; the centres of these, as
    groups of their own (1, groups / GROUP, AXES + 1, GROUP), and radii (groups,); slack (n,): what rounding can add to
    a squared distance of forms; direct: by what factor it can change one that is summed up from coordinates. Fills
    found (n, cap) and counts (n,); a count of -1 is for more than cap, and where bounds rule out so little that a
    product of all pairs is faster, as far from all rows.
    """
    n, m, count, cap = queries.shape[0], rows.shape[0], groups.shape[1], found.shape[1]
    near, bounds, same = np.empty((n, cap), np.float32), np.empty((4, GROUP), np.float32), np.empty(GROUP, np.float32)
    best, limits = np.empty((_BLOCK, k), np.float32), np.empty(_BLOCK, np.float32)
    tried, most = np.empty(_BLOCK, np.int64), max(256, m // 16)  # rows measured for a query
    gaps, nearest = np.empty((_BLOCK, centres.shape[1], GROUP), np.float32), np.empty(_BLOCK, np.int64)
    for begin in range(0, n, _BLOCK):  # so many that a group is still in the cache for the last of them
        block = min(_BLOCK, n - begin)
        for own in range(block):
            counts[begin + own], limits[own], tried[own] = 0, np.inf, 0
            for c in range(k):
                best[own, c] = np.inf
        for quad in range(0, block, 4):
            i0, last = begin + quad, n - 1
            for c in range(centres.shape[1]):
                _first_stage(bounds, forms, i0, min(i0 + 1, last), min(i0 + 2, last), min(i0 + 3, last), centres, c)
                for part in range(4):
                    for r in range(GROUP):
                        gaps[quad + part, c, r] = bounds[part, r]
        for own in range(block):
            lowest = np.float32(np.inf)
            for g in range(count):
                if gaps[own, g // GROUP, g % GROUP] < lowest:
                    lowest, nearest[own] = gaps[own, g // GROUP, g % GROUP], g
        for step in range(-1, count):  # first the group of the nearest centre, each query its own, which sets a limit
            for four in range(0, block, 1 if step < 0 else 4):
                many = min(1 if step < 0 else 4, block - four)
                some = step < 0
                for own in range(four, four + many):
                    far = np.sqrt(limits[own] + slack[begin + own]) + radii[step]
                    some |= step != nearest[own] and gaps[own, step // GROUP, step % GROUP] <= far * far
                if not some:
                    continue
                g = nearest[four] if step < 0 else step
                i0, last = begin + four, begin + four + many - 1
                _first_stage(bounds, forms, i0, min(i0 + 1, last), min(i0 + 2, last), min(i0 + 3, last), groups, g)
                for own in range(four, four + many):
                    i, part = begin + own, own - four
                    if step == nearest[own]:
                        continue
                    for r in range(GROUP):
                        same[r] = limits[own] + slack[i]
                    if _hits(bounds, part, same, forms, i, groups, g) == 0:
                        continue
                    for r in range(min(GROUP, m - g * GROUP)):
                        if bounds[part, r] > limits[own] + slack[i]:
                            continue
                        s = _squared(queries, i, rows, g * GROUP + r)
                        tried[own] += 1
                        if s > limits[own] and tried[own] <= most:
                            continue
                        if counts[i] == cap:
                            counts[i] = _those_within(near, found, counts, i, limits[own])
                        if counts[i] == cap or tried[own] > most:
                            counts[i], limits[own] = -1, -np.inf  # nothing more is within
                            break
                        near[i, counts[i]], found[i, counts[i]] = s, g * GROUP + r
                        counts[i] += 1
                        if s < best[own, k - 1]:
                            p = k - 1
                            while p > 0 and best[own, p - 1] > s:
                                best[own, p] = best[own, p - 1]
                                p -= 1
                            best[own, p] = s
                            limits[own] = min(limits[own], best[own, k - 1] * direct)
        for own in range(block):
            if counts[begin + own] > 0:
                counts[begin + own] = _those_within(near, found, counts, begin + own, limits[own])


@_part
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


@_part
def _limits_of(squares: Doubles, slack: Floats, g: int, limits: Floats) -> np.float32:
    """What squared distances of forms must be within to matter: below 0 where a row is a pick or equals one."""
    most = np.float32(-1)
    for r in range(GROUP):
        s = np.float32(squares[g * GROUP + r])
        limits[r] = s * np.float32(1.000001) + slack[g * GROUP + r] if s > 0 else np.float32(-1)
        most = max(most, limits[r])
    return most


@_kernel
def bring_up(
    which: Ints,
    x: NDArray[Any],
    order: Ints,
    picked: Doubles,
    forms: Floats,
    groups: Floats,
    centres: Floats,
    radii: Floats,
    slack: Floats,
    count: int,
    squares: Doubles,
    highest: Doubles,
    seen: Ints,
) -> None:
    """Bring the rows of some groups up to date with the picks that these have not seen.

    x (N, D), half precision as uint16; order (N',): the rows of x as they lie in the groups; picked (n_picks, D) and
    their forms (n_picks, stages, AXES + 1), of which the first `count` are there; slack (N',): what rounding can add to
    squared distances of forms. Changes squares (N',), the squared distance of each row to its nearest pick or a bound
    on it, -1 for picks; highest (groups,), the largest of them; seen (groups,), how many picks they know of.
    """
    d = x.shape[1]
    limits, bounds, four = np.empty(GROUP, np.float32), np.empty((4, GROUP), np.float32), np.empty(4, np.int64)
    bits = np.empty(d if x.itemsize == 2 else 0, np.int32)
    floats, rows, is_read = bits.view(np.float32), np.empty((GROUP, d), np.float64), np.empty(GROUP, np.bool_)
    for g in which:
        most = _limits_of(squares, slack, g, limits)
        for r in range(GROUP):
            is_read[r] = False
        p = seen[g]
        while p < count and most > 0:
            n = 0
            while p < count and n < 4:
                if _gap(forms, p, centres, radii, g) <= most:
                    four[n] = p
                    n += 1
                p += 1
            if n == 0:
                break
            for part in range(n, 4):
                four[part] = four[0]
            _first_stage(bounds, forms, four[0], four[1], four[2], four[3], groups, g)
            for part in range(n):
                if _hits(bounds, part, limits, forms, four[part], groups, g) == 0:
                    continue
                for r in range(GROUP):
                    if bounds[part, r] > limits[r]:
                        continue
                    if not is_read[r]:  # from memory all over the place, so no more often than needed
                        _read(x, order[g * GROUP + r], bits, floats, rows, r)
                        is_read[r] = True
                    s = 0.0
                    for e in range(d):
                        s += (rows[r, e] - picked[four[part], e]) * (rows[r, e] - picked[four[part], e])
                    squares[g * GROUP + r] = min(squares[g * GROUP + r], s)
                most = _limits_of(squares, slack, g, limits)
        seen[g] = count
        top = -1.0
        for r in range(GROUP):
            top = max(top, squares[g * GROUP + r])
        highest[g] = top


@_kernel
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
