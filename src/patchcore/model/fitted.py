"""Fitted: what a fit has learned, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from patchcore.backbones.registry import Backbone
from patchcore.memory.bank import Bank
from patchcore.recipe.fields import Recipe
from patchcore.verdict.calibration import Calibration


@dataclass(frozen=True)
class Member:
    """One recipe with its backbone, its memory bank and the unit of its patch scores.

    Patch scores of several members are divided by their `unit` before they are averaged; of one alone it is 1.
    """

    recipe: Recipe
    backbone: Backbone
    bank: Bank
    unit: float = 1.0


@dataclass(frozen=True)
class Fitted:
    """What a fit has learned.

    Attributes:
        recipe: The whole recipe.
        members: One for each recipe whose scores are joined; usually one. The first says how image scores and maps
            are made, and its bank is the one whose rows results name.
        calibration: The thresholds and the scores that set them.
        images: Names of the training images, in order; the banks' origins count in them.
        fingerprint: SHA-256 over the pixels of the training images, in order.
        red_blue: The least and the most red that a training image has more than blue, as a share of all its light;
            None if they are grey, or nobody looked.
    """

    recipe: Recipe
    members: tuple[Member, ...]
    calibration: Calibration
    images: tuple[str, ...] = ()
    fingerprint: str = ""
    red_blue: tuple[float, float] | None = None

    @property
    def rows(self) -> int:
        """Rows of all banks together."""
        return sum(len(member.bank.rows) for member in self.members)

    def exchanged(self, red_blue: float | None) -> bool:
        """Whether an image's colours are as the training images' only once its red and blue are exchanged."""
        if red_blue is None or self.red_blue is None:
            return False
        low, high = self.red_blue
        margin = high - low + 0.01
        return not low - margin <= red_blue <= high + margin and low - margin / 2 <= -red_blue <= high + margin / 2
