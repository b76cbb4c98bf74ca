"""Calibrating: good images that a bank has not seen, to thresholds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import repeat
from statistics import median
from typing import NamedTuple

from torch import Tensor

from patchcore.maths.joining import score_unit, spread_unit
from patchcore.maths.resize import Frame
from patchcore.memory.bank import Bank
from patchcore.model.fitted import Member
from patchcore.pipeline.embed import Grid
from patchcore.pipeline.score import Scored, against, anomaly_map, joined, rated
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import in_order

log = logging.getLogger(__name__)
Tried = tuple[float, float, float, float]


class Trial(NamedTuple):
    """A good image, and for each member a bank that has not seen it, its patches in the bank's scale, their grid,
    where the image lay in the network's input, and which cells count (see `Patches`)."""

    banks: Sequence[Bank]
    patches: Sequence[Tensor]
    grids: Sequence[Grid]
    frames: Sequence[Frame]
    cells: Sequence[Tensor | None]


@undisturbed()
def calibrate(
    members: Sequence[Member], trials: Callable[[], Iterable[Trial]], threads: int | None, areas: int = 1
) -> tuple[list[Member], tuple[float, ...], list[Tried]]:
    """The members with the units of their scores; the units of areas, if there are several: the median of the scores
    that they have; and what `tried` gives."""
    several = max(len(members), areas) > 1
    scored = list(in_order(lambda one: _alone(members, one), trials(), threads)) if several else None
    weighed = [replace(m, unit=unit) for m, unit in zip(members, _units(members, scored), strict=True)]
    units = tuple([1.0] * areas if areas > 1 else [])
    if units and scored:
        plain = in_order(lambda one: _rate(weighed, *one, units)[1].areas, zip(trials(), scored, strict=True), threads)
        units = tuple(median(values) or 1.0 for values in zip(*plain, strict=True))
    return weighed, units, tried(weighed, trials(), units, threads, scored)


def tried(
    members: Sequence[Member],
    trials: Iterable[Trial],
    units: Sequence[float],
    threads: int | None,
    scored: Sequence[list[Scored]] | None = None,
) -> list[Tried]:
    """Of each image the score, the highest value of its map, and the median and the highest of its patch scores.

    `units`: of areas; `scored`: each image against each member's bank, where that is known.
    """

    def measured(one: tuple[Trial, list[Scored] | None]) -> Tried:
        trial, own = one
        score, found = _rate(members, trial, own or _alone(members, trial), units)
        values = anomaly_map(members[0].recipe, found.scores, trial.frames[0])
        maximum, known = float(values[~values.isnan()].max()), found.scores[~found.scores.isnan()]
        return score, maximum, float(known.median()), float(known.max())

    each = zip(trials, repeat(None) if scored is None else scored, strict=scored is not None)
    return list(in_order(measured, each, threads))


def _alone(members: Sequence[Member], trial: Trial) -> list[Scored]:
    """An image against each member's bank."""
    own = [replace(member, bank=bank) for member, bank in zip(members, trial.banks, strict=True)]
    return [against(*one) for one in zip(own, trial.patches, trial.grids, trial.cells, strict=True)]


def _rate(
    members: Sequence[Member], trial: Trial, own: Sequence[Scored], units: Sequence[float]
) -> tuple[float, Scored]:
    first = replace(members[0], bank=trial.banks[0])
    return rated(first, trial.patches[0], joined(members, own, trial.frames), trial.cells[0], units)


def _units(members: Sequence[Member], scored: Sequence[list[Scored]] | None) -> list[float]:
    """What each member's patch scores are divided by, so that they can be averaged."""
    if len(members) == 1:
        return [1.0]
    if scored:
        return [score_unit(one.scores for one in own) for own in zip(*scored, strict=True)]
    log.warning(
        "No good image was held out, so the members' scores are joined by how far their bank rows spread, which is "
        "coarse. Hold some out (calibration_share), or give others: calibration=, or --calibration DIR."
    )
    return [spread_unit(m.bank.rows, m.recipe.distance == "squared_l2") for m in members]
