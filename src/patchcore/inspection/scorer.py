"""NearestNeighbourScorer: patch scores from the distances to the patches in the memory bank."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchcore.errors import StoreError, UsageError
from patchcore.inspection import marker, pickled_array
from patchcore.inspection.neighbours import ExactNN, FaissNN, NearestNeighbours
from patchcore.maths import scoring
from patchcore.maths.embedding import average_bins
from patchcore.model import store

log = logging.getLogger(__name__)
Array = NDArray[Any]


class ConcatMerger:
    """Joins the features of several layers: flattens each, then concatenates them."""

    def merge(self, features: Any) -> Array:
        """A list of arrays or tensors (N, ...) -> (N, D), float32. Errors: UsageError."""
        if isinstance(features, np.ndarray | Tensor) or not len(features):
            raise UsageError("features must be a list of arrays, one for each layer: [features].")
        arrays = [np.asarray(f.detach().cpu() if isinstance(f, Tensor) else f, np.float32) for f in features]
        if len({len(array) for array in arrays}) > 1:
            raise UsageError(f"The layers have {[len(array) for array in arrays]} rows; expected the same number.")
        return np.concatenate([self._reduce(array) for array in arrays], axis=1)

    def _reduce(self, features: Array) -> Array:
        return features.reshape(len(features), int(np.prod(features.shape[1:])))


class AverageMerger(ConcatMerger):
    """The same for feature maps (N, C, h, w), averaged over all positions: (N, sum of C)."""

    def _reduce(self, features: Array) -> Array:
        n, c = features.shape[:2]
        return average_bins(torch.from_numpy(features).reshape(n * c, -1), 1).reshape(n, c).numpy()


class NearestNeighbourScorer:
    """Scores by the mean squared distance to the `n_nearest_neighbours` nearest rows of the memory bank.

    `nn_method`: ExactNN, FaissNN, ApproximateFaissNN, or anything with their methods; None: ExactNN().
    Errors: UsageError, NotFittedError.
    """

    def __init__(self, n_nearest_neighbours: int, nn_method: NearestNeighbours | None = None) -> None:
        if isinstance(n_nearest_neighbours, bool) or n_nearest_neighbours < 1:
            raise UsageError(f"n_nearest_neighbours is {n_nearest_neighbours!r}; it must be at least 1.")
        self.n_nearest_neighbours = n_nearest_neighbours
        self.nn_method = ExactNN() if nn_method is None else nn_method
        self.feature_merger = ConcatMerger()
        self.detection_features: Array | None = None

    def imagelevel_nn(self, query: Array) -> tuple[Array, Array]:
        """Squared distances (N, k) and indices (N, k) of the nearest rows of the memory bank."""
        return self.nn_method.run(self.n_nearest_neighbours, query)

    def pixelwise_nn(self, query: Array, index: Array) -> tuple[Array, Array]:
        """The same for the one nearest row of `index`, which is not kept."""
        return self.nn_method.run(1, query, index)

    def fit(self, detection_features: Sequence[Array | Tensor]) -> None:
        """Keep features, a list of (N, D_i), one for each layer, as the memory bank, replacing an earlier one."""
        features = self.feature_merger.merge(detection_features)
        if len(features) < self.n_nearest_neighbours:
            log.warning(
                "n_nearest_neighbours is %d, more than the %d rows to search.", self.n_nearest_neighbours, len(features)
            )
        self.nn_method.fit(features)
        self.detection_features = features

    def predict(self, query_features: Sequence[Array | Tensor]) -> tuple[Array, Array, Array]:
        """A list of (N, D_i) as for `fit` -> scores (N,), squared distances (N, k), indices (N, k)."""
        distances, rows = self.imagelevel_nn(self.feature_merger.merge(query_features))
        # They are squared already; `l2` does not square them again.
        scores = scoring.patch_scores(torch.from_numpy(distances), "l2").numpy()
        return scores, distances, rows

    def save(self, save_folder: str | Path, save_features_separately: bool = False, prepend: str = "") -> None:
        """Write `{prepend}nnscorer_search_index`, as `.safetensors` or, by FAISS, as `.faiss`.

        Beside `.safetensors` there is a small `.faiss` file that says so (see `marker`). `save_features_separately`:
        also write the features, as `{prepend}nnscorer_features.safetensors`. Each file appears whole or not at all; an
        old index of the other kind is replaced or deleted. Errors: NotFittedError, StoreError.
        """
        path = self._index_file(save_folder, prepend, getattr(self.nn_method, "suffix", ".faiss"))
        self.nn_method.save(path)
        if path.suffix == ExactNN.suffix:
            marker.write(self._index_file(save_folder, prepend, FaissNN.suffix), path)
        else:  # of a model that was there before
            self._index_file(save_folder, prepend, ExactNN.suffix).unlink(missing_ok=True)
        if save_features_separately:
            if self.detection_features is None:
                raise UsageError("The features were not kept: this index was loaded from a file. Call fit first.")
            features = torch.from_numpy(self.detection_features)
            store.write(self._features_file(save_folder, prepend), {"features": features}, {"kind": "features"})

    def save_and_reset(self, save_folder: str | Path) -> None:
        """Save the index, then free its memory."""
        self.save(save_folder)
        self.nn_method.reset_index()

    def load(self, load_folder: str | Path, prepend: str = "") -> None:
        """Read what `save` has written, or a trusted `.faiss` file of patchcore-inspection and its features.

        The features' `.pkl` file is read without running any code in it. Errors: StoreError.
        """
        suffixes = dict.fromkeys([getattr(self.nn_method, "suffix", ".faiss"), ExactNN.suffix, FaissNN.suffix])
        found = [self._index_file(load_folder, prepend, suffix) for suffix in suffixes]
        path = next((path for path in found if path.is_file()), None)
        if path is None:
            raise StoreError(f"{load_folder} holds no {' or '.join(path.name for path in found)}.")
        self.nn_method.load(path)
        self.detection_features = self._features(self._features_file(load_folder, prepend))

    @staticmethod
    def _features(path: Path) -> Array | None:
        """Features that are stored separately, in our file or in patchcore-inspection's; None if there are none."""
        if not path.is_file():
            pickled = path.with_suffix(".pkl")
            return pickled_array.read(pickled) if pickled.is_file() else None
        tensors, _ = store.read(path)
        if "features" not in tensors:
            raise StoreError(f"{path}: holds no features. Expected a file that `save` has written.")
        return tensors["features"].numpy()

    @staticmethod
    def _index_file(folder: str | Path, prepend: str, suffix: str) -> Path:
        return Path(folder) / f"{prepend}nnscorer_search_index{suffix}"

    @staticmethod
    def _features_file(folder: str | Path, prepend: str) -> Path:
        return Path(folder) / f"{prepend}nnscorer_features.safetensors"
