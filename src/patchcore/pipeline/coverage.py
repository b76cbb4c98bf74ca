"""Coverage: how well a bank stands for good images that it has not seen."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from patchcore.maths.neighbours import Points, nearest
from patchcore.memory.bank import Bank
from patchcore.memory.patches import Rows
from patchcore.pipeline.surroundings import undisturbed

# docs/decisions/0020 has the sets that these were chosen on.
_MOST_APART, _MOST_COARSE = 1.5, 2.0
_SAMPLE = 2048  # patches that are looked at
_KNOWN = 16_384  # patches that they are looked for in


class Coverage(NamedTuple):
    """Median distances of patches of good images.

    `new`: of images that the bank has not seen, to the bank; `own`: of the images that it was chosen from; `whole`: of
    some of these to all patches of some others, NaN if there is one image.
    """

    new: float
    own: float
    whole: float

    def doubts(self) -> str:
        """What is wrong, with the figure, and what to do; empty if nothing is."""
        if self.new > _MOST_APART * self.own:
            far = "are unlike those of its images, of which it holds nearly all"
            if self.own > 0.01 * self.new:
                far = f"are {self.new / self.own:.3g} times as far from it as those of its own images"
            return (
                f"The bank stands badly for new good parts: their patches {far}, so the threshold is high and defects "
                "may pass. Give more good images, or hold out fewer (calibration_share, or calibration=folds)."
            )
        if self.new > _MOST_COARSE * self.whole:
            return (
                f"The bank is coarse: patches of new good parts are {self.new / self.whole:.3g} times as far from it "
                "as good images are from all patches of each other, so the threshold is high and defects may pass. "
                "Keep more patches (ratio, min_rows, max_rows)."
            )
        return ""


@undisturbed()
@torch.inference_mode()
def coverage(bank: Bank, rows: Rows, begins: Tensor, patches: Sequence[tuple[float, float]]) -> Coverage | None:
    """Of a bank, all patches that it was chosen from (N, D), in its scale, with where those of each image begin, and
    the median and highest patch score of each image that it has not seen; None if there is none."""
    if not patches:
        return None
    own = rows.take(slice(None, None, -(-len(rows) // _SAMPLE))).float()
    inside = bank.nearest(own, 1)[0].median()
    places = torch.arange(0, len(rows), -(-len(rows) // (4 * _KNOWN // 3)))
    image = torch.searchsorted(begins, places, right=True).unique(return_inverse=True)[1]
    fourth, whole = image % 4 == 1, torch.tensor(torch.nan)
    if fourth.any():
        new, known = rows.take(places[fourth]).float(), rows.take(places[~fourth]).float()
        whole = nearest(new[:: -(-len(new) // _SAMPLE)], Points(known), 1)[0].median()
    return Coverage(statistics.median(median for median, _ in patches), float(inside), float(whole))
