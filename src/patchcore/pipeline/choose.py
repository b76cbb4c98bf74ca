"""Choosing: patches to memory banks, and the good images that no bank has seen."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from patchcore.errors import DataError
from patchcore.maths.coreset import Selection
from patchcore.maths.embedding import scales_of, tap_scales
from patchcore.memory.bank import Bank, check_search
from patchcore.memory.patches import PatchStore, Rows
from patchcore.pipeline.calibrate import Trial
from patchcore.pipeline.decide import foretold, spread
from patchcore.pipeline.embed import Grid
from patchcore.pipeline.roi import OUTSIDE
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import progress_bar
from patchcore.recipe.recipe import Recipe

if TYPE_CHECKING:
    from patchcore.pipeline.learn import Remembered

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """A bank, and what the images it was chosen from are scored with.

    Attributes:
        bank: Of all of them.
        folds: For each fold, the bank of the images that are not in it, of as many rows for as many patches.
        rows: All patches, in the bank's scale; begins: where in them those of an image begin.
    """

    bank: Bank
    folds: Sequence[Bank]
    rows: Rows
    begins: Tensor

    def patches(self, image: int, grid: Grid, cells: Tensor | None) -> Tensor:
        """Those of an image itself, (n, D)."""
        begin = int(self.begins[image])
        count = grid[0] * grid[1] if cells is None else int((cells != OUTSIDE).sum())
        return self.rows.take(slice(begin, begin + count))


@undisturbed()
def choose(
    recipe: Recipe,
    patches: PatchStore,
    kept: list[int],
    device: torch.device,
    progress: bool,
    widths: Sequence[int] = (),
    fold_of: Sequence[int] = (),
) -> Chosen:
    """The bank: the coreset of the patches of the images that were kept, which leave the store.

    `widths`: values of each tap in a patch, if they lie side by side; `fold_of`: each image's fold, if they are to be
    scored.
    """
    if not kept:
        raise DataError("There are no good images to learn from. Give a folder, table or list that has some.")
    scales = None
    if recipe.scaling == "channel":
        scales = scales_of(patches.moments(kept))
    elif recipe.scaling == "taps" and len(widths) > 1 and len(kept) > 1:
        scales = tap_scales(*foretold([patches.of(image).float() for image in spread(kept)]), widths)
    origins = patches.origins_of(kept)
    rows = patches.rows(kept, scales, device)
    image_of = origins[:, 0].contiguous()
    fold = torch.tensor(fold_of)[image_of.long()] if fold_of else image_of
    among = [None, *(fold != number for number in range(max(fold_of, default=-1) + 1))]
    counts = [len(rows) if one is None else int(one.sum()) for one in among]
    picks = [min(max(recipe.min_rows, int(count * recipe.ratio)), recipe.max_rows, count) for count in counts]
    # Refused before the work, not by the first search.
    check_search(recipe.search, len(rows) if recipe.coreset == "identity" else min(picks))
    told = [0]  # patches chosen so far

    def tell(count: int) -> None:
        advance(count - told[-1])
        told.append(count)

    with progress_bar("Choosing patches" if progress else None, "patch", sum(picks)) as advance:
        how = Selection(
            recipe.coreset,
            recipe.start,
            recipe.seed,
            recipe.projection if rows.width >= recipe.projection_from else "none",
            recipe.projection_dims,
        )
        chosen = rows.selections(list(zip(picks, among, strict=True)), how, tell)
    if recipe.neighbours > picks[0]:
        log.warning("neighbours is %d, more than the %d rows of the bank.", recipe.neighbours, picks[0])
    scales = (torch.ones(rows.width) if scales is None else scales).to(device)
    banks = [Bank(rows.take(own).float().to(device), origins[own.cpu()], scales, recipe.search) for own in chosen]
    begins = torch.searchsorted(image_of, torch.arange(max(kept) + 1, dtype=image_of.dtype))
    return Chosen(banks[0], banks[1:], rows, begins)


def trials(
    good: Remembered, numbers: Iterable[int], chosen: Sequence[Chosen], fold_of: Sequence[int]
) -> Iterator[Trial]:
    """The good images with these numbers, each against banks that have not seen it: those of its fold, if there are."""
    for number in numbers:
        grids, banks, patches = [store.grids[number] for store in good.stores], list[Bank](), list[Tensor]()
        for own, store, grid, cells in zip(chosen, good.stores, grids, good.cells[number], strict=True):
            # Here, not in a thread: they would share the store's file.
            one, rows = store.of, own.bank.rows
            scaled = own.patches(number, grid, cells) if fold_of else one(number).to(rows) * own.bank.scales
            banks.append(own.folds[fold_of[number]] if fold_of else own.bank)
            patches.append(scaled.to(own.bank.rows))
        yield Trial(banks, patches, grids, good.frames[number], good.cells[number])
