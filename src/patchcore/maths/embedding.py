"""From the taps of a backbone to one embedding: pool neighbourhoods, average into bins, align grids, merge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def grid_of(size: tuple[int, int], patch_size: int, stride: int) -> tuple[int, int]:
    """The (rows, columns) of neighbourhoods on a map of (h, w) cells, zero-padded by half a neighbourhood."""
    padding = (patch_size - 1) // 2
    h, w = ((side + 2 * padding - patch_size) // stride + 1 for side in size)
    return h, w


def unfold(features: Tensor, patch_size: int, stride: int) -> Tensor:
    """(B, C, h, w) -> (B, C*p*p, h'*w'): the zero-padded neighbourhood of each cell, channel by channel."""
    return F.unfold(features, patch_size, padding=(patch_size - 1) // 2, stride=stride)


def average_bins(values: Tensor, bins: int) -> Tensor:
    """(N, L) -> (N, bins): each row cut into parts of equal length, which may share an element, and averaged."""
    return F.adaptive_avg_pool1d(values[None], bins)[0]


def bin_channels(values: Tensor, bins: int) -> Tensor:
    """The same over the channels: (B, C, N) -> (B, bins, N)."""
    return F.adaptive_avg_pool1d(values.transpose(1, 2), bins).transpose(1, 2)


Pool = Literal["mean", "quarters", "bins"]
Merge = Literal["concat", "bins"]
Align = Literal["bilinear", "nearest"]
Border = Literal["zeros", "inside"]


def pool_mean(features: Tensor, patch_size: int, stride: int = 1, border: Border = "zeros") -> Tensor:
    """Mean over each p x p neighbourhood (sec. 3.1, eq. 2): (B, C, h, w) -> (B, C, h', w').

    At the border `zeros` counts the padding, as both reference systems do, which pulls border
    patches towards zero; `inside` takes the mean over what really lies in the image.
    """
    pad = (patch_size - 1) // 2
    return F.avg_pool2d(features, patch_size, stride, pad, count_include_pad=border == "zeros")


def pool_quarters(features: Tensor, patch_size: int, stride: int = 1) -> Tensor:
    """The four quarters of each p x p neighbourhood, averaged: (B, C, h, w) -> (B, 4*C, h', w'), zero-padded.

    Quarters share the middle row and column: of 3 x 3 cells, each has 2 x 2. The mean forgets how a neighbourhood is
    arranged, and all of its values together hold mostly noise; these keep its coarse arrangement.
    """
    pad = (patch_size - 1) // 2
    means = F.avg_pool2d(F.pad(features, (pad,) * 4), pad + 1, 1)
    h, w = features.shape[-2:]
    return torch.cat([means[..., y : y + h : stride, x : x + w : stride] for y in (0, pad) for x in (0, pad)], 1)


def pool_bins(features: Tensor, patch_size: int, bins: int, stride: int = 1) -> Tensor:
    """The C·p·p values of each neighbourhood, channel-major, averaged into `bins` values.

    (B, C, h, w) -> (B, bins, h', w'), zero-padded at the border.
    """
    grid = grid_of((features.shape[2], features.shape[3]), patch_size, stride)
    return bin_channels(unfold(features, patch_size, stride), bins).unflatten(2, grid)


def pooled_channels(channels: Sequence[int], pool: str, tap_bins: int) -> list[int]:
    """Values of a patch from each tap, given the taps' channels."""
    if pool == "bins":
        return [tap_bins] * len(channels)
    return [4 * channels[0], *channels[1:]] if pool == "quarters" else list(channels)


def arrangement(patches: Tensor, channels: int) -> Tensor:
    """How neighbourhoods are arranged: of patches (N, D) by quarters, what these differ by from their mean (N, 4, C).

    `channels`: C, of the first tap.
    """
    quarters = patches[:, : 4 * channels].unflatten(1, (4, channels))
    return quarters - quarters.mean(1, keepdim=True)


