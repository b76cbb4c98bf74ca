"""Calibrating: good images that a bank has not seen, to thresholds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from patchcore.maths.joining import score_unit, spread_unit
from patchcore.maths.resize import Frame
from patchcore.memory.bank import Bank
from patchcore.model.fitted import Member
from patchcore.pipeline.embed import Grid
from patchcore.pipeline.score import Scored, against, anomaly_map, image_score, joined
from patchcore.pipeline.surroundings import undisturbed
from patchcore.pipeline.workers import in_order

log = logging.getLogger(__name__)
Tried = tuple[float, float, float, float]


class Trial(NamedTuple):
    """A good image, and for each member a bank that has not seen it, its patches in the bank's scale, their grid and
    where the image lay in the network's input."""

    banks: Sequence[Bank]
    patches: Sequence[Tensor]
    grids: Sequence[Grid]
    frames: Sequence[Frame]


@undisturbed()
def calibrate(
    members: Sequence[Member], trials: Callable[[], Iterable[Trial]], threads: int | None
) -> tuple[list[Member], list[Tried]]:
    """The members with the units of their scores; of each image the score, the highest value of its map, and the median
    and the highest of its patch scores."""

    def alone(trial: Trial) -> list[Scored]:
        """An image against each member's bank."""
        own = [replace(member, bank=bank) for member, bank in zip(members, trial.banks, strict=True)]
        return [against(*one) for one in zip(own, trial.patches, trial.grids, strict=True)]

    def measured(one: tuple[Trial, list[Scored]]) -> Tried:
        trial, own = one
        found = joined(weighed, own, trial.frames)
        values = anomaly_map(weighed[0].recipe, found.scores, trial.frames[0])
        score = image_score(replace(weighed[0], bank=trial.banks[0]), trial.patches[0], found)
        maximum = float(values[~values.isnan()].max())
        return score, maximum, float(found.scores.median()), float(found.scores.max())

    scored: Iterable[list[Scored]] = in_order(alone, trials(), threads)
    scored = list(scored) if len(members) > 1 else scored
    weighed = [replace(m, unit=unit) for m, unit in zip(members, _units(members, scored), strict=True)]
    return weighed, list(in_order(measured, zip(trials(), scored, strict=True), threads))


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
