"""Choices: what a recipe leaves to `auto`, from good images alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TypeVar

import torch
from torch import Tensor

from patchcore.backbones.registry import Backbone
from patchcore.data.formats import Depth
from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.maths.embedding import arrangement, open_share
from patchcore.maths.exposure import blocks_of, variation
from patchcore.maths.neighbours import Points, nearest
from patchcore.model.fitted import Measured
from patchcore.pipeline.embed import Embedder, check_by
from patchcore.pipeline.roi import check_areas
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import Loaded, through
from patchcore.recipe.recipe import Recipe
from patchcore.recipe.rules import AUTO, SIZE, SMALLER

T = TypeVar("T")
_LIGHT = 32  # images that tell how light varies
_PATCHES = 16  # of them, images whose patches tell how they are arranged; every fourth is the new one
_MOST = 16_384  # patches of those, so that large images cost no more


def decided(
    recipe: Recipe,
    backbones: Sequence[Backbone],
    device: torch.device,
    samples: Iterable[Sample],
    reading: Reading,
    progress: bool,
    place: Callable[[list[Loaded]], Sequence[Loaded]] = lambda batch: batch,
) -> tuple[Recipe, Measured, Iterable[Sample], str]:
    """The recipe with a choice in the place of every `auto`; what was measured for it; and the samples to learn from.
    `place`: how images are brought to their place.

    Last what to say of the choices, once all images could be read.

    Of a list, images from all over it are looked at; of a generator the first ones, as it is gone through once. All
    members of an ensemble take the same choices.
    """
    open_fields = [name for name in AUTO if any(getattr(one, name) == "auto" for one in recipe.each)]
    if not open_fields:
        return recipe, Measured(), samples, ""
    some, samples = first_look(samples, _LIGHT)
    reading = replace(reading, on_bad=lambda _: None)  # what is wrong with an image is said when it is learned
    light = arranged = None
    if "exposure" in open_fields:
        light = _light(recipe, some, reading, "Looking at good images" if progress else None)
        recipe = _chosen(recipe, "exposure", "as_is" if light is not None and light <= 1 else "even")
    if {"size", "pool", "scaling"} & set(open_fields):
        number = next(n for n, one in enumerate(recipe.each) if "auto" in (one.size, one.pool, one.scaling))
        with undisturbed():
            embedder = Embedder(recipe.each[number].replace(pool="quarters", merge="concat"), backbones[number], device)
        arranged = _arrangement(embedder, list(spread(some)), reading, place)
        tells = arranged is None or arranged <= 1
        stated = recipe.members or recipe.crop or recipe.tile  # what the network sees, or how that differs
        recipe = _chosen(recipe, "size", SIZE if tells or stated else SMALLER)
        recipe = _chosen(recipe, "pool", "quarters" if tells else "mean")
        recipe = _chosen(recipe, "scaling", "taps" if tells else "channel")
    why = "Chosen from the good images" if (light, arranged) != (None, None) else "Taken, as one image tells nothing"
    told = f"{why}: {', '.join(f'{name}={getattr(recipe.each[0], name)}' for name in open_fields)}."
    return recipe, Measured(light, arranged), samples, told


def _chosen(recipe: Recipe, name: str, value: str | int) -> Recipe:
    if recipe.members:
        return recipe.replace(members=[_chosen(member, name, value) for member in recipe.members])
    return recipe.replace(**{name: value}) if getattr(recipe, name) == "auto" else recipe


def _light(recipe: Recipe, samples: list[Sample], reading: Reading, title: str | None) -> float | None:
    def blocks(batch: list[Loaded]) -> list[tuple[bytes, Tensor]]:
        return [(one.digest, blocks_of(one.image)) for one in batch]

    found = dict(through(blocks, samples, reading, recipe.each[0].value_range, progress=title))
    return variation(torch.stack(list(found.values()))) if len(found) > 1 else None


def _arrangement(
    embedder: Embedder, samples: list[Sample], reading: Reading, place: Callable[[list[Loaded]], Sequence[Loaded]]
) -> float | None:
    def patches(batch: list[Loaded]) -> list[tuple[bytes, Tensor]]:
        found = embedder(place(batch))
        for one, own in zip(batch, found, strict=True):
            check_areas(embedder.recipe, one.sample.name, own.cells)
        return [(one.digest, own.values) for one, own in zip(batch, found, strict=True)]

    check = check_by([embedder], Depth(), reading.max_pixels)
    found = dict(through(patches, samples, reading, embedder.recipe.value_range, check=check))  # copies count once
    if len(found) < 2:
        return None
    with undisturbed():
        channels = embedder.backbone.extractor.channels[0]
        new, known = foretold(list(found.values()))
        return open_share(arrangement(new, channels), arrangement(known, channels))


def first_look(samples: Iterable[Sample], most: int) -> tuple[list[Sample], Iterable[Sample]]:
    """Some samples, and all of them: of a list from all over it, of what is gone through once the first ones."""
    if isinstance(samples, list):
        return list(spread(samples, most)), samples
    rest = iter(samples)
    some = list(islice(rest, most))
    return some, chain(some, rest)


def spread(items: Sequence[T], most: int = _PATCHES) -> Sequence[T]:
    """At most so many, from all over them."""
    return items[:: max(1, -(-len(items) // most))]


def foretold(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Patches of every fourth of two or more images (N, D), and for each of them the nearest in the other images."""
    new, known = (
        torch.cat([one for n, one in enumerate(images) if (n % 4 == 1) == is_new]) for is_new in (True, False)
    )
    new, known = new[:: -(-len(new) * 4 // _MOST)], known[:: -(-len(known) // _MOST)]
    _, rows = nearest(new, Points(known), 1)
    return new, known[rows[:, 0]]