def tap_scales(new: Tensor, known: Tensor, widths: Sequence[int]) -> Tensor:
    """What each value is multiplied by so that taps count as they foretell: (D,), float32.

    `new` (N, D) and `known`, the patch of other good images nearest to each; `widths`: values of each tap. A sum of
    squares with the mean r has a variance in proportion to r², if its values are alike; sums of known variances are
    best joined with the inverse of these as weights, so the values of a tap are divided by its r. The scales have the
    geometric mean 1, and are at most 4 times apart from it.
    """
    left = (new.double() - known).square().mean(0).split(list(widths))
    logs = torch.stack([part.sum().clamp(min=1e-12).log() for part in left])
    scales = (logs.mean() - logs).clamp(-math.log(4), math.log(4)).exp()
    return scales.repeat_interleave(torch.tensor(list(widths))).float()


def open_share(new: Tensor, known: Tensor) -> float:
    """The share of the variance of new values (N, ...) that known ones, each the nearest to one of them, leave open.

    1 where each pair has a correlation of a half, 2 where it has none, 0 where nothing varies.
    """
    left = (new.double() - known).square().mean(0).sum()
    varies = new.double().var(0, correction=0).sum()
    return float(left / varies) if varies > 0 else 0.0


def align(features: Tensor, grid: tuple[int, int], mode: Align) -> Tensor:
    """Bring (B, C, h, w) to another grid, pixel centres at half integers."""
    return features if features.shape[-2:] == grid else resampled(features, grid, mode)


def resampled(features: Tensor, grid: tuple[int, int], mode: Align) -> Tensor:
    """As `align`, whether the grid is another or not."""
    corners = False if mode == "bilinear" else None
    return F.interpolate(features, grid, mode=mode, align_corners=corners)


def embed(
    taps: Sequence[Tensor],
    *,
    pool: Pool,
    merge: Merge,
    align_mode: Align,
    patch_size: int,
    stride: int = 1,
    border: Border = "zeros",
    tap_bins: int = 1024,
    bins: int = 1024,
) -> Tensor:
    """The locally aware patch features (sec. 3.1): taps (B, C_i, h_i, w_i) -> (B, D, h, w).

    The first tap gives the grid; the others are brought to it after pooling (pooling works on
    channels and neighbourhoods, aligning on space, so the order of the two binned forms commutes).
    `merge="concat"` stacks the channels; `"bins"` averages the stack into `bins` channels.
    """
    # With the channels of a cell side by side, everything here is several times faster, to the same bits.
    taps = [tap.contiguous(memory_format=torch.channels_last) for tap in taps]
    if pool == "mean":
        pooled = [pool_mean(tap, patch_size, stride, border) for tap in taps]
    elif pool == "quarters":  # of the finest tap: coarser ones are arranged by the grid that they are brought to
        coarser = [pool_mean(tap, patch_size, stride, border) for tap in taps[1:]]
        pooled = [pool_quarters(taps[0], patch_size, stride), *coarser]
    else:
        pooled = [pool_bins(tap, patch_size, tap_bins, stride) for tap in taps]
    h, w = pooled[0].shape[-2:]
    stacked = torch.cat([align(tap, (h, w), align_mode) for tap in pooled], 1)  # B, sum C, h, w
    if merge == "concat":
        return stacked
    return bin_channels(stacked.flatten(2), bins).unflatten(2, (h, w))


def patches_of(embedding: Tensor) -> Tensor:
    """(B, D, h, w) -> (B*h*w, D): image by image, row by row."""
    return embedding.permute(0, 2, 3, 1).flatten(0, 2)


Moments = tuple[int, Tensor, Tensor]  # of a block (n, D): n, its mean (D,), its squared deviations from it (D,)


def moments(block: Tensor) -> Moments:
    """Of patches (n, D), in float64."""
    values = block.double()
    own = values.mean(0)
    return len(values), own, (values - own).square().sum(0)


def channel_scales(blocks: Iterable[Tensor]) -> Tensor:
    """What `scales_of` makes of patches that come in blocks (n, D), in one pass."""
    return scales_of(map(moments, blocks))


def scales_of(blocks: Iterable[Moments]) -> Tensor:
    """One over the standard deviation of each of the D values over patches: (D,), float32.

    By merging the moments of their blocks, in float64. A value that hardly varies is not blown up: deviations count as
    at least 1 % of the largest.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for n, own, apart in blocks:
        squares = squares + apart + (own - mean).square() * (count * n / (count + n))
        mean = mean + (own - mean) * (n / (count + n))
        count += n
    deviation = (squares / count).sqrt()
    floor = 0.01 * deviation.max()
    return (1 / deviation.clamp(min=floor if floor > 0 else 1.0)).float()
