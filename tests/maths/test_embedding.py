import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.maths.embedding import align, embed, patches_of, pool_bins, pool_mean, pool_quarters


def features(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pooled_by_hand(x, patch_size, stride, border):
    """Mean over each neighbourhood, one by one."""
    batch, channels, height, width = x.shape
    half = patch_size // 2
    centres = [range(0, side, stride) for side in (height, width)]
    out = np.zeros((batch, channels, len(centres[0]), len(centres[1])))
    for i, row in enumerate(centres[0]):
        for j, column in enumerate(centres[1]):
            inside = x[:, :, max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
            count = patch_size**2 if border == "zeros" else inside.shape[2] * inside.shape[3]
            out[:, :, i, j] = inside.sum(axis=(2, 3)) / count
    return out


@pytest.mark.parametrize("border", ["zeros", "inside"])
@pytest.mark.parametrize(("patch_size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 3)])
def test_mean_pooling_is_the_mean_of_each_neighbourhood(patch_size, stride, border):
    x = features(2, 3, 7, 6)
    expected = pooled_by_hand(x.numpy(), patch_size, stride, border)
    np.testing.assert_allclose(pool_mean(x, patch_size, stride, border), expected, atol=1e-5)


def test_counting_zeros_dims_the_border_and_the_corners():
    ones = torch.ones(1, 1, 4, 4)
    zeros = pool_mean(ones, 3, border="zeros")[0, 0]
    assert zeros[0, 0] == pytest.approx(4 / 9)
    assert zeros[0, 1] == pytest.approx(6 / 9)
    assert zeros[1, 1] == pytest.approx(1)
    torch.testing.assert_close(pool_mean(ones, 3, border="inside"), ones)


@pytest.mark.parametrize(("patch_size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 3)])
def test_quarters_are_the_means_of_the_parts_that_share_the_middle(patch_size, stride):
    x = features(2, 3, 7, 6)
    half = patch_size // 2
    padded = F.pad(x, (half,) * 4)
    got = pool_quarters(x, patch_size, stride)
    for i, row in enumerate(range(0, 7, stride)):
        for j, column in enumerate(range(0, 6, stride)):
            whole = padded[..., row : row + patch_size, column : column + patch_size]
            top, bottom = whole[..., : half + 1, :], whole[..., half:, :]
            parts = [
                part[..., side].mean((2, 3)) for part in (top, bottom) for side in (slice(half + 1), slice(half, None))
            ]
            torch.testing.assert_close(got[..., i, j], torch.cat(parts, 1), atol=1e-6, rtol=1e-5)
    assert got.shape == (2, 12, -(-7 // stride), -(-6 // stride))


def test_quarters_tell_arrangements_apart_that_the_mean_does_not():
    x = torch.zeros(1, 1, 3, 3)
    x[..., 0, 0] = 1
    turned = x.flip(3)
    assert pool_mean(x, 3)[..., 1, 1] == pool_mean(turned, 3)[..., 1, 1]
    assert pool_quarters(x, 3)[0, :, 1, 1].tolist() == [0.25, 0, 0, 0]
    assert pool_quarters(turned, 3)[0, :, 1, 1].tolist() == [0, 0.25, 0, 0]


def test_binned_pooling_lists_a_neighbourhood_channel_by_channel():
    # 2 channels of 3 x 3 around the centre, in 2 bins: the mean of channel 0, then that of channel 1.
    x = features(1, 2, 3, 3)
    centre = pool_bins(x, 3, 2)[0, :, 1, 1]
    torch.testing.assert_close(centre, x[0].mean((1, 2)))
    # In 18 bins nothing is averaged.
    torch.testing.assert_close(pool_bins(x, 3, 18)[0, :, 1, 1], x.flatten())


def binned_per_patch(taps, patch_size, stride, tap_bins, bins):
    """Patch by patch, in patchcore-inspection's order: unfold, align each (c, p, p) plane, then bin."""
    planes, grid = [], None
    for tap in taps:
        batch, channels, height, width = tap.shape
        half = (patch_size - 1) // 2
        h, w = ((side + 2 * half - patch_size) // stride + 1 for side in (height, width))
        padded = F.pad(tap, (half, half, half, half))
        unfolded = torch.empty(batch, channels, patch_size, patch_size, h, w)
        for i in range(h):
            for j in range(w):
                top, left = i * stride, j * stride
                unfolded[..., i, j] = padded[:, :, top : top + patch_size, left : left + patch_size]
        grid = grid or (h, w)
        flat = unfolded.reshape(-1, 1, h, w)
        if (h, w) != grid:
            flat = F.interpolate(flat, grid, mode="bilinear", align_corners=False)
        planes.append(flat.reshape(batch, channels * patch_size**2, *grid))
    batch, (h, w) = len(taps[0]), grid
    out = torch.empty(batch, bins, h, w)
    for b in range(batch):
        for i in range(h):
            for j in range(w):
                per_tap = [F.adaptive_avg_pool1d(p[b, :, i, j][None], tap_bins)[0] for p in planes]
                out[b, :, i, j] = F.adaptive_avg_pool1d(torch.stack(per_tap).reshape(1, -1), bins)[0]
    return out


@pytest.mark.parametrize(("tap_bins", "bins"), [(16, 16), (10, 7), (40, 64)])
@pytest.mark.parametrize(("patch_size", "stride"), [(3, 1), (5, 2)])
def test_binned_embedding_equals_binning_each_patch_after_aligning(patch_size, stride, tap_bins, bins):
    taps = [features(2, 4, 8, 6, seed=1), features(2, 7, 4, 3, seed=2)]
    got = embed(
        taps,
        pool="bins",
        merge="bins",
        align_mode="bilinear",
        patch_size=patch_size,
        stride=stride,
        tap_bins=tap_bins,
        bins=bins,
    )
    expected = binned_per_patch(taps, patch_size, stride, tap_bins, bins)
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_align_brings_a_grid_to_another_as_interpolate_does(mode):
    x = features(2, 3, 4, 5)
    corners = {"align_corners": False} if mode == "bilinear" else {}
    torch.testing.assert_close(align(x, (8, 11), mode), F.interpolate(x, size=(8, 11), mode=mode, **corners))


def test_align_nearest_doubles_each_cell():
    x = torch.tensor([[[[1.0, 2.0]]]])
    assert align(x, (2, 4), "nearest").tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2]]]]


def test_align_bilinear_by_hand():
    # Centres of the four cells lie at -1/4, 1/4, 3/4, 5/4 of the way from the first value to the second.
    x = torch.tensor([[[[0.0, 4.0]]]])
    torch.testing.assert_close(align(x, (1, 4), "bilinear"), torch.tensor([[[[0.0, 1.0, 3.0, 4.0]]]]))


def test_align_leaves_a_map_on_its_own_grid_alone():
    x = features(1, 3, 5, 5)
    assert torch.equal(align(x, (5, 5), "bilinear"), x)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_concat_stacks_the_channels_of_the_taps_on_the_grid_of_the_first(mode):
    taps = [features(2, 3, 8, 8, seed=1), features(2, 5, 4, 4, seed=2), features(2, 2, 2, 2, seed=3)]
    got = embed(taps, pool="mean", merge="concat", align_mode=mode, patch_size=3, border="inside")
    assert got.shape == (2, 10, 8, 8)
    pooled = [torch.from_numpy(pooled_by_hand(t.numpy(), 3, 1, "inside")).float() for t in taps]
    corners = {"align_corners": False} if mode == "bilinear" else {}
    torch.testing.assert_close(got[:, :3], pooled[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        got[:, 3:8], F.interpolate(pooled[1], size=(8, 8), mode=mode, **corners), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        got[:, 8:], F.interpolate(pooled[2], size=(8, 8), mode=mode, **corners), atol=1e-5, rtol=1e-5
    )


def test_the_first_tap_gives_the_grid_even_when_it_is_the_coarser():
    taps = [features(1, 2, 3, 3), features(1, 2, 6, 6)]
    assert embed(taps, pool="mean", merge="concat", align_mode="bilinear", patch_size=3).shape == (1, 4, 3, 3)


@settings(max_examples=25)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 6),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    bins=st.integers(1, 12),
)
def test_binned_merge_averages_the_stack_of_each_patch(batch, channels, height, width, bins):
    x = features(batch, channels, height, width)
    got = embed([x], pool="mean", merge="bins", align_mode="bilinear", patch_size=1, bins=bins)
    # Bin k of n values in b bins covers values floor(k n / b) up to ceil((k + 1) n / b).
    for k in range(bins):
        low, high = k * channels // bins, -(-(k + 1) * channels // bins)
        torch.testing.assert_close(got[:, k], x[:, low:high].mean(1), atol=1e-5, rtol=1e-5)


def test_patches_come_image_by_image_and_row_by_row():
    embedding = features(2, 4, 3, 5)
    patches = patches_of(embedding)
    assert patches.shape == (30, 4)
    n = 0
    for b in range(2):
        for i in range(3):
            for j in range(5):
                assert torch.equal(patches[n], embedding[b, :, i, j])
                n += 1
