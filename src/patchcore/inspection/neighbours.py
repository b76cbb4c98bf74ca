"""Nearest-neighbour search with one interface: our exact search, FAISS's exact search, FAISS's IVF-PQ."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchcore.errors import MissingExtraError, NotFittedError, StoreError, UsageError
from patchcore.files import appearing, opened
from patchcore.inspection.marker import followed
from patchcore.maths.neighbours import Points, nearest
from patchcore.model import store

Array = NDArray[Any]

_KIND = "nearest-neighbour rows"


class NoIndexError(NotFittedError, AttributeError):
    """A search that nothing was given to; patchcore-inspection's is an AttributeError there."""


class NearestNeighbours:
    """The interface of the searches. All distances are squared Euclidean distances, ascending.

    `suffix`: suffix of the files that `save` writes. A search can load the files of the others if they
    contain the rows.
    """

    suffix = ".faiss"

    def fit(self, features: Array) -> None:
        """Build the index from rows (N, D), replacing the previous one."""
        raise NotImplementedError

    def run(
        self, n_nearest_neighbours: int, query_features: Array, index_features: Array | None = None
    ) -> tuple[Array, Array]:
        """Distances (Q, k), float32, and indices (Q, k), int64, of the rows nearest to queries (Q, D).

        `index_features` (M, D): search these instead, in a temporary index. An index with fewer than k rows
        returns all of them. Errors: NotFittedError, UsageError.
        """
        raise NotImplementedError

    def rows(self) -> Array:
        """The rows (N, D) of the index. Errors: NotFittedError."""
        raise NotImplementedError

    def save(self, filename: str | Path) -> None:
        """Write the index, whole or not at all. Errors: NotFittedError, StoreError."""
        raise NotImplementedError

    def load(self, filename: str | Path) -> None:
        """Read an index. Errors: StoreError, MissingExtraError for a .faiss file without FAISS."""
        raise NotImplementedError

    def reset_index(self) -> None:
        """Delete the index and free its memory."""
        raise NotImplementedError


class ExactNN(NearestNeighbours):
    """Exact search by bounds (see `maths.neighbours`). Needs no extra, and is exact near 0 too."""

    suffix = ".safetensors"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.search_index: Points | None = None

    def fit(self, features: Array) -> None:
        self.search_index = self._points(features)

    def run(
        self, n_nearest_neighbours: int, query_features: Array, index_features: Array | None = None
    ) -> tuple[Array, Array]:
        points = _fitted(self.search_index) if index_features is None else self._points(index_features)
        queries = _checked(n_nearest_neighbours, query_features, points.rows.shape[1])
        if not len(queries):
            k = min(n_nearest_neighbours, len(points.rows))
            return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
        distances, rows = nearest(torch.from_numpy(queries).to(self.device), points, n_nearest_neighbours)
        return distances.square().cpu().numpy(), rows.cpu().numpy()

    def rows(self) -> Array:
        return _fitted(self.search_index).rows.cpu().numpy()

    def save(self, filename: str | Path) -> None:
        rows = torch.from_numpy(self.rows())
        store.write(filename, {"rows": rows}, {"kind": _KIND, "versions": store.versions()})

    def load(self, filename: str | Path) -> None:
        self.fit(_read_rows(filename))

    def reset_index(self) -> None:
        self.search_index = None

    def _points(self, features: Array) -> Points:
        return Points(torch.from_numpy(_rows(features, "features")).to(self.device))


class FaissNN(NearestNeighbours):
    """FAISS's flat index (extra `patchcore[faiss]`).

    `on_gpu` needs a FAISS that was built for GPUs; the index is on torch's current device. `num_workers`:
    threads that FAISS uses in a call; its process-wide setting is restored afterwards. Distances are
    FAISS's own: with many queries at a time, rounding makes zero distances slightly different from 0.

    Errors: MissingExtraError, UsageError.
    """

    def __init__(self, on_gpu: bool = False, num_workers: int = 4) -> None:
        if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
            raise UsageError(f"num_workers is {num_workers!r}; expected a number of threads, or 0 for FAISS's own.")
        if on_gpu and not hasattr(_faiss(), "StandardGpuResources"):
            raise UsageError(
                "on_gpu=True needs a FAISS that was built for GPUs; the one installed is not. Use on_gpu=False, or "
                "the default search, ExactNN(device), on any device of torch."
            )
        _faiss()
        self.on_gpu, self.num_workers = on_gpu, num_workers
        self.search_index: Any = None

    def fit(self, features: Array) -> None:
        rows = _rows(features, "features")
        with self._threads():
            self.search_index = self._index(rows)

    def run(
        self, n_nearest_neighbours: int, query_features: Array, index_features: Array | None = None
    ) -> tuple[Array, Array]:
        with self._threads():
            if index_features is None:
                index = _fitted(self.search_index)
            else:
                index = self._index(_rows(index_features, "index_features"))
            queries = _checked(n_nearest_neighbours, query_features, index.d)
            distances, rows = index.search(queries, min(n_nearest_neighbours, index.ntotal))
        return distances, rows

    def rows(self) -> Array:
        index = self._on_cpu()
        if not hasattr(index, "get_xb"):
            raise UsageError(f"{type(self).__name__} stores codes, not the rows themselves. Use FaissNN or ExactNN.")
        return index.reconstruct_n(0, index.ntotal)

    def save(self, filename: str | Path) -> None:
        index = self._on_cpu()
        with appearing(filename) as temporary:
            _faiss().write_index(index, str(temporary))

    def load(self, filename: str | Path) -> None:
        """As for every search. A `.faiss` file must be trusted: FAISS does not guard against hostile files."""
        filename = followed(filename, ExactNN.suffix)
        if filename.suffix == ExactNN.suffix:
            self.fit(_read_rows(filename))
        else:
            self.search_index = self._placed(_read_index(filename))

    def reset_index(self) -> None:
        self.search_index = None

    @contextmanager
    def _threads(self) -> Iterator[None]:
        faiss = _faiss()
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(self.num_workers or before)
        try:
            yield
        finally:
            faiss.omp_set_num_threads(before)

    def _index(self, rows: Array) -> Any:
        index = self._placed(_faiss().IndexFlatL2(rows.shape[1]))
        index.add(rows)
        return index

    def _placed(self, index: Any) -> Any:
        if not self.on_gpu:
            return index
        faiss = _faiss()
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), torch.cuda.current_device(), index)

    def _on_cpu(self) -> Any:
        index = _fitted(self.search_index)
        return _faiss().index_gpu_to_cpu(index) if self.on_gpu else index


