"""One graph from raw pixels to scores, maps and verdict.

`Graph` does for a batch of images of one size what `Detector.predict` does for each image. `torch.export` captures it
with open height and width, so everything that depends on them (the frame, every matrix) is computed in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from patchcore.errors import UsageError
from patchcore.export.capturing import as_size
from patchcore.export.frames import Side, join_matrix, side_matrix, window_matrix
from patchcore.export.members import Embedding
from patchcore.export.search import Search
from patchcore.maths import joining
from patchcore.maths.neighbours import squared
from patchcore.maths.scoring import mean_of_highest, neighbourhoods, reweighted
from patchcore.maths.sizes import share_of, whole
from patchcore.maths.thresholds import normalise, verdict
from patchcore.memory.bank import Bank
from patchcore.model.fitted import Fitted
from patchcore.pipeline.embed import Embedder
from patchcore.recipe.recipe import Recipe

OUTPUTS = ("score", "normalised", "decision", "patch_scores", "rows", "model_map", "map", "coverage")


def check_place(fitted: Fitted) -> None:
    """Errors: UsageError for what is looked at in a part of each image, which a graph does not do."""
    recipe = fitted.recipe
    if recipe.registration != "none":
        raise UsageError(
            f"The detector has registration={recipe.registration!r}, which searches each image for the part in steps "
            "that depend on what it finds; a graph has no such steps. Fit without registration on images that are "
            "brought to one place before, or use the library."
        )
    if recipe.roi is not None:
        raise UsageError(
            "The detector has a region of interest, and how many patches count then depends on each image's size, "
            "which a graph cannot follow. Fit without roi on images that are cut to the region, or use the library."
        )


class ImageScore(nn.Module):
    """One score for each image from its patch scores, by any of the three methods."""

    around: Tensor

    def __init__(self, bank: Bank, recipe: Recipe) -> None:
        super().__init__()
        self.kind = recipe.image_score
        self.share = recipe.top_share
        if self.kind == "reweighted" and recipe.reweight_neighbours > 1:
            self.register_buffer(
                "around", neighbourhoods(bank, torch.arange(len(bank.rows)), recipe.reweight_neighbours).int()
            )
        elif self.kind == "reweighted":
            self.kind = "max"

    def forward(self, scores: Tensor, patches: Tensor, rows: Tensor, bank: Search) -> Tensor:
        """Scores (B, h, w), patches (B, h, w, D), rows (B, h, w, k) -> (B,)."""
        scores = scores.flatten(1)
        if self.kind == "max":
            return scores.amax(1)
        if self.kind == "top_share":
            cells = scores.shape[1]
            known = isinstance(cells, int)
            kept = share_of(cells, self.share) if known else as_size(share_of(whole(cells), self.share), cells)
            return mean_of_highest(scores, kept)
        top = scores.argmax(1, keepdim=True)
        row = rows[..., 0].flatten(1).gather(1, top)[:, 0]
        patch = patches.flatten(1, 2).gather(1, top[..., None].expand(-1, 1, patches.shape[3]))[:, 0]
        around = bank.rows(self.around[row].long())
        return reweighted(scores.gather(1, top)[:, 0], squared(around, patch[:, None]).sqrt())


class Graph(nn.Module):
    """The whole detector as one graph (see the module). Errors: UsageError for a recipe that cannot be exported."""

    def __init__(self, fitted: Fitted, embedders: Sequence[Embedder], half: bool = False) -> None:
        """`half`: store bank rows in half precision if that loses nothing; they are used in single precision."""
        super().__init__()
        check_place(fitted)
        first = fitted.members[0].recipe
        self.recipe = first
        self.units = [member.unit for member in fitted.members]
        banks = [member.bank for member in fitted.members]
        self.members = nn.ModuleList(Embedding(one, bank) for one, bank in zip(embedders, banks, strict=True))
        searches = [Search(member.bank, member.recipe, half) for member in fitted.members]
        self.banks = nn.ModuleList(searches)
        self.axes = [one.axes for one in searches]
        self.score = ImageScore(banks[0], first)
        self.threshold, self.lower = fitted.calibration.threshold, fitted.calibration.lower_threshold
        self.map_options = first.sigma, first.upsample, first.map_border

    def forward(self, image: Tensor, value_range: Tensor) -> tuple[Tensor, ...]:
        """Pixels (N, H, W, C), float32, and the values of black and white (2,) -> `OUTPUTS`."""
        low, high = value_range[0], value_range[1]
        pixels = ((image.permute(0, 3, 1, 2) - low) / (high - low)).clamp(0, 1)
        seen = [member(pixels) for member in self.members]
        found = [bank(patches) for bank, (patches, _) in zip(self.banks, seen, strict=True)]
        scores, rows = found[0]
        if len(found) > 1:
            scores = self._joined([one for one, _ in found], [one for _, one in seen])
        score = self.score(scores, seen[0][0], rows, self.banks[0])
        model_map, own_map, coverage = self._maps(scores, *seen[0][1])
        return (
            score,
            normalise(score, self.threshold),
            verdict(score, self.threshold, self.lower),
            scores,
            rows,
            model_map,
            own_map,
            coverage.expand(score.shape[0]).clone(),
        )

    def _joined(self, scores: list[Tensor], frames: list[tuple[Side, Side]]) -> Tensor:
        places = [_places(*one) for one in zip(scores, frames, strict=True)]
        matrices = [[join_matrix(*pair) for pair in zip(own, places[0], strict=True)] for own in places]
        return joining.joined(scores, matrices, self.units)

    def _maps(self, scores: Tensor, rows: Side, columns: Side) -> tuple[Tensor, Tensor, Tensor]:
        on_window, on_image, shown = [], [], torch.ones(())
        for cells, side in zip(scores.shape[1:], (rows, columns), strict=True):
            window = (cells, side.inside, *self.map_options)
            on_window.append(window_matrix(*window))
            on_image.append(side_matrix((side.inside, side.resized, side.source, side.offset), window))
            shown = shown * whole(side.inside).float() / whole(side.resized).float()
        return (on_window[0] @ scores @ on_window[1].T, on_image[0] @ scores @ on_image[1].T, shown)


def _places(scores: Tensor, frame: tuple[Side, Side]) -> list[joining.Side]:
    sides = zip(scores.shape[1:], frame, strict=True)
    return [(cells, side.inside, side.resized, side.offset) for cells, side in sides]
