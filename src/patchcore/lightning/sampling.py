"""The coreset of an embedding, with anomalib's interface."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from patchcore.arguments import known_arguments
from patchcore.errors import UsageError
from patchcore.maths import coreset
from patchcore.maths.groups import Empty, in_memory
from patchcore.maths.neighbours import Points, nearest
from patchcore.recipe.recipe import Recipe


def check_ratio(name: str, ratio: float) -> None:
    """Raise UsageError unless the ratio is above 0 and at most 1."""
    if not 0 < ratio <= 1:
        raise UsageError(f"{name} is {ratio}; it must be above 0 and at most 1, for example 0.1.")


class KCenterGreedy:
    """Exact greedy k-center selection (paper alg. 1) of rows of `embedding` (N, D), without scanning all of them.

    `sampling_ratio`: share of the rows to pick, at least one. As in anomalib, rows are compared after a
    sparse random projection, and the first pick is random. Both use `seed`, by default that of the recipe
    `lightning`, so the same embedding gives the same rows. `empty` makes the tensors that choosing needs, from
    their shape and type; by default in memory.

    Attributes: `embedding`; `coreset_size`, number of rows to pick; `n_observations`, N; `features` (N, d),
    the projected rows; `min_distances` (N, 1), the distance of each projected row to its nearest pick,
    or None before the first selection.
    """

    @known_arguments
    def __init__(
        self, embedding: Tensor, sampling_ratio: float, *, seed: int | None = None, empty: Empty = in_memory
    ) -> None:
        check_ratio("sampling_ratio", sampling_ratio)
        if embedding.ndim != 2 or not len(embedding):
            raise UsageError(f"embedding has shape {tuple(embedding.shape)}; expected (patches, dimensions).")
        self.embedding = embedding
        self.n_observations = len(embedding)
        self.coreset_size = max(1, int(self.n_observations * sampling_ratio))
        recipe = Recipe.named("lightning")
        self._recipe = recipe if seed is None else recipe.replace(seed=seed)
        self._empty = empty
        self._picks: Tensor | None = None

    @cached_property
    def features(self) -> Tensor:
        recipe = self._recipe
        if self.embedding.shape[1] < recipe.projection_from:
            return self.embedding.float()
        return coreset.project(self.embedding, recipe.projection, recipe.projection_dims, recipe.seed).float()

    @property
    def min_distances(self) -> Tensor | None:
        if self._picks is None:
            return None
        return nearest(self.features, Points(self.features[self._picks]))[0]

    @torch.no_grad()
    def select_coreset_idxs(self, selected_idxs: Sequence[int] | None = None) -> list[int]:
        """The indices of the picked rows in order of picking, without `selected_idxs`, which are picked already."""
        if selected_idxs is None or not len(selected_idxs):
            recipe = self._recipe
            new = picks = coreset.select(
                self.embedding,
                self.coreset_size,
                method=recipe.coreset,
                projection=recipe.projection,
                projection_dims=recipe.projection_dims,
                projection_from=recipe.projection_from,
                start=recipe.start,
                seed=recipe.seed,
                empty=self._empty,
            )
        else:
            taken = torch.as_tensor(selected_idxs, device=self.embedding.device)
            free = torch.ones(self.n_observations, dtype=torch.bool, device=taken.device)
            free[taken] = False
            rest = free.nonzero().flatten()
            if not len(rest):
                return []
            distances, _ = nearest(self.features[rest], Points(self.features[taken]))
            size = min(self.coreset_size, len(rest))
            new = rest[coreset.k_center_greedy(self.features[rest], size, start=distances[:, 0])]
            picks = torch.cat([taken, new])
        self._picks = picks
        return [int(index) for index in new]

    def sample_coreset(self, selected_idxs: Sequence[int] | None = None) -> Tensor:
        """The picked rows of `embedding` (not of its projection), in the order of picking."""
        return self.embedding[self.select_coreset_idxs(selected_idxs)]
