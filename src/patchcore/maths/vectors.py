"""Vectors: what compiled loops over pairs of points are made of, 8 numbers at a time.

Points lie in groups of `GROUP`, as staged forms: (stages, groups, AXES + 1, GROUP). The form of stage t adds the
coordinates along the t-th AXES principal axes, and ends with the length of what all axes so far leave. Squared
distances of forms only grow from stage to stage and never exceed those of the points, so most groups are dismissed
after the first. The loops are compiled for this machine's processor when they are first used. Sums that stay in
registers are written as such: a compiler left to itself keeps 64 sums of a group in memory, which takes 2.6 times as
long.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from zlib import crc32

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

AXES = 16  # coordinates of a stage
GROUP = 64  # points that are looked at together
F = TypeVar("F", bound=Callable[..., Any])
Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


def _compiled(function: F, **options: Any) -> F:
    """Compiled at the first call. Sums are taken in any order; infinities and what is no number stay what they are."""
    made: F = njit(nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy", **options)(function)
    return made


def kernel(function: F) -> F:
    """Compiled once for a machine where a folder can be written for that, else once for a process."""
    try:
        # What is kept goes by the file of the function, and depends on this one too.
        function.__qualname__ += f"-{crc32(Path(__file__).read_bytes()):08x}"
        return _compiled(function, cache=True)
    except (OSError, RuntimeError):  # no folder can be written
        return _compiled(function)


def part(function: F) -> F:
    """A part of kernels, which only they call."""
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


_INT, _FLOAT, _DOUBLE = ir.IntType(64), ir.FloatType(), ir.DoubleType()
_ONE_STEP = ("contract",)  # what is multiplied and added may be rounded once; the order of sums is as written


def _written(function: F) -> Any:
    """What `function` writes, as a part of kernels: it is called without the first argument."""
    return intrinsic(function)


class _Writer:
    """Writes instructions on vectors, which a compiler left to itself would keep in memory and not in registers."""

    def __init__(self, context: Any, builder: Any, signature: Any, given: Any, number: Any = _FLOAT) -> None:
        self._context, self._kinds, self._given, self.to = context, signature.args, given, builder
        self.vector = ir.VectorType(number, 8)  # cut or joined as the processor needs
        self.zero = ir.Constant(self.vector, [0.0] * 8)

    def at(self, array: int, place: int | None = None) -> Any:
        """Where the argument of that number has the element that another one names, or its first."""
        first = self._context.make_array(self._kinds[array])(self._context, self.to, self._given[array]).data
        return first if place is None else self.to.gep(first, [self._given[place]])

    def _eight(self, place: Any, more: Any) -> Any:
        first = self.to.gep(place, [_INT(more) if isinstance(more, int) else more])
        return self.to.bitcast(first, self.vector.as_pointer())

    def load(self, place: Any, more: Any) -> Any:
        return self.to.load(self._eight(place, more), align=4)

    def store(self, values: Any, place: Any, more: int) -> None:
        self.to.store(values, self._eight(place, more), align=4)

    def all_of(self, place: Any, more: int) -> Any:
        """One number, 8 times."""
        first = self.to.insert_element(self.zero, self.to.load(self.to.gep(place, [_INT(more)])), ir.IntType(32)(0))
        return self.to.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8))

    def less(self, a: Any, b: Any) -> Any:
        return self.to.fsub(a, b, flags=_ONE_STEP)

    def larger(self, a: Any, b: Any) -> Any:
        return self.to.select(self.to.fcmp_ordered(">", a, b), a, b)

    def with_square(self, total: Any, a: Any) -> Any:
        square = self.to.fmul(a, a, flags=_ONE_STEP)
        return square if total is None else self.to.fadd(total, square, flags=_ONE_STEP)


def _stage(later: bool) -> Any:
    def stage(_: Any, form: Any, at: Any, groups: Any, begin: Any, rest: Any, out: Any, limits: Any, own: Any) -> Any:
        def written(*parts: Any) -> Any:
            w, mask = _Writer(*parts), _INT(0)
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
                mask = w.to.or_(mask, w.to.shl(w.to.zext(within, _INT), _INT(8 * n)))
            return mask

        place = types.int64
        return types.uint64(form, place, groups, place, place, out, limits, place), written

    return _written(stage)


# (form, at, groups, begin, rest, out, limits, own): squared distances to a group, `out`, and a bit for each that is
# within its limit. A later stage is told where the rests of the stage before begin.
_first_stage, _later_stage = _stage(later=False), _stage(later=True)


@_written
def gaps_to(_: Any, form: Any, at: Any, boxes: Any, low: Any, high: Any, out: Any, to: Any) -> Any:
    """(form, at, boxes, low, high, out, to): the squares of the least distances of a form to what is in 64 boxes."""

    def written(*parts: Any) -> Any:
        w, sums = _Writer(*parts), [None] * 8
        form, low, high, out = w.at(0, 1), w.at(2, 3), w.at(2, 4), w.at(5, 6)
        for e in range(AXES + 1):
            own = w.all_of(form, e)
            for n in range(8):
                below, above = w.less(w.load(low, GROUP * e + 8 * n), own), w.less(own, w.load(high, GROUP * e + 8 * n))
                sums[n] = w.with_square(sums[n], w.larger(w.larger(below, above), w.zero))
        for n in range(8):
            w.store(sums[n], out, 8 * n)
        return parts[0].get_dummy_value()

    place = types.int64
    return types.void(form, place, boxes, place, place, out, place), written


@_written
def _squared(_: Any, a: Any, at: Any, b: Any, begin: Any, n: Any) -> Any:
    """(a, at, b, begin, n): the squared distance of two points of n coordinates, always summed in the same order."""
    number = _DOUBLE if a.dtype == types.float64 else _FLOAT

    def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        w = _Writer(context, builder, signature, given, number)
        a, b, n, two = w.at(0, 1), w.at(2, 3), given[4], [cgutils.alloca_once_value(builder, w.zero) for _ in range(2)]
        whole = builder.and_(n, _INT(-16))
        with cgutils.for_range_slice(builder, _INT(0), whole, _INT(16)) as (e, _):
            for half, sums in enumerate(two):
                at = builder.add(e, _INT(8 * half))
                builder.store(w.with_square(builder.load(sums), w.less(w.load(a, at), w.load(b, at))), sums)
        parts = builder.fadd(*(builder.load(sums) for sums in two))
        total = cgutils.alloca_once_value(builder, number(0.0))
        for e in range(8):
            builder.store(builder.fadd(builder.load(total), builder.extract_element(parts, ir.IntType(32)(e))), total)
        with cgutils.for_range_slice(builder, whole, n, _INT(1)) as (e, _):
            apart = w.less(builder.load(builder.gep(a, [e])), builder.load(builder.gep(b, [e])))
            builder.store(w.with_square(builder.load(total), apart), total)
        return builder.load(total)

    return a.dtype(a, types.int64, b, types.int64, types.int64), written


@_written
def lowest_bit(_: Any, mask: Any) -> Any:
    def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.cttz(given[0], ir.IntType(1)(1))

    return types.int64(types.uint64), written


@part
def squared(a: NDArray[Any], i: int, b: NDArray[Any], j: int) -> Any:
    """The squared distance of row i of a (N, D) and row j of b (M, D), both float32 or both float64."""
    d = a.shape[1]
    return _squared(a, i * d, b, j * d, d)


@part
def hits_of(forms: Floats, i: int, groups: Floats, g: int, bounds: Floats, limits: Floats, own: int) -> np.uint64:
    """A bit for each of a group that is within its limit at every stage; `bounds` (GROUP,) are those of the last."""
    wide, stages = AXES + 1, forms.shape[1]
    at, begin, step = i * stages * wide, g * wide * GROUP, groups.shape[1] * wide * GROUP
    hits = _first_stage(forms, at, groups, begin, 0, bounds, limits, own * GROUP)
    for _ in range(1, stages):
        if hits == 0:
            break
        at, begin, rest = at + wide, begin + step, begin + AXES * GROUP
        hits = _later_stage(forms, at, groups, begin, rest, bounds, limits, own * GROUP)
    return hits
