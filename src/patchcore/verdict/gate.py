"""Gate: whether an image shows the part at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# docs/decisions/0021 has the sets that these were chosen on.
_HALF = 0.5  # of the way from the good images to what shows nothing
_MORE, _USUAL = 1.5, 0.9  # so many times the distance that this share of good images have to the nearest other one
_LOOKED = 2000  # good images whose distances are measured


@dataclass(frozen=True, eq=False)
class Gate:
    """Whether an image shows the part at all: by the mean of its patches, which a defect moves less than another part.

    Attributes:
        means: Of the patches of each good image (n, D), in the bank's scale.
        scales: What patches (D,) are multiplied by.
        limit: How far from all of them the mean of an image that shows the part may be.
    """

    means: Tensor
    scales: Tensor
    limit: float

    def share(self, patches: Tensor) -> float:
        """How far the mean of an image's patches (n, D), not scaled yet, is from the nearest good image's, as a share
        of the limit: above 1 it does not show the part. 0 without patches."""
        if not len(patches):
            return 0.0
        return float(_apart(patches.mean(0, keepdim=True) * self.scales, self.means)) / self.limit


def gate_limit(means: Tensor, parts: Sequence[str], nothing: Tensor) -> float | None:
    """The limit of a gate: half of how far images that show nothing are from the good ones, or more where good images
    are far from each other; None where it tells nothing, as what shows nothing is as good as any.

    `means`: (n, D), of the good images, in the bank's scale; `parts`: the part that each shows, as others of the same
    part are no measure of how unlike new parts are; `nothing`: (k, D), of those that show nothing.
    """
    found = _HALF * _apart(nothing, means).median()
    numbers = {part: number for number, part in enumerate(dict.fromkeys(parts))}
    if len(numbers) > 1:
        own = torch.tensor([numbers[part] for part in parts], device=means.device)
        some = torch.arange(0, len(means), -(-len(means) // _LOOKED), device=means.device)
        apart = torch.cat([_distances(means[n], means).masked_fill(own == own[n], torch.inf) for n in some.split(1)])
        found = torch.maximum(found, _MORE * apart.amin(1).quantile(_USUAL))
    value = float(f"{float(found):.6g}")  # the same whatever the order of a sum
    return value if value > 0 else None


def _apart(some: Tensor, means: Tensor) -> Tensor:
    """How far each of some means (k, D) is from the nearest of others (n, D), (k,)."""
    return torch.stack([_distances(one, means).amin() for one in some])


def _distances(one: Tensor, means: Tensor) -> Tensor:
    """How far a mean, (D,) or (1, D), is from each of others (n, D): (1, n)."""
    return (means - one).square().sum(1, keepdim=True).sqrt().T
