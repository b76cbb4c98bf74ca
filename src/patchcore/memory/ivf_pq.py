"""Approximate search by inverted lists and product quantisation, FAISS's IVF-PQ."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from patchcore.errors import MissingExtraError, UsageError
from patchcore.maths.neighbours import squared

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

    def __init__(self, rows: Tensor, *, probes: int = 32, candidates: int = 64) -> None:
        m, d = rows.shape
        check(m)
        import faiss

        self.rows, self.candidates = rows, candidates
        parts = max(part for part in range(1, 65) if d % part == 0)
        lists = 2 ** round(math.log2(4 * m**0.5))
        self._index: Any = faiss.index_factory(d, f"IVF{lists},PQ{parts}")
        faiss.ParameterSpace().set_index_parameter(self._index, "nprobe", min(probes, lists))
        cast(Any, self._index).cp.min_points_per_centroid = 1  # FAISS would warn of fewer than 39 rows for a list
        values = rows.cpu().numpy()
        with threadpool_limits(torch.get_num_threads(), user_api="openmp"):
            self._index.train(values)
            self._index.add(values)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """As `maths.neighbours.nearest`, except that a true neighbour may be missing."""
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
