"""Fitted: what a fit has learned, as a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from pydantic import JsonValue
from torch import Tensor

from patchcore.backbones.registry import Backbone
from patchcore.maths.augmentation import Augmentation
from patchcore.memory.bank import Bank
from patchcore.model.album import Album
from patchcore.recipe.recipe import Recipe
from patchcore.verdict.calibration import Calibration
from patchcore.verdict.gate import Gate


class NearestImage(NamedTuple):
    """Where in the training images a bank row comes from.

    `name` is as `fitted.images` has it; `row` and `column` are on the grid of that image, or of its copy that was
    mirrored or turned by `augmentation`.
    """

    name: str
    row: int
    column: int
    augmentation: Augmentation | None = None


class Measured(NamedTuple):
    """What the good images have decided; None where nothing was left to decide.

    `light`: how much light varies between them, in units of what their content explains (`exposure.variation`); above 1
    the exposure is made even. `arrangement`: the share of how neighbourhoods are arranged that the nearest ones in
    other images leave open (`embedding.open_share`); up to 1 it is kept.
    """

    light: float | None = None
    arrangement: float | None = None


@dataclass(frozen=True)
class Member:
    """One recipe with its backbone, its memory bank and the unit of its patch scores.

    Patch scores of several members are divided by their `unit` before they are averaged; of one alone it is 1.
    """

    recipe: Recipe
    backbone: Backbone
    bank: Bank
    unit: float = 1.0


@dataclass(frozen=True, eq=False)
class Reference:
    """The good image that others are brought to before anything else.

    `grey`: its small version (h, w), uint8, in contrast from black to white; `source`: height and width of the image
    itself; `limit`: the largest residual (see `registration.Motion`) with which a part counts as found.
    """

    grey: Tensor
    source: tuple[int, int]
    limit: float = math.inf


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
        measured: What has decided the choices that the recipe had left to `auto`.
        album: Hash, size and perhaps a thumbnail of each training image.
        history: What was changed since the fit, one entry for each change (`changes.history`).
        past: Tensors that bring earlier versions back.
        units: What the patch scores of each area are divided by, where the region of interest has several.
        reference: What images are brought to, if the recipe has a registration.
        gate_limit: Of `gate`; None where `fit` has set none.
        rejected: Names of images that were left out as suspects, before anything was learned.
    """

    recipe: Recipe
    members: tuple[Member, ...]
    calibration: Calibration
    images: tuple[str, ...] = ()
    fingerprint: str = ""
    red_blue: tuple[float, float] | None = None
    measured: Measured = field(default_factory=Measured)
    album: Album = field(default_factory=Album, repr=False)
    history: tuple[Mapping[str, JsonValue], ...] = ()
    past: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    units: tuple[float, ...] = ()
    reference: Reference | None = None
    gate_limit: float | None = None
    rejected: tuple[str, ...] = ()

    @cached_property
    def gate(self) -> Gate | None:
        """What tells images that do not show the part, if there is one: by the patches of the first member."""
        means, limit, scales = self.album.means, self.gate_limit, self.members[0].bank.scales
        return None if means is None or limit is None else Gate(means.to(scales) * scales, scales, limit)

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

    def origin(self, number: int) -> NearestImage | None:
        """Where a row of the first member's bank comes from; None where that is not known."""
        image, row, column, copy = (*self.members[0].bank.origins[number].tolist(), 0)[:4]
        augment = self.members[0].recipe.augment
        if not (0 <= image < len(self.images) and 0 <= copy <= len(augment)):
            return None
        return NearestImage(self.images[image], row, column, augment[copy - 1] if copy else None)
