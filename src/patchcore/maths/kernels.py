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
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
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


_VECTOR, _FREE = ir.VectorType(ir.FloatType(), 8), ("contract", "reassoc", "nsz")  # cut or joined as a processor needs


class _Writer:
    """Writes instructions on vectors, which a compiler left to itself would keep in memory and not in registers."""

    def __init__(self, context: Any, builder: Any, signature: Any, given: Any) -> None:
        self._context, self._kinds, self._given, self.to = context, signature.args, given, builder

    def at(self, array: int, place: int | None = None) -> Any:
        """Where the argument of that number has the element that another one names, or its first."""
        first = self._context.make_array(self._kinds[array])(self._context, self.to, self._given[array]).data
        return first if place is None else self.to.gep(first, [self._given[place]])

    def vector(self, place: Any, more: Any) -> Any:
        """Where 8 numbers are."""
        return self.to.bitcast(self.to.gep(place, [ir.IntType(64)(more) if isinstance(more, int) else more]), _VECTOR.as_pointer())

    def load(self, place: Any, more: Any) -> Any:
        return self.to.load(self.vector(place, more), align=4)

    def store(self, values: Any, place: Any, more: int) -> None:
        self.to.store(values, self.vector(place, more), align=4)

    def all_of(self, place: Any, more: int) -> Any:
        """One number, 8 times."""
        one = self.to.load(self.to.gep(place, [ir.IntType(64)(more)]))
        first = self.to.insert_element(ir.Constant(_VECTOR, ir.Undefined), one, ir.IntType(32)(0))
        return self.to.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8))

    def less(self, a: Any, b: Any) -> Any:
        return self.to.fsub(a, b, flags=_FREE)

    def larger(self, a: Any, b: Any) -> Any:
        return self.to.select(self.to.fcmp_ordered(">", a, b), a, b)

    def with_square(self, total: Any, a: Any) -> Any:
        square = self.to.fmul(a, a, flags=_FREE)
        return square if total is None else self.to.fadd(total, square, flags=_FREE)


def _stage(later: bool) -> Any:
    def stage(_: Any, form: Any, at: Any, groups: Any, begin: Any, rest: Any, out: Any, limits: Any, own: Any) -> Any:
        def written(*parts: Any) -> Any:
            w, mask = _Writer(*parts), ir.IntType(64)(0)
            form, group, rest, out, limits = w.at(0, 1), w.at(2, 3), w.at(2, 4), w.at(5), w.at(6, 7)
            sums = [None] * 8
            if later:  # the rest before goes, axes and the new rest come
                own, sums = w.all_of(form, -1), [w.load(out, 8 * n) for n in range(8)]
                gone = [w.with_square(None, w.less(own, w.load(rest, 8 * n))) for n in range(8)]
                sums = [w.less(*pair) for pair in zip(sums, gone, strict=True)]
            for e in range(AXES + 1):
                own = w.all_of(form, e)
                sums = [w.with_square(sums[n], w.less(own, w.load(group, GROUP * e + 8 * n))) for n in range(8)]
            for n in range(8):
                w.store(sums[n], out, 8 * n)
                within = w.to.bitcast(w.to.fcmp_ordered("<=", sums[n], w.load(limits, 8 * n)), ir.IntType(8))
                mask = w.to.or_(mask, w.to.shl(w.to.zext(within, ir.IntType(64)), ir.IntType(64)(8 * n)))
            return mask

        place = types.int64
        return types.uint64(form, place, groups, place, place, out, limits, place), written

    return intrinsic(stage)


# (form, at, groups, begin, rest, out, limits, own): squared distances to a group, `out`, and a bit for each that is
# within its limit. A later stage is told where the rests of the stage before begin.
_first_stage, _later_stage = _stage(later=False), _stage(later=True)


@intrinsic
def _gaps(_: Any, form: Any, at: Any, boxes: Any, low: Any, high: Any, out: Any, to: Any) -> Any:
    """(form, at, boxes, low, high, out, to): the squares of the least distances of a form to what is in 64 boxes."""

    def written(*parts: Any) -> Any:
        w, sums, nothing = _Writer(*parts), [None] * 8, ir.Constant(_VECTOR, [0.0] * 8)
        form, low, high, out = w.at(0, 1), w.at(2, 3), w.at(2, 4), w.at(5, 6)
        for e in range(AXES + 1):
            own = w.all_of(form, e)
            for n in range(8):
                below, above = w.less(w.load(low, GROUP * e + 8 * n), own), w.less(own, w.load(high, GROUP * e + 8 * n))
                sums[n] = w.with_square(sums[n], w.larger(w.larger(below, above), nothing))
        for n in range(8):
            w.store(sums[n], out, 8 * n)
        return parts[0].get_dummy_value()

    place = types.int64
    return types.void(form, place, boxes, place, place, out, place), written


@intrinsic
def _eights(_: Any, a: Any, at: Any, b: Any, begin: Any, n: Any) -> Any:
    """(a, at, b, begin, n): the squared distance of two points along n coordinates, a multiple of 8."""

    def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        w = _Writer(context, builder, signature, given)
        a, b = w.at(0, 1), w.at(2, 3)
        sums = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * 8))
        with cgutils.for_range_slice(builder, ir.IntType(64)(0), given[4], ir.IntType(64)(8)) as (e, _):
            builder.store(w.with_square(builder.load(sums), w.less(w.load(a, e), w.load(b, e))), sums)
        total, parts = ir.Constant(ir.FloatType(), 0.0), builder.load(sums)
        for n in range(8):
            total = builder.fadd(total, builder.extract_element(parts, ir.IntType(32)(n)), flags=_FREE)
        return total

    return types.float32(a, types.int64, b, types.int64, types.int64), written


