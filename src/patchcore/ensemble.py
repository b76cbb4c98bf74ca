"""Ensemble: several recipes, one Result.

Each image is read once; every member embeds it and compares it with a bank of its own. Patch
scores are joined on the first member's grid (`maths/joining.py`); image score, map and thresholds
come from the joined scores as they do from those of a single recipe.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from patchcore.calibration import Calibration, hold_out, unseen
from patchcore.data import datasets
from patchcore.data.datasets import Sample
from patchcore.data.loading import Loaded, in_order
from patchcore.embedder import Embedded, Embedder, Framed
from patchcore.fitting import backbone_for, calibrate, choose, digested, map_maximum, remember, with_versions
from patchcore.maths.joining import join
from patchcore.maths.scaling import score_unit, spread_unit
from patchcore.memory.bank import Bank
from patchcore.memory.patches import PatchStore
from patchcore.recipe import Recipe
from patchcore.scores import Grid, image_score, patch_scores

log = logging.getLogger(__name__)

Scored = tuple[Tensor, Tensor]  # patch scores (h, w), nearest rows (h, w, k)


def embedder_for(recipe: Recipe, network: nn.Module | None, fitted: Embedder | None, device: torch.device) -> Embedder:
    """The embedder of a recipe, or of its members; with the backbones of the one that was fitted before, if any."""
    before = [None] * len(recipe.parts) if fitted is None else members_of(fitted)
    made = [
        Embedder(part, backbone_for(part, network, old), device) for part, old in zip(recipe.parts, before, strict=True)
    ]
    return Embedders(*made) if recipe.members else made[0]


def members_of(embedder: Embedder) -> tuple[Embedder, ...]:
    """The embedders of an ensemble; one that is alone, alone."""
    return (embedder, *embedder.others) if isinstance(embedder, Embedders) else (embedder,)


class Embedders(Embedder):
    """The embedders of an ensemble; itself the first member's, with the others' results beside its own."""

    def __init__(self, first: Embedder, *others: Embedder) -> None:
        vars(self).update(vars(first))
        self.others = others

    def _placed(self, loaded: Loaded) -> Framed:
        return replace(super()._placed(loaded), others=tuple(other._placed(loaded) for other in self.others))

    def _embed(self, framed: list[Framed]) -> Iterator[Embedded]:
        of_others = [other._embed([one.others[number] for one in framed]) for number, other in enumerate(self.others)]
        for first, *others in zip(super()._embed(framed), *of_others, strict=True):
            seconds = sum(one.seconds for one in (first, *others))
            yield replace(first, others=tuple(others), seconds=seconds)


@dataclass(frozen=True)
class Banks(Bank):
    """The banks of an ensemble; itself the first member's, whose rows results name."""

    members: tuple[Bank, ...] = ()
    recipes: tuple[Recipe, ...] = ()
    units: tuple[float, ...] = ()  # what each member's patch scores are divided by

    @classmethod
    def of(cls, members: Sequence[Bank], recipes: Sequence[Recipe], units: Sequence[float]) -> Banks:
        first = {field.name: getattr(members[0], field.name) for field in fields(Bank)}
        return cls(**first, members=tuple(members), recipes=tuple(recipes), units=tuple(units))


def banks_of(bank: Bank) -> tuple[Bank, ...]:
    """The banks of an ensemble; one that is alone, alone."""
    return bank.members if isinstance(bank, Banks) else (bank,)


def score(one: Embedded, bank: Banks) -> tuple[float, Tensor, Tensor]:
    """Image score, joined patch scores (h, w), and the first member's nearest rows (h, w, k)."""
    parts = (one, *one.others)
    scored = _against(bank.members, bank.recipes, [(part.patches, part.grid) for part in parts])
    joined = join([scores for scores, _ in scored], [part.frame for part in parts], bank.units)
    rows = scored[0][1]
    return image_score(bank.recipes[0], bank.members[0], one.patches, joined, rows), joined, rows


def learn(
    embedder: Embedder,
    found: Iterable[Sample],
    calibration: Iterable[Sample] | None,
    spill_limit: int | None,
    progress: bool,
    options: dict[str, Any],
) -> tuple[Bank, Calibration, str]:
    """What `fitting.learn` does, for several members: images are read once, banks chosen one after the other."""
    members, recipe, threads = members_of(embedder), embedder.recipe, options["threads"]
    stores, title = _stores(members, spill_limit), "Reading good images" if progress else None
    read = remember(stores, embedder.stream(found, partial(with_versions, members), progress=title, **options))
    share = recipe.calibration_share if calibration is None else 0.0
    kept, held_out = hold_out(len(read.names), share, recipe.seed)
    names, fingerprint = datasets.relative(read.names), read.fingerprint
    recipes = [one.recipe for one in members]
    banks = [choose(one.recipe, s, kept, names, one.device, progress) for one, s in zip(members, stores, strict=True)]
    if calibration is not None:
        stores, title = _stores(members, spill_limit), "Calibrating" if progress else None
        held = embedder.stream(calibration, digested, progress=title, **options)
        read = remember(stores, unseen(held, set(read.digests)))
        held_out = list(range(len(read.names)))

    def patches(store: PatchStore, image: int) -> tuple[Tensor, Grid]:
        return store.of(image).to(embedder.device).float(), store.grids[image]

    # First each member alone, which gives the units; then, with them, all together.
    each = ([patches(store, i) for store in stores] for i in held_out)
    alone = list(in_order(partial(_against, banks, recipes), each, threads))
    bank = Banks.of(banks, recipes, _units(banks, recipes, alone))

    def score_and_maximum(one: tuple[int, list[Scored], Tensor]) -> tuple[float, float]:
        image, scored, first = one
        frames = read.frames[image]
        joined = join([scores for scores, _ in scored], frames, bank.units)
        value = image_score(recipe, banks[0], first, joined, scored[0][1])
        return value, map_maximum(recipe, joined, frames[0])

    good = ((i, scored, patches(stores[0], i)[0]) for i, scored in zip(held_out, alone, strict=True))
    return bank, calibrate(recipe, in_order(score_and_maximum, good, threads)), fingerprint


def _stores(members: Sequence[Embedder], limit: int | None) -> list[PatchStore]:
    return [PatchStore(None if limit is None else limit // len(members)) for _ in members]


def _against(banks: Sequence[Bank], recipes: Sequence[Recipe], patches: Sequence[tuple[Tensor, Grid]]) -> list[Scored]:
    """The patches and grid of each member against its bank."""
    return [patch_scores(recipe, bank, *own) for recipe, bank, own in zip(recipes, banks, patches, strict=True)]


def _units(banks: Sequence[Bank], recipes: Sequence[Recipe], alone: Sequence[list[Scored]]) -> tuple[float, ...]:
    """What each member's patch scores are divided by."""
    if alone:
        return tuple(score_unit(scores for scores, _ in own) for own in zip(*alone, strict=True))
    log.warning(
        "No good image was held out, so the members' scores are joined by how far their bank rows spread, which is "
        "coarse. Hold some out (calibration_share), or give others: calibration=, or --calibration DIR."
    )
    return tuple(spread_unit(b.rows, r.distance == "squared_l2") for b, r in zip(banks, recipes, strict=True))
