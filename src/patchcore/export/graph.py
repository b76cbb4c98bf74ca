"""One graph: raw pixels in, scores, maps and verdict out.

`Graph` does for a batch of images of one size what `Detector.predict` does for each of them, from
a fitted model. It is captured by `torch.export` with the images' height and width
left open, so everything that depends on them, the frame and every matrix, is computed in the graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchcore.backbones import Extractor
from patchcore.backbones.folding import folded
from patchcore.errors import UsageError
from patchcore.export import sides
from patchcore.export.network import Taps
from patchcore.export.search import Search
from patchcore.export.sides import Place, Size, as_size, as_tensor, divided, remainder
from patchcore.maths import exposure
from patchcore.maths.binning import average_bins
from patchcore.maths.tiling import Tiling
from patchcore.memory.bank import Bank
from patchcore.model.fitted import Fitted
from patchcore.pipeline.embed import Embedder
from patchcore.recipe.fields import Recipe

OUTPUTS = ("score", "normalised", "decision", "patch_scores", "rows", "model_map", "map", "coverage")
LARGEST_CELLS = 4096  # of a side of the window, where it depends on the image: what `torch.export` is promised


@dataclass(frozen=True)
class Side:
    """One side of a frame (see `maths.resize.Frame`), in pixels."""

    source: Size
    resized: Size
    window: Size
    inside: Size
    start: Place = 0  # pixels that are cut off before the window
    cut: bool = False  # whether any may be

    def matrix(self, kernel: str) -> Tensor:
        """From the image to the window, padding included: (window, source)."""
        rows = sides.resize_rows(self.source, self.resized, kernel, self.start, self.window)  # type: ignore[arg-type]
        return rows if self.window is self.inside else torch.where(self.shown[:, None], rows, 0.0)

    @property
    def shown(self) -> Tensor:
        """Which pixels of the window show image."""
        return torch.arange(self.window) < self.inside


def frame(embedder: Embedder, source: tuple[Size, Size], scale: float) -> tuple[Side, Side]:
    """`Embedder.frame` for sizes that may be known only when the graph runs."""
    recipe, cell = embedder.recipe, embedder.cell
    window = recipe.window if scale == 1 else tuple(max(1, round(s * scale / cell)) * cell for s in recipe.window)
    if all(isinstance(side, int) for side in source) or recipe.resize == "stretch":
        made = embedder.frame((1, 1) if recipe.resize == "stretch" else source, scale)  # type: ignore[arg-type]
        return tuple(  # type: ignore[return-value]
            Side(s, r, w, w if i == w else i, -o, r > w)
            for s, r, w, i, o in zip(source, made.resized, made.window, made.inside, made.offset, strict=True)
        )
    h, w = (as_tensor(side) for side in source)
    if recipe.resize == "area":
        share = Fraction(window[0] * window[1], cell * cell)
        cells = [sides.rounded_root(share, a, b) for a, b in ((h, w), (w, h))]
    elif recipe.resize == "letterbox":
        first = h * window[1] >= w * window[0]  # the height fills the window
        fits = torch.where(first, torch.tensor(window[0]), torch.tensor(window[1]))
        side = torch.where(first, h, w)
        cells = [
            sides.rounded(a * fits, side * cell).clamp(max=most // cell) for a, most in zip((h, w), window, strict=True)
        ]
    else:
        assert isinstance(recipe.size, int)
        short, shorter = round(recipe.size * scale), torch.minimum(h, w)
        if recipe.crop:
            return tuple(
                _cropped(s, divided(as_tensor(s) * short, shorter), c) for s, c in zip(source, window, strict=True)
            )  # type: ignore[return-value]
        cells = [sides.rounded(a * short, shorter * cell) for a in (h, w)]
    made_sides = []
    for s, value, whole in zip(source, cells, window, strict=True):
        size = as_size(value, whole // cell if recipe.resize == "letterbox" else LARGEST_CELLS) * cell
        made_sides.append(Side(s, size, whole if recipe.resize == "letterbox" else size, size))
    return made_sides[0], made_sides[1]


def _cropped(source: Size, resized: Tensor, crop: int) -> Side:
    beyond, two = resized - crop, torch.tensor(2)
    start = divided(beyond + remainder(divided(beyond, two), two), two)  # a half goes to the even number
    size = as_size(resized, 1 << 20)
    torch._check(size >= crop)
    return Side(source, size, crop, crop, start, True)


class Reader(nn.Module):
    """The backbone: the window's pixels (B, 3, H, W) to its taps."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        extractor = embedder.engine if isinstance(embedder.engine, Extractor) else folded(embedder.backbone.extractor)
        self.network = Taps(extractor)
        self.tiles = embedder.recipe.tiles

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.tiles is None:
            return self.network(images)
        return self._in_tiles(images)

    def _in_tiles(self, images: Tensor) -> list[Tensor]:
        """As `backbones.tiles.taps_of`; all tiles go through the network as one batch."""
        size = (images.shape[2], images.shape[3])
        assert self.tiles is not None
        if not all(isinstance(side, int) for side in size):
            raise UsageError(
                "With tiles, how many there are would depend on the image: a graph cannot have that. Give the "
                "images' size (--static H W), or fit with resize='stretch', 'letterbox' or a crop."
            )
        tile, stride = ((min(a, size[0]), min(b, size[1])) for a, b in self.tiles)
        tiling = Tiling(size, tile, stride)
        corners = tiling.corners
        tiles = torch.stack([images[..., y : y + tile[0], x : x + tile[1]] for y, x in corners], 1)
        joined = []
        for tap in self.network(tiles.flatten(0, 1)):
            grid = tiling.in_cells(tile[0] // int(tap.shape[2]))
            weights = [one[:, None] * other for one in grid.weights()[0] for other in grid.weights()[1]]
            total = torch.zeros(())
            for number, ((y, x), weight) in enumerate(zip(grid.corners, weights, strict=True)):
                place = (x, grid.size[1] - x - grid.tile[1], y, grid.size[0] - y - grid.tile[0])
                total = total + F.pad(tap.unflatten(0, (-1, len(corners)))[:, number] * weight.float(), place)
            joined.append(total)
        return joined


class Embedding(nn.Module):
    """Pixels to patches: resize, normalise, taps, pool, align, merge, scale."""

    mean: Tensor
    std: Tensor
    scales: Tensor
    merging: Tensor

    def __init__(self, embedder: Embedder, bank: Bank) -> None:
        super().__init__()
        self.embedder = embedder
        source, recipe = embedder.backbone.source, embedder.recipe
        self.kernel = source.interpolation if recipe.interpolation == "weights" else recipe.interpolation
        self.register_buffer("mean", torch.tensor(source.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(source.std).view(3, 1, 1))
        self.register_buffer("scales", bank.scales.clone())
        self.taps = Reader(embedder)
        extractor = embedder.backbone.extractor
        self.strides = extractor.strides * len(recipe.scales)
        channels = extractor.channels * len(recipe.scales)
        if recipe.pool == "bins":
            area = recipe.patch_size**2
            for number, count in enumerate(channels):
                matrix = average_bins(torch.eye(count * area), recipe.tap_bins).T  # bins, C*p*p
                size = recipe.patch_size
                self.register_buffer(f"bins{number}", matrix.reshape(recipe.tap_bins, count, size, size).contiguous())
            channels = [recipe.tap_bins] * len(channels)
        if recipe.merge == "bins":
            self.register_buffer("merging", average_bins(torch.eye(sum(channels)), recipe.bins).contiguous())

    def forward(self, pixels: Tensor) -> tuple[Tensor, tuple[Side, Side]]:
        """(B, C, H, W) in [0, 1] -> patches (B, h, w, D), and the frame."""
        recipe, source = self.embedder.recipe, (pixels.shape[2], pixels.shape[3])
        frames = [frame(self.embedder, source, scale) for scale in recipe.scales]
        taps: list[Tensor] = []
        for rows, columns in frames:
            for tap in self.taps(self._image(pixels, rows, columns)):
                stride = self.strides[len(taps)]
                taps.append(_without_padding(tap, rows, columns, stride))
        grid: tuple[Size, Size] | None = None
        pooled = []
        for number, tap in enumerate(taps):
            value = self._pool(tap, number)
            if grid is None:
                grid = (value.shape[2], value.shape[3])
            elif recipe.scales != (1.0,) or self.strides[number] != self.strides[0]:
                value = _aligned(value, grid, recipe.align)
            pooled.append(value)
        stacked = torch.cat(pooled, 1).permute(0, 2, 3, 1)  # B, h, w, D
        if recipe.merge == "bins":
            stacked = stacked @ self.merging
        return stacked * self.scales, frames[0]

    def _image(self, pixels: Tensor, rows: Side, columns: Side) -> Tensor:
        image = rows.matrix(self.kernel) @ pixels @ columns.matrix(self.kernel).T
        image = image.index_select(1, torch.arange(3).clamp(max=pixels.shape[1] - 1))  # grey three times
        whole = rows.window is rows.inside and columns.window is columns.inside
        shown = torch.ones((), dtype=torch.bool) if whole else rows.shown[:, None] & columns.shown
        if self.embedder.recipe.exposure == "even":
            image = _even(image, shown, rows.inside * columns.inside)
        image = (image - self.mean) / self.std
        return image if whole else torch.where(shown, image, 0.0)

    def _pool(self, tap: Tensor, number: int) -> Tensor:
        recipe = self.embedder.recipe
        size, pad = recipe.patch_size, (recipe.patch_size - 1) // 2
        if recipe.pool == "bins":
            return F.conv2d(tap, getattr(self, f"bins{number}"), stride=recipe.patch_stride, padding=pad)
        counted = recipe.pool_border == "zeros"
        return F.avg_pool2d(tap, size, recipe.patch_stride, pad, count_include_pad=counted)


def _even(image: Tensor, shown: Tensor, pixels: Size) -> Tensor:
    """`maths.exposure.even` of the part (H, W) of images (B, 3, H, W) that is shown, so many pixels."""
    count = 3 * as_tensor(pixels).float()
    centred = torch.where(shown, image - _mean(image, shown, count), 0.0)
    deviation = _mean(centred.square(), shown, count).sqrt()
    return centred * (exposure.SPREAD / (deviation + exposure.FLOOR)) + exposure.LEVEL


def _mean(values: Tensor, shown: Tensor, count: Tensor) -> Tensor:
    """The mean of the values (B, 3, H, W) of each image that are shown, so many.

    Of so many floats, engines' sums lose digits, most where many are the same; the second sum, of what is left,
    finds what the first one lost.
    """

    def total(x: Tensor) -> Tensor:
        return torch.where(shown, x, 0.0).sum(3, keepdim=True).sum(2, keepdim=True).sum(1, keepdim=True)

    first = total(values) / count
    return first + total(values - first) / count


def _without_padding(tap: Tensor, rows: Side, columns: Side, stride: int) -> Tensor:
    for axis, side in ((2, rows), (3, columns)):
        if side.window is not side.inside:
            tap = tap.index_select(axis, torch.arange(side.inside // stride))
    return tap


def _aligned(tap: Tensor, grid: Any, mode: str) -> Tensor:
    return F.interpolate(tap, grid, mode=mode, align_corners=False if mode == "bilinear" else None)


class ImageScore(nn.Module):
    """Patch scores to one score for each image, by any of the three ways."""

    around: Tensor

    def __init__(self, bank: Bank, recipe: Recipe) -> None:
        super().__init__()
        self.kind = recipe.image_score
        if self.kind == "top_share":
            share = Fraction(str(recipe.top_share)).limit_denominator(10_000)
            self.share = (share.numerator, share.denominator)
        if self.kind == "reweighted" and recipe.reweight_neighbours > 1:
            self.register_buffer("around", neighbourhoods(bank, recipe.reweight_neighbours))
        elif self.kind == "reweighted":
            self.kind = "max"

    def forward(self, scores: Tensor, patches: Tensor, rows: Tensor, bank: Search) -> Tensor:
        """Scores (B, h, w), patches (B, h, w, D), rows (B, h, w, k) -> (B,)."""
        scores = scores.flatten(1)
        if self.kind == "max":
            return scores.amax(1)
        if self.kind == "top_share":
            return self._top_share(scores)
        top = scores.argmax(1, keepdim=True)
        row = rows[..., 0].flatten(1).gather(1, top)[:, 0]
        dimensions = patches.shape[3]
        patch = patches.flatten(1, 2).gather(1, top[..., None].expand(-1, 1, dimensions))  # B, 1, D
        around = bank.rows(self.around[row].long())  # B, b, D
        distances = (around - patch).square().sum(2).sqrt()
        return (1 - torch.softmax(distances, 1)[:, 0]) * scores.gather(1, top)[:, 0]

    def _top_share(self, scores: Tensor) -> Tensor:
        above, below = self.share
        count = as_tensor(scores.shape[1])
        doubled = 2 * above * count + below
        kept = divided(doubled, torch.tensor(2 * below))
        tie = (remainder(doubled, torch.tensor(2 * below)) == 0) & (
            remainder(kept, torch.tensor(2)) == 1
        )  # Python rounds a half to the even number
        kept = (kept - tie.long()).clamp(min=1)
        ordered = scores.sort(1, descending=True).values
        mask = torch.arange(scores.shape[1]) < kept
        return torch.where(mask, ordered, 0.0).sum(1) / kept.float()


def neighbourhoods(bank: Bank, count: int) -> Tensor:
    """(M, b) int32: each row, and the rows nearest to it, as `maths.reweighting.reweighted_score` takes them."""
    _, near = bank.nearest(bank.rows, count)
    own = torch.arange(len(near))[:, None]
    others = near[torch.arange(near.shape[1]) != _position(near == own)[:, None]].unflatten(0, (len(near), -1))
    return torch.cat([own, others], 1).int()


def _position(own: Tensor) -> Tensor:
    """Where a row lists itself; the last place if twins have kept it out."""
    return torch.where(own.any(1), own.float().argmax(1), own.shape[1] - 1)


class Graph(nn.Module):
    """The whole detector as one graph (see the module). Errors: UsageError for a recipe that no graph can hold."""

    def __init__(self, fitted: Fitted, embedders: Sequence[Embedder], half: bool = False) -> None:
        """`half`: bank rows are kept in half precision wherever that loses nothing, and made single when it runs."""
        super().__init__()
        first = fitted.members[0].recipe
        self.recipe = first
        self.units = [member.unit for member in fitted.members]
        banks = [member.bank for member in fitted.members]
        self.members = nn.ModuleList(Embedding(one, bank) for one, bank in zip(embedders, banks, strict=True))
        searches = [Search(member.bank, member.recipe, half) for member in fitted.members]
        self.banks = nn.ModuleList(searches)
        self.axes = [one.axes for one in searches]
        self.score = ImageScore(banks[0], first)
        self.threshold = fitted.calibration.threshold
        self.map_options = first.sigma, first.upsample, first.map_border
        self.least = embedders[0].cell

    def forward(self, image: Tensor, value_range: Tensor) -> tuple[Tensor, ...]:
        """Pixels (N, H, W, C), float32, and the values that stand for black and white (2,) -> `OUTPUTS`."""
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
            self._normalised(score),
            self._decision(score),
            scores,
            rows,
            model_map,
            own_map,
            coverage.expand(score.shape[0]).clone(),
        )

    def _joined(self, scores: list[Tensor], frames: list[tuple[Side, Side]]) -> Tensor:
        total, seen = torch.zeros(()), torch.zeros(())
        targets = _places(scores[0], frames[0])
        for values, own, unit in zip(scores, frames, self.units, strict=True):
            rows, columns = (sides.join_rows(a, b) for a, b in zip(_places(values, own), targets, strict=True))
            if own is frames[0]:
                rows, columns = (torch.eye(n) if isinstance(n, int) else _eye(n) for n in values.shape[1:])
            total = total + rows @ (values / unit) @ columns.T
            seen = seen + rows.sum(1)[:, None] * columns.sum(1)
        return total / seen

    def _maps(self, scores: Tensor, rows: Side, columns: Side) -> tuple[Tensor, Tensor, Tensor]:
        to_window, to_image, shown = [], [], torch.ones(())
        for axis, side in ((1, rows), (2, columns)):
            window = (scores.shape[axis], side.inside, self.least, *self.map_options)
            back = (side.resized, side.source, side.start, side.inside, side.cut)
            to_window.append(sides.to_window(*window))
            to_image.append(sides.to_image(window, back))
            if side.cut:
                shown = shown * as_tensor(side.inside).float() / as_tensor(side.resized).float()
        return (
            to_window[0] @ scores @ to_window[1].T,
            to_image[0] @ scores @ to_image[1].T,
            shown,
        )

    def _normalised(self, score: Tensor) -> Tensor:
        if self.threshold > 0:
            return 0.5 * score / self.threshold
        return 0.5 + score - self.threshold

    def _decision(self, score: Tensor) -> Tensor:
        if math.isnan(self.threshold):
            return torch.ones_like(score, dtype=torch.int64)
        verdict = torch.where(score > self.threshold, 2, 0)
        return torch.where(score.isnan(), 1, verdict)


def _places(scores: Tensor, frame: tuple[Side, Side]) -> list[tuple[Size, Size, Place, Place]]:
    return [(scores.shape[axis + 1], side.inside, side.resized, side.start) for axis, side in enumerate(frame)]


def _eye(n: Size) -> Tensor:
    index = torch.arange(n)
    return (index[:, None] == index[None]).float()