@intrinsic
def _lowest_bit(_: Any, mask: Any) -> Any:
    def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.cttz(given[0], ir.IntType(1)(1))

    return types.int64(types.uint64), written


@_part
def _squared(a: Floats, i: int, b: Floats, j: int) -> np.float32:
    d = a.shape[1]
    whole = d - d % 8
    s = _eights(a, i * d, b, j * d, whole)
    for e in range(whole, d):
        v = a[i, e] - b[j, e]
        s += v * v
    return s


@_part
def _hits(forms: Floats, i: int, groups: Floats, g: int, bounds: Floats, limits: Floats, own: int) -> np.uint64:
    """A bit for each of a group that is within its limit at every stage; `bounds` (GROUP,) are those of the last."""
    wide, stages = AXES + 1, forms.shape[1]
    at, begin, step = i * stages * wide, g * wide * GROUP, groups.shape[1] * wide * GROUP
    hits = _first_stage(forms, at, groups, begin, 0, bounds, limits, own * GROUP)
    for t in range(1, stages):
        if hits == 0:
            break
        at, begin, rest = at + wide, begin + step, begin + AXES * GROUP
        hits = _later_stage(forms, at, groups, begin, rest, bounds, limits, own * GROUP)
    return hits


@_part
def _those_within(near: Floats, found: Ints, counts: Ints, i: int, limit: float) -> int:
    """Move what is within the limit to the front, and count it."""
    kept = 0
    for c in range(counts[i]):
        if near[i, c] <= limit:
            near[i, kept], found[i, kept] = near[i, c], found[i, c]
            kept += 1
    return kept


@_part
def _share(own: int, other: int, i: int, queries: Floats, rows: Floats, direct: float, best: Floats, which: Ints, limits: Floats) -> None:  # fmt: skip
    """What another query has found nearest is near this one too, most likely, and limits what can be nearest."""
    k = best.shape[1]
    if best[other, k - 1] < np.inf:
        far = np.float32(0)
        for c in range(k):
            far = max(far, _squared(queries, i, rows, which[other, c]))
        limits[own] = min(limits[own], far * direct)


@_kernel
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
    near, bounds, within = np.empty((n, cap), np.float32), np.empty(GROUP, np.float32), np.empty((_BLOCK, GROUP), np.float32)
    best, which = np.full((_BLOCK + 1, k), np.inf, np.float32), np.empty((_BLOCK + 1, k), np.int64)
    limits, tried, most = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.int64), max(256, m // 16)
    gaps, part = np.empty((_BLOCK, boxed * GROUP), np.float32), (AXES + 1) * GROUP
    for begin in range(0, n, _BLOCK):  # so many that a group is still in the cache for the last of them
        block = min(_BLOCK, n - begin)
        for own in range(block):
            i = begin + own
            counts[i], limits[own], tried[own] = 0, np.inf, 0
            best[own] = np.inf
            for c in range(boxed):
                at = own * boxed * GROUP + c * GROUP
                _gaps(forms, i * forms.shape[1] * (AXES + 1), boxes, c * part, (boxed + c) * part, gaps, at)
        for step in range(-1, count):  # first the group of the nearest box, each query its own, which sets a limit
            for own in range(block):
                i, g = begin + own, step
                if step < 0:
                    g = np.argmin(gaps[own, :count])
                    _share(own, own - 1 if own else _BLOCK, i, queries, rows, direct, best, which, limits)
                elif step == 0 and own + 1 < block:
                    _share(own, own + 1, i, queries, rows, direct, best, which, limits)
                limit = limits[own] + slack[i]
                if not gaps[own, g] <= limit:
                    continue
                gaps[own, g] = np.nan  # not again
                for r in range(GROUP):
                    within[own, r] = limit
                hits = _hits(forms, i, groups, g, bounds, within, own)
                while hits:
                    r = _lowest_bit(hits)
                    hits &= hits - np.uint64(1)
                    row = g * GROUP + r
                    if bounds[r] > limits[own] + slack[i] or row >= m:
                        continue
                    s = _squared(queries, i, rows, row)
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


@_part
def _gap(forms: Floats, i: int, lows: Floats, highs: Floats, g: int) -> np.float32:
    """The square of the least distance of a first form to what is in the box of a group."""
    s = np.float32(0)
    for e in range(AXES + 1):
        below, above = lows[g, e] - forms[i, 0, e], forms[i, 0, e] - highs[g, e]
        v = below if below > above else above
        v = v if v > 0 else np.float32(0)
        s += v * v
    return s


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
    lows: Floats,
    highs: Floats,
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
    limits, bounds = np.empty(GROUP, np.float32), np.empty(GROUP, np.float32)
    bits = np.empty(d if x.itemsize == 2 else 0, np.int32)
    floats, rows, is_read = bits.view(np.float32), np.empty((GROUP, d), np.float64), np.empty(GROUP, np.bool_)
    for g in which:
        most = _limits_of(squares, slack, g, limits)
        for r in range(GROUP):
            is_read[r] = False
        for p in range(seen[g], count):
            if most <= 0:
                break
            if _gap(forms, p, lows, highs, g) > most:
                continue
            hits = _hits(forms, p, groups, g, bounds, limits, 0)
            changed = hits != 0
            while hits:
                r = _lowest_bit(hits)
                hits &= hits - np.uint64(1)
                if not is_read[r]:  # from memory all over the place, so no more often than needed
                    _read(x, order[g * GROUP + r], bits, floats, rows, r)
                    is_read[r] = True
                s = 0.0
                for e in range(d):
                    s += (rows[r, e] - picked[p, e]) * (rows[r, e] - picked[p, e])
                squares[g * GROUP + r] = min(squares[g * GROUP + r], s)
            if changed:
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
