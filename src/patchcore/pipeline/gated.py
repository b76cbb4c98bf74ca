"""Gated: what tells images that do not show the part, from good images and from images that show nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from patchcore.data.sample import Sample
from patchcore.model.album import Album
from patchcore.pipeline.embed import Embedder
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import Loaded
from patchcore.recipe.recipe import Recipe
from patchcore.verdict.gate import gate_limit

_GREYS = (0.0, 0.5, 1.0)
_NOISE = 0.03  # of a camera that sees nothing else, as a standard deviation


@undisturbed()
def gated(
    album: Album, parts: Sequence[str], embedder: Embedder, scales: Tensor, recipe: Recipe
) -> tuple[Album, float | None]:
    """The album of the good images, and the limit of the gate; both without a gate if the recipe or the images say so.

    `parts`: what each image shows; `embedder`, `scales`: of the first member.
    """
    means, limit = album.means, None
    if recipe.gate == "means" and means is not None:
        limit = gate_limit(means.to(scales) * scales, parts, nothing(embedder) * scales)
    return replace(album, means=means if limit else None), limit


def nothing(embedder: Embedder) -> Tensor:
    """The means (6, D) of the patches of images that are black, grey or white, without and with noise."""
    found = [embedder([image])[0].values for image in _images(embedder)]
    return torch.stack([values.mean(0) for values in found if len(values)])


def _images(embedder: Embedder) -> Iterator[Loaded]:
    recipe = embedder.recipe
    low, high = recipe.value_range or (0.0, 1.0)
    noise = np.random.default_rng(0).standard_normal((*recipe.window, 1)) * _NOISE
    for grey in _GREYS:
        for values in (0 * noise + grey, noise + grey):
            pixels = (low + values.clip(0, 1) * (high - low)).astype(np.float32)
            yield Loaded(Sample("made up", pixels), pixels, (low, high))
