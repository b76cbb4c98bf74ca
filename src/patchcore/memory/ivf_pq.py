"""Approximate search by inverted lists and product quantisation, FAISS's IVF-PQ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from patchcore.errors import MissingExtraError, UsageError
from patchcore.maths.neighbours import squared
from patchcore.memory.bank import LEARNED

_LEAST_ROWS = 39 * 256  # FAISS trains 256 centroids per sub-quantiser on no fewer than 39 rows each


def check(rows: int) -> None:
    """Whether a bank of so many rows can be searched here. Errors: UsageError, MissingExtraError."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        raise MissingExtraError("faiss-cpu", "faiss", "search='ivf_pq'") from None
    if rows < _LEAST_ROWS:
        raise UsageError(
            f"search='ivf_pq' got a bank of {rows} rows; it needs {_LEAST_ROWS} to learn from. "
            "Use search='exact', which is fast for such a bank, or a larger ratio."
        )


class Rows:
    """Rows (M, D), searched in a few of many lists by 8-bit codes; what is found is measured exactly.

    For banks that are too large for exact search. docs/recipes.md has its measured recall.

    Errors: UsageError for too few rows, MissingExtraError without FAISS.
    """

    def __init__(
        self, rows: Tensor, learned: Mapping[str, Tensor] | None = None, *, probes: int = 32, candidates: int = 64
    ) -> None:
        m, d = rows.shape
        check(m)
        import faiss

        self.rows, self.candidates = rows, candidates
        parts = learned["bank.codes"].shape[1] if learned else max(part for part in range(1, 65) if d % part == 0)
        lists = len(learned["bank.lists"]) if learned else 2 ** round(math.log2(4 * m**0.5))
        self._index: Any = faiss.index_factory(d, f"IVF{lists},PQ{parts}")
        faiss.ParameterSpace().set_index_parameter(self._index, "nprobe", min(probes, lists))
        cast(Any, self._index).cp.min_points_per_centroid = 1  # FAISS would warn of fewer than 39 rows for a list
        values = rows.cpu().numpy()
        with threadpool_limits(torch.get_num_threads(), user_api="openmp"):
            if learned:
                self._set(learned)
            else:
                self._index.train(values)
                self._index.add(values)

    def tensors(self) -> dict[str, Tensor]:
        """What was learned: the centres of the lists, the codebooks, and each row's list and code.

        Plain numbers, which can be checked: FAISS was not made to read an index of its own from a stranger.
        """
        import faiss

        index, d = self._index, self._index.d
        where, codes = np.empty(index.ntotal, np.int32), np.empty((index.ntotal, index.pq.M), np.uint8)
        for number in range(index.nlist):
            if size := index.invlists.list_size(number):
                own = faiss.rev_swig_ptr(index.invlists.get_ids(number), size).copy()
                where[own] = number
                found = faiss.rev_swig_ptr(index.invlists.get_codes(number), size * index.pq.M)
                codes[own] = found.reshape(size, -1)
        books = faiss.vector_to_array(index.pq.centroids).reshape(index.pq.M, index.pq.ksub, d // index.pq.M)
        centres = index.quantizer.reconstruct_n(0, index.nlist)
        arrays = (centres, books, where, codes)
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in zip(LEARNED, arrays, strict=True)}

    def _set(self, learned: Mapping[str, Tensor]) -> None:
        """The index that `tensors` has described, to the bit."""
        import faiss

        centres, books, where, codes = (learned[name].cpu().numpy() for name in LEARNED)
        index = self._index
        index.quantizer.add(np.ascontiguousarray(centres))
        faiss.copy_array_to_vector(np.ascontiguousarray(books).ravel(), index.pq.centroids)
        order = where.argsort(kind="stable")  # within a list, rows ascend
        ends = np.searchsorted(where[order], np.arange(index.nlist + 1))
        for number, (begin, end) in enumerate(pairwise(ends)):
            if end > begin:
                own = order[begin:end].astype(np.int64)
                code = np.ascontiguousarray(codes[own])
                index.invlists.add_entries(number, int(end - begin), faiss.swig_ptr(own), faiss.swig_ptr(code))
        index.ntotal, index.is_trained = len(where), True
        index.precompute_table()

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """As `maths.neighbours.nearest`, except that a true neighbour may be missing."""
        k = min(k, len(self.rows))
        with threadpool_limits(torch.get_num_threads(), user_api="openmp"):
            _, found = self._index.search(queries.cpu().numpy(), max(k, self.candidates))
        rows = torch.from_numpy(found).to(queries.device)
        distances = torch.cat(
            [
                squared(q[:, None], self.rows[r.clamp(min=0)]).masked_fill_(r < 0, torch.inf)
                for q, r in zip(queries.split(64), rows.split(64), strict=True)
            ]
        )
        best = distances.sort(dim=1, stable=True)
        return best.values[:, :k].sqrt(), rows.gather(1, best.indices[:, :k])
