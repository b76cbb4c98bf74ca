"""The memory bank: rows with their provenance, searched exactly or by FAISS inverted lists."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from patchcore.errors import MissingExtraError, UsageError
from patchcore.maths.neighbours import Points, nearest, squared

MARGIN = 1.5  # a new image's patches are farther from the rows than those from each other, of a defect by more


@dataclass(frozen=True)
class Bank:
    """The remembered patches.

    Attributes:
        rows: (M, D) float32; values fit half precision unless the rows were imported.
        origins: (M, 3) int32, the training image, grid row and grid column of each row; -1 where unknown. (M, 4) if
            augmented copies are remembered too: last, 0 for the image itself or n for the n-th of `Recipe.augment`,
            on whose own grid the place is.
        scales: (D,), what each value of a patch is multiplied by, remembered or new.
        search: How rows are found: `exact` or `ivf_pq`.
    """

    rows: Tensor
    origins: Tensor
    scales: Tensor
    search: str = "exact"

    def nearest(self, patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances (N, k), ascending, and indices (N, k) of the rows nearest to patches (N, D)."""
        if self.search == "ivf_pq":
            return self.lists.nearest(patches, k)
        return nearest(patches, self.points, k)

    @cached_property
    def points(self) -> Points:
        """The rows, prepared for exact search."""
        return Points(self.rows, margin=MARGIN)

    @cached_property
    def lists(self) -> IvfPq:
        """The rows, prepared for approximate search."""
        return IvfPq(self.rows)

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps: half the size wherever that loses nothing, as for all banks that `fit` makes."""
        half = self.rows.to(torch.float16)
        rows = half if torch.equal(half.float(), self.rows) else self.rows
        return {"bank.rows": rows, "bank.origins": self.origins, "bank.scales": self.scales}


_LEAST_ROWS = 39 * 256  # FAISS trains 256 centroids per sub-quantiser on no fewer than 39 rows each


def check_ivf_pq(rows: int) -> None:
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


class IvfPq:
    """Rows (M, D), searched in a few of many lists by 8-bit codes; what is found is measured exactly.

    For banks that are too large for exact search. docs/recipes.md has its measured recall.

    Errors: UsageError for too few rows, MissingExtraError without FAISS.
    """

    def __init__(self, rows: Tensor, *, probes: int = 32, candidates: int = 64) -> None:
        m, d = rows.shape
        check_ivf_pq(m)
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
