import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from patchcore.maths.maps import anomaly_map, gaussian_matrix, upsample_matrix
from patchcore.maths.resize import Frame, letterbox_frame, short_side_frame


def patch_scores(h, w, seed=0):
    return 5 + torch.randn(h, w, generator=torch.Generator().manual_seed(seed))


def upsampled(scores, size, mode):
    corners = {"align_corners": False} if mode == "bilinear" else {}
    return F.interpolate(scores.double()[None, None], size=size, mode=mode, **corners)[0, 0]


def smoothed_by_scipy(image, sigma, border):
    mode = {"symmetric": "reflect", "mirror": "mirror"}[border]  # scipy's names for the two
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), sigma, mode=mode, truncate=4.0))


def smoothed_by_convolution(image, sigma):
    """33 taps for sigma 4, padded by torch's `reflect`, as the lightning family does."""
    radius = int(4 * sigma + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(image[None, None], (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[0, 0]


def brought_back(window, frame):
    """The window's map at the source's size: antialiased, from the pixels that the window shows."""
    top, left = -frame.offset[0], -frame.offset[1]
    h, w = window.shape
    canvas, weight = torch.zeros(2, *frame.resized, dtype=torch.float64)
    canvas[top : top + h, left : left + w] = window
    weight[top : top + h, left : left + w] = 1
    both = F.interpolate(
        torch.stack([canvas, weight])[None], frame.source, mode="bilinear", antialias=True, align_corners=False
    )[0]
    return both[0] / both[1]


def shown_by_crop(frame):
    """Of each source pixel: 1 if its centre lies inside the part that the window shows, 0 if outside.

    NaN where it may count as either: on the very edge, or, in a small image that was enlarged,
    within a tenth of a pixel of it.
    """
    sides = []
    for axis in (0, 1):
        scale = frame.resized[axis] / frame.source[axis]
        centre = (torch.arange(frame.source[axis]).double() + 0.5) * scale + frame.offset[axis]
        depth = torch.minimum(centre, frame.inside[axis] - centre)
        edge = scale / 10 if scale > 1 else 1e-9
        sides.append(torch.where(depth.abs() < edge, torch.nan, (depth > 0).double()))
    return sides[0][:, None] * sides[1][None]


def check(scores, frame, sigma, upsample, border):
    got = anomaly_map(scores, frame, sigma=sigma, upsample=upsample, border=border)
    window = upsampled(scores, frame.inside, upsample)
    if sigma:
        window = smoothed_by_scipy(window, sigma, border)
    expected = brought_back(window, frame)
    shown = shown_by_crop(frame)
    assert got.shape == frame.source
    assert not got[shown == 1].isnan().any()
    assert got[shown == 0].isnan().all()
    torch.testing.assert_close(got[shown == 1].double(), expected[shown == 1], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("upsample", ["bilinear", "nearest"])
@pytest.mark.parametrize("border", ["symmetric", "mirror"])
@pytest.mark.parametrize("sigma", [0, 1.3, 4.0])
@pytest.mark.parametrize("source", [(256, 256), (301, 199), (90, 120)])
def test_the_map_of_a_stretched_image(source, sigma, border, upsample):
    check(patch_scores(16, 16), Frame(source, (128, 128), (128, 128)), sigma, upsample, border)


def test_a_mirrored_map_is_the_33_tap_convolution_of_the_lightning_family():
    scores = patch_scores(28, 28)
    frame = Frame((224, 224), (224, 224), (224, 224))
    got = anomaly_map(scores, frame, sigma=4.0, upsample="nearest", border="mirror")
    expected = smoothed_by_convolution(upsampled(scores, (224, 224), "nearest"), 4.0)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


def test_a_symmetric_map_is_that_of_the_inspection_family():
    scores = patch_scores(28, 28)
    frame = Frame((224, 224), (224, 224), (224, 224))
    got = anomaly_map(scores, frame, sigma=4.0, upsample="bilinear", border="symmetric")
    expected = ndimage.gaussian_filter(upsampled(scores, (224, 224), "bilinear").numpy(), sigma=4)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    "source", [(300, 300), (333, 251), (251, 333), (1024, 700), (100, 131), (60, 60), (224, 640), (257, 256)]
)
def test_a_crop_leaves_nan_exactly_outside_itself(source):
    check(patch_scores(28, 28), short_side_frame(source, 256, (224, 224), 8), 4.0, "bilinear", "symmetric")


@settings(max_examples=60)
@given(
    height=st.integers(10, 200),
    width=st.integers(10, 200),
    short=st.integers(16, 80),
    cut=st.integers(0, 15),
)
def test_a_crop_leaves_nan_exactly_outside_itself_at_any_size(height, width, short, cut):
    crop = short - min(cut, short - 8)
    frame = short_side_frame((height, width), short, (crop, crop), 8)
    values = anomaly_map(torch.ones(4, 4), frame, sigma=1.0, upsample="nearest", border="symmetric")
    shown = shown_by_crop(frame)
    torch.testing.assert_close(values[shown == 1], torch.ones(int((shown == 1).sum())))
    assert values[shown == 0].isnan().all()


@pytest.mark.parametrize("source", [(100, 400), (400, 100), (37, 41), (500, 130)])
def test_the_map_of_a_letterboxed_image_covers_all_of_it(source):
    frame = letterbox_frame(source, (128, 128), 8)
    scores = patch_scores(frame.inside[0] // 8, frame.inside[1] // 8)
    check(scores, frame, 4.0, "bilinear", "symmetric")


@pytest.mark.parametrize("border", ["symmetric", "mirror"])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 40])
def test_smoothing_reflects_again_and_again_where_the_signal_is_shorter_than_the_kernel(n, border):
    signal = np.random.default_rng(n).random(n)
    mode = {"symmetric": "reflect", "mirror": "mirror"}[border]
    expected = ndimage.gaussian_filter1d(signal, 4.0, mode=mode, truncate=4.0)
    np.testing.assert_allclose(gaussian_matrix(n, 4.0, border).double().numpy() @ signal, expected, atol=1e-6)


@settings(max_examples=40)
@given(n=st.integers(1, 60), sigma=st.floats(0.05, 12), border=st.sampled_from(["symmetric", "mirror"]))
def test_smoothing_keeps_a_constant_map(n, sigma, border):
    torch.testing.assert_close(gaussian_matrix(n, sigma, border).sum(1), torch.ones(n), atol=1e-5, rtol=0)


def test_no_smoothing_at_sigma_zero():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    frame = Frame((4, 4), (4, 4), (4, 4))
    values = anomaly_map(scores, frame, sigma=0, upsample="nearest", border="mirror")
    assert values.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


@settings(max_examples=60)
@given(n_in=st.integers(1, 64), n_out=st.integers(1, 300))
def test_nearest_takes_the_cell_that_a_pixel_starts_in(n_in, n_out):
    matrix = upsample_matrix(n_in, n_out, "nearest")
    assert matrix.argmax(1).tolist() == [i * n_in // n_out for i in range(n_out)]
    assert (matrix.sum(1) == 1).all()


@settings(max_examples=40)
@given(cells=st.integers(1, 40), factor=st.integers(1, 16))
def test_nearest_is_that_of_torch_for_whole_cells(cells, factor):
    matrix = upsample_matrix(cells, cells * factor, "nearest")
    values = torch.arange(cells).double()
    expected = F.interpolate(values[None, None], cells * factor, mode="nearest")[0, 0]
    assert torch.equal(matrix.double() @ values, expected)


@settings(max_examples=40)
@given(n_in=st.integers(1, 40), factor=st.floats(1, 12))
def test_bilinear_is_that_of_torch(n_in, factor):
    n_out = round(n_in * factor)
    values = torch.rand(n_in, generator=torch.Generator().manual_seed(0)).double()
    expected = F.interpolate(values[None, None], n_out, mode="linear", align_corners=False)[0, 0]
    torch.testing.assert_close(upsample_matrix(n_in, n_out, "bilinear").double() @ values, expected, atol=1e-6, rtol=0)


def test_a_spot_on_the_grid_is_highest_at_the_same_place_in_the_image():
    scores = torch.zeros(28, 28)
    scores[5, 20] = 1
    frame = short_side_frame((512, 1024), 256, (224, 224), 8)
    values = anomaly_map(scores, frame, sigma=4.0, upsample="bilinear", border="symmetric").nan_to_num(-1)
    row, column = divmod(int(values.argmax()), 1024)
    # Cell (5, 20) is centred at (44, 164) in the crop, at +(16, 144) in the resized image, twice that in the source.
    assert abs(row - 2 * (44 + 16)) <= 2
    assert abs(column - 2 * (164 + 144)) <= 2


def test_frame_of_the_source_s_own_size_keeps_pixels_apart():
    frame = Frame((3, 2), (3, 2), (3, 2))
    scores = patch_scores(3, 2)
    assert torch.equal(anomaly_map(scores, frame, sigma=0, upsample="bilinear", border="mirror"), scores)
