"""Which candidate to choose, why, and whether the data can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from patchcore.errors import counted
from patchcore.maths.ranking import Difference, difference, needed_units
from patchcore.maths.thresholds import needed_scores
from patchcore.tuning.crossing import Figures, Measured
from patchcore.tuning.images import Images

_AS_FAST = 1.1  # recipes up to this many times slower than the fastest count as equally fast


@dataclass(frozen=True)
class Limits:
    """What a recipe may cost, and how much AUROC may be given up for speed."""

    milliseconds: float | None = None
    model_mb: float | None = None
    tolerance: float = 0.01

    def broken(self, figures: Figures) -> list[str]:
        """The limits that a candidate exceeds, in words."""
        wrong = []
        if self.milliseconds is not None and figures.milliseconds > self.milliseconds:
            wrong.append(f"{figures.milliseconds:.1f} ms an image, more than {self.milliseconds:g}")
        if self.model_mb is not None and figures.model_mb > self.model_mb:
            wrong.append(f"{figures.model_mb:.1f} MB, more than {self.model_mb:g}")
        return wrong


@dataclass(frozen=True)
class Choice:
    """The chosen recipe, and the reasons.

    Attributes:
        name: The chosen candidate; None if every candidate exceeds a limit.
        why: The reason, in words.
        supported: Whether the data supports the choice; if not, only costs and the default decided.
        best: The most accurate candidate within the limits.
        losses: For each other candidate, how far it is below the best.
        needed: If the data cannot tell, roughly how many defective and good parts would be needed.
        notes: Further remarks, in words.
    """

    name: str | None
    why: str
    supported: bool
    best: str | None = None
    losses: dict[str, Difference] = field(default_factory=dict)
    needed: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


def choose(measured: Sequence[Measured], images: Images, keep: str, limits: Limits | None = None) -> Choice:
    """Choose the fastest candidate that is shown to be at most the tolerance below the best.

    If the data can show a candidate to be neither worse nor as good, `keep` stays, provided that it is within the
    limits and not shown to be worse. Without defective images, accuracy is not compared: `keep` stays unless it breaks
    a limit or rejects more good images than its recipe asks for.

    Args:
        measured: The results of `cross_validate`.
        images: The images that it was run on.
        keep: Name of the candidate to keep if the data cannot tell.
        limits: What a recipe may cost; by default anything, with a tolerance of 0.01.
    """
    limits = limits or Limits()
    figures = [one.figures(images) for one in measured]
    allowed = [one for one in figures if not limits.broken(one)]
    if not allowed:
        nearest = min(figures, key=lambda one: one.milliseconds)
        return Choice(
            None,
            f"No recipe is within the limits. The fastest, {nearest.recipe!r}: {'; '.join(limits.broken(nearest))}.",
            False,
        )
    if not images.defective:
        chosen, why = _by_cost(allowed, keep, len(figures) > len(allowed))
        return Choice(chosen.recipe, why, False, notes=tuple(_doubts(chosen)))
    return _by_accuracy(measured, images, allowed, keep, limits.tolerance)


def _by_cost(allowed: Sequence[Figures], keep: str, limited: bool) -> tuple[Figures, str]:
    within = " that is within the limits" if limited else ""
    steady = [one for one in allowed if one.false_reject_low <= one.asked] or list(allowed)
    kept = next((one for one in steady if one.recipe == keep), None)
    if kept:
        what = f"Kept {keep!r}{', which is within the limits' if limited else ''}"
    else:
        kept = _fastest(steady)
        why = "rejects more good images than asked" if any(a.recipe == keep for a in allowed) else "breaks a limit"
        what = f"Took {kept.recipe!r}, the fastest{within}: {keep!r} {why}"
    return kept, (
        f"{what}. Good images alone show what a recipe costs and how many good parts it rejects, but not how many "
        "defects it finds. Give some defective images: --defects FOLDER."
    )


def _by_accuracy(
    measured: Sequence[Measured], images: Images, allowed: Sequence[Figures], keep: str, tolerance: float
) -> Choice:
    scored = {one.candidate.name: one.wins for one in measured}
    best = min(allowed, key=lambda one: (-(one.auroc or 0.0), one.milliseconds))
    losses = {
        one.recipe: difference(
            scored[best.recipe], scored[one.recipe], np.array(images.defective_units), np.array(images.units)
        )
        for one in allowed
        if one is not best
    }
    level = [one for one in allowed if one is best or losses[one.recipe].low <= 0]
    shown = [one for one in level if one is best or losses[one.recipe].high <= tolerance]
    unsure = [one for one in level if one not in shown]
    kept = next((one for one in level if one.recipe == keep), None)
    defects, parts = len(set(images.defective_units)), len(set(images.units))
    needed = None
    if len(allowed) == 1:
        chosen, within = best, "" if len(measured) == 1 else " within the limits"
        why = f"Took {best.recipe!r}, the only recipe{within}."
    elif not unsure:
        chosen = _fastest(shown)
        why = (
            f"Took {chosen.recipe!r}, the fastest of those that are shown to be at most {tolerance:g} below the best"
            f"{'' if chosen is best else f': {_below(losses, chosen, best)}'}."
            if len(shown) > 1
            else f"Took {chosen.recipe!r}, which is better than every other recipe: "
            + "; ".join(_below(losses, one, best) for one in allowed if one is not best)
            + "."
        )
    else:
        chosen = kept or _fastest(shown)
        taken = f"{'Kept' if chosen is kept else 'Took'} {chosen.recipe!r}"
        # The comparison in question: the best with the one that is kept or, if that is the best, with the one in doubt.
        asked = chosen if chosen in unsure else max(unsure, key=lambda one: losses[one.recipe].high)
        needed = needed_units(losses[asked.recipe], defects, parts, tolerance)
        names = ", ".join(repr(one.recipe) for one in (best, *unsure))
        counts = f"{counted(defects, 'defective part')} and {counted(parts, 'good one')}"
        if all(one.auroc == 1 for one in (best, *unsure)):
            why = (
                f"The data cannot tell these apart: {names}. {taken}. Each of them ranks all of {counts} correctly: to "
                "see a difference, give many defects that are harder to find."
            )
        else:
            about = "at least" if losses[asked.recipe].few else "roughly"
            why = (
                f"The data cannot tell these apart: {names}. {taken}. With {counts}, {_below(losses, asked, best)}; "
                f"telling them apart would take {about} {needed[0]} and {needed[1]}."
            )
    return Choice(
        chosen.recipe, why, not unsure, best.recipe, losses, needed, tuple([*_doubts(chosen), *_flattered(allowed)])
    )


def _below(losses: dict[str, Difference], one: Figures, best: Figures) -> str:
    loss = losses[one.recipe]
    limits = f"95 % limits {loss.low:+.4f} to {loss.high:+.4f}"
    return f"{one.recipe!r} is {loss.value:.4f} below {best.recipe!r} ({limits})"


def _fastest(figures: Sequence[Figures]) -> Figures:
    """The fastest candidate; among equally fast ones, the most accurate, then the first."""
    least = min(one.milliseconds for one in figures)
    return max((one for one in figures if one.milliseconds <= _AS_FAST * least), key=lambda one: one.auroc or 0.0)


def _doubts(chosen: Figures) -> list[str]:
    """Reasons to doubt the threshold of the chosen recipe."""
    needed, few = needed_scores(chosen.asked), ""
    if chosen.calibration_images < needed:
        few = (
            f"Within a fold, {counted(chosen.calibration_images, 'image')} set the threshold; a false-reject rate of "
            f"{chosen.asked:.1%} needs at least {needed}."
        )
    if chosen.false_reject_low <= chosen.asked:
        return [f"{few} Expect more false rejects."] if few else []
    return [
        f"{chosen.recipe!r} rejects {chosen.false_reject_rate:.1%} of the held-out good images (95 % limits "
        f"{chosen.false_reject_low:.1%} to {chosen.false_reject_high:.1%}), but {chosen.asked:.1%} was asked for. "
        + (
            few
            or "Images of one part may be both in the bank and among those that set the threshold: calibrate on "
            "other parts (`fit --calibration`)."
        )
    ]


def _flattered(allowed: Sequence[Figures]) -> list[str]:
    if len(allowed) < 2:
        return []
    return [
        f"The best of {len(allowed)} is partly the luckiest, so its AUROC is a little too high. Measure the chosen "
        "recipe on other images."
    ]
