"""Kernels: the compiled loop of the search. Nothing in here starts threads: callers split the work."""

from __future__ import annotations

import numpy as np

from patchcore.maths.vectors import AXES, GROUP, Floats, Ints, gaps_to, hits_of, kernel, lowest_bit, part, squared

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
                    g = np.argmin(gaps[own, :count])
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