class ApproximateFaissNN(FaissNN):
    """FAISS's IVF-PQ: 512 lists, codes of 64 parts with 8 bits each. For very large banks (extra `patchcore[faiss]`).

    `fit` needs at least 512 rows, with a multiple of 64 dimensions. It warns below 19,968 rows (39 for each
    list), which it needs to train its lists well. `search_index.nprobe` has FAISS's default of 1 unless it
    is set. Errors: UsageError, MissingExtraError.
    """

    LISTS, PARTS, BITS = 512, 64, 8
    _GOOD = 39 * LISTS

    def _index(self, rows: Array) -> Any:
        n, d = rows.shape
        if d % self.PARTS:
            raise UsageError(
                f"features has {d} dimensions; expected a multiple of {self.PARTS}. Choose such a "
                f"target_embed_dimension, for example {max(1, round(d / self.PARTS)) * self.PARTS}, or use FaissNN."
            )
        if n < self.LISTS:
            raise UsageError(
                f"features has {n} rows; {self.LISTS} lists need at least {self.LISTS} rows to train on. "
                "Use FaissNN, which is exact, and fast for so few."
            )
        if n < self._GOOD:
            warnings.warn(
                f"ApproximateFaissNN got {n} rows; below {self._GOOD:,} its lists are trained badly. FaissNN is exact, "
                "and fast for so few.",
                UserWarning,
                stacklevel=3,
            )
        faiss: Any = _faiss()
        index = faiss.IndexIVFPQ(faiss.IndexFlatL2(d), d, self.LISTS, self.PARTS, self.BITS)
        index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = (
            1  # the warning above replaces FAISS's own
        )
        index = self._placed(index)
        index.train(rows)
        index.add(rows)
        return index


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss-cpu", "faiss", "This search, or a .faiss file,") from None
    return faiss


def _fitted(index: Any) -> Any:
    if index is None:
        raise NoIndexError("There is no search index. Call fit(features) or load(filename) first.")
    return index


def _rows(features: Array, name: str) -> Array:
    """Rows (N, D) as contiguous float32. Errors: UsageError."""
    rows = np.ascontiguousarray(features, dtype=np.float32)
    if rows.ndim != 2 or not rows.size:
        raise UsageError(f"{name} has shape {rows.shape}; expected (N, D) with at least one row.")
    return rows


def _checked(k: int, queries: Array, dimensions: int) -> Array:
    """Queries (Q, D) as contiguous float32. Errors: UsageError."""
    if k < 1:
        raise UsageError(f"n_nearest_neighbours is {k}; it must be at least 1.")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != dimensions:
        raise UsageError(f"query_features has shape {queries.shape}; expected (Q, {dimensions}), as the index has.")
    return queries


def _read_rows(filename: str | Path) -> Array:
    """The rows of a file of either kind."""
    filename = followed(filename, ExactNN.suffix)
    if filename.suffix != ExactNN.suffix:
        index = _read_index(filename)
        if not hasattr(index, "get_xb"):
            raise StoreError(
                f"{filename}: a {type(index).__name__}, which stores codes, not rows. Load it with the search that "
                "wrote it, ApproximateFaissNN()."
            )
        return index.reconstruct_n(0, index.ntotal)
    tensors, header = store.read(filename, accept=_floats)
    if header.get("kind") != _KIND or "rows" not in tensors:
        raise StoreError(f"{filename}: holds no search index. Expected a file that ExactNN.save has written.")
    rows = tensors["rows"].float()
    if rows.ndim != 2 or not rows.numel() or not bool((rows.abs() <= 1e15).all()):
        raise StoreError(f"{filename}: its rows are no patches: {tuple(rows.shape)}, or values that are no numbers.")
    return rows.numpy()


def _floats(found: dict[str, store.Spec]) -> None:
    """Errors: ValueError, for tensors that are no rows or features."""
    for name, (kind, _) in found.items():
        if kind not in ("F16", "F32"):
            raise ValueError(f"{name[:100]!r} is {kind}; expected floats")


def _read_index(filename: str | Path) -> Any:
    faiss = _faiss()
    try:
        with opened(filename) as file:
            begin = file.read(11)
    except OSError as error:
        raise StoreError(f"{filename}: {error.strerror or error}.") from None
    if begin == b"version htt":  # Git LFS stores a text of three lines in place of the file
        raise StoreError(f"{filename}: a Git LFS pointer, not the index itself. Fetch it with: git lfs pull")
    try:
        return faiss.read_index(os.fspath(filename))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise StoreError(f"{filename}: not a FAISS index, or a damaged one ({reason}). Copy it again.") from None
