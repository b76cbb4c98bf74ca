"""Calibrating: good images that a bank has not seen, to thresholds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
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
    that they have; of each image the score, the highest value of its map, and the median and the highest of its patch
    scores."""

    def alone(trial: Trial) -> list[Scored]:
        """An image against each member's bank."""
        own = [replace(member, bank=bank) for member, bank in zip(members, trial.banks, strict=True)]
        return [against(*one) for one in zip(own, trial.patches, trial.grids, trial.cells, strict=True)]

    def rate(one: tuple[Trial, list[Scored]], units: Sequence[float]) -> tuple[float, Scored]:
        trial, own = one
        first = replace(weighed[0], bank=trial.banks[0])
        return rated(first, trial.patches[0], joined(weighed, own, trial.frames), trial.cells[0], units)

    def measured(one: tuple[Trial, list[Scored]]) -> Tried:
        score, found = rate(one, units)
        values = anomaly_map(weighed[0].recipe, found.scores, one[0].frames[0])
        maximum, known = float(values[~values.isnan()].max()), found.scores[~found.scores.isnan()]
        return score, maximum, float(known.median()), float(known.max())

    scored: Iterable[list[Scored]] = in_order(alone, trials(), threads)
    scored = list(scored) if max(len(members), areas) > 1 else scored
    weighed = [replace(m, unit=unit) for m, unit in zip(members, _units(members, scored), strict=True)]
    units = tuple([1.0] * areas if areas > 1 else [])
    if units and scored:
        plain = in_order(lambda one: rate(one, units)[1].areas, zip(trials(), scored, strict=True), threads)
        units = tuple(median(values) or 1.0 for values in zip(*plain, strict=True))
    return weighed, units, list(in_order(measured, zip(trials(), scored, strict=True), threads))


def _units(members: Sequence[Member], scored: Iterable[list[Scored]]) -> list[float]:
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
