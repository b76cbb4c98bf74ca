import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from patchcore.maths.resize import (
    Frame,
    area_frame,
    letterbox_frame,
    pad,
    place,
    resize,
    resize_matrix,
    short_side_frame,
)

sides = st.integers(2, 97)  # torch 2.14 itself is wrong for images one pixel wide; Pillow stands in for them below
kernels = st.sampled_from(["bilinear", "bicubic"])


def some_image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def interpolated(image, size, kernel):
    """In float64: in float32, torch places large images' pixel centres only to about 1e-5."""
    double = F.interpolate(image.double(), size, mode=kernel, antialias=True, align_corners=False)
    return double.float()


@settings(max_examples=60)
@given(source=st.tuples(sides, sides), target=st.tuples(sides, sides), kernel=kernels)
def test_resize_is_the_antialiased_one_of_torch(source, target, kernel):
    image = some_image(2, 3, *source)
    expected = interpolated(image, target, kernel)
    torch.testing.assert_close(resize(image, target, kernel), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("source", "target"),
    [((900, 701), (256, 224)), ((33, 47), (256, 256)), ((1024, 1024), (224, 224)), ((300, 40), (41, 300))],
)
def test_resize_is_the_antialiased_one_of_torch_at_real_sizes(source, target, kernel):
    image = some_image(1, 3, *source)
    expected = interpolated(image, target, kernel)
    torch.testing.assert_close(resize(image, target, kernel), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("source", [(61, 83), (200, 97), (12, 9), (70, 1), (1, 5)])
@pytest.mark.parametrize(
    ("kernel", "pillow"), [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)]
)
def test_resize_is_the_float_resize_of_pillow(source, kernel, pillow):
    image = some_image(*source)
    expected = np.asarray(Image.fromarray(image.numpy()).resize((31, 44), pillow))
    np.testing.assert_allclose(resize(image, (44, 31), kernel).numpy(), expected, atol=1e-5)


@settings(max_examples=60)
@given(n_in=st.integers(1, 400), n_out=st.integers(1, 400), kernel=kernels)
def test_every_row_of_the_matrix_sums_to_one(n_in, n_out, kernel):
    matrix = resize_matrix(n_in, n_out, kernel)
    assert matrix.shape == (n_out, n_in)
    torch.testing.assert_close(matrix.double().sum(1), torch.ones(n_out, dtype=torch.float64), atol=1e-6, rtol=0)


def test_halving_weighs_the_four_nearest_pixels_as_a_triangle_does():
    # The triangle is 2 px wide to each side; the centres lie 0.5 and 1.5 px away: 3/4 and 1/4, halved.
    row = resize_matrix(8, 4, "bilinear")[1]
    torch.testing.assert_close(row, torch.tensor([0, 1, 3, 3, 1, 0, 0, 0]) / 8)


def test_resize_to_the_same_size_changes_nothing():
    image = some_image(3, 17, 23)
    assert torch.equal(resize(image, (17, 23), "bicubic"), image)


def test_resize_keeps_the_type_and_the_leading_dimensions():
    assert resize(some_image(2, 5, 3, 20, 20).double(), (7, 9), "bilinear").dtype == torch.float64
    assert resize(some_image(2, 5, 3, 20, 20), (7, 9), "bilinear").shape == (2, 5, 3, 7, 9)


def test_gradients_flow_through_a_resize_that_a_prediction_has_made_before():
    # What is kept between calls must not remember that it was made in inference mode.
    with torch.inference_mode():
        resize(some_image(1, 53, 59), (17, 19), "bilinear")
    image = some_image(1, 53, 59).requires_grad_()
    resize(image, (17, 19), "bilinear").sum().backward()
    assert float(image.grad.sum()) == pytest.approx(17 * 19, rel=1e-5)


def test_stretch_shows_the_whole_image_in_the_whole_window():
    frame = Frame((300, 500), (256, 128), (256, 128))
    assert frame == Frame((300, 500), (256, 128), (256, 128), (0, 0))
    assert frame.inside == (256, 128)
    assert frame.coverage == 1.0


@settings(max_examples=80)
@given(
    height=st.integers(10, 900),
    width=st.integers(10, 900),
    short=st.integers(16, 300),
    cut=st.integers(0, 20),
)
def test_short_side_with_crop_has_the_geometry_of_torchvision(height, width, short, cut):
    from torchvision.transforms.v2 import functional as TF

    crop = short - min(cut, short - 1)
    frame = short_side_frame((height, width), short, (crop, crop), 8)
    # An image of coordinates says which pixels the crop shows, whatever the kernel does.
    resized = torch.empty(1, *frame.resized)
    sized = TF.resize(torch.empty(1, height, width), [short], antialias=True)
    assert sized.shape == resized.shape
    h, w = frame.resized
    coordinates = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
    shown = TF.center_crop(coordinates, [crop, crop])
    assert (-int(shown[0, 0, 0]), -int(shown[1, 0, 0])) == frame.offset
    assert frame.window == frame.inside == (crop, crop)
    assert frame.coverage == pytest.approx(crop * crop / (h * w))


@pytest.mark.parametrize("source", [(333, 251), (251, 333), (900, 641), (224, 640), (257, 257), (100, 131)])
def test_short_side_with_crop_gives_the_pixels_of_torchvision(source):
    from torchvision.transforms import v2

    image = some_image(3, *source)
    expected = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])(image.double()).float()
    shown = place(image, short_side_frame(source, 256, (224, 224), 8), "bilinear")
    torch.testing.assert_close(shown, expected, atol=2e-6, rtol=1e-5)


@settings(max_examples=80)
@given(source=st.tuples(st.integers(1, 2000), st.integers(1, 2000)), multiple=st.sampled_from([1, 8, 16, 32]))
def test_short_side_without_crop_keeps_all_of_the_image_in_whole_cells(source, multiple):
    frame = short_side_frame(source, 256, None, multiple)
    assert frame.window == frame.resized == frame.inside
    assert frame.offset == (0, 0)
    assert frame.coverage == 1.0
    assert min(frame.window) == 256
    for side, shown in zip(source, frame.window, strict=True):
        assert shown % multiple == 0
        assert abs(shown - side * 256 / min(source)) <= multiple / 2


@settings(max_examples=80)
@given(
    source=st.tuples(st.integers(20, 2000), st.integers(20, 2000)),
    size=st.tuples(st.integers(100, 400), st.integers(100, 400)),
    multiple=st.sampled_from([1, 8, 16, 32]),
)
def test_area_keeps_the_proportions_and_has_the_area_of_the_size(source, size, multiple):
    frame = area_frame(source, size, multiple)
    assert frame.window == frame.resized == frame.inside
    assert frame.offset == (0, 0)
    assert frame.coverage == 1.0
    # height / width = source's, height * width = the size's, each to the nearest multiple
    area, proportion = size[0] * size[1], source[0] / source[1]
    for shown, exact in zip(frame.window, ((area * proportion) ** 0.5, (area / proportion) ** 0.5), strict=True):
        assert shown % multiple == 0
        assert abs(shown - exact) <= multiple / 2 + 1e-6 or shown == multiple


def test_area_by_hand():
    # 100 x 400 with the area of 256 x 256: 128 x 512.
    assert area_frame((100, 400), (256, 256), 16).window == (128, 512)
    assert area_frame((77, 77), (256, 256), 16).window == (256, 256)


@settings(max_examples=120)
@given(
    source=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    cells=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    multiple=st.sampled_from([8, 16, 32]),
)
def test_letterbox_fits_the_whole_image_with_no_cell_half_padding(source, cells, multiple):
    size = (cells[0] * multiple, cells[1] * multiple)
    frame = letterbox_frame(source, size, multiple)
    assert frame.window == size
    assert frame.inside == frame.resized
    assert frame.coverage == 1.0
    scale = min(size[0] / source[0], size[1] / source[1])
    for side, shown, limit in zip(source, frame.resized, size, strict=True):
        assert shown % multiple == 0
        assert multiple <= shown <= limit
        assert abs(shown - side * scale) <= multiple / 2 or shown == multiple
    assert frame.resized[0] == size[0] or frame.resized[1] == size[1]


def test_letterbox_of_a_wide_image_by_hand():
    # 1000 x 400 in a 256 square: 256 x 102.4, and the nearest multiple of 16 to 102.4 is 96.
    frame = letterbox_frame((400, 1000), (256, 256), 16)
    assert frame == Frame((400, 1000), (96, 256), (256, 256))


def test_coverage_of_a_crop_is_the_share_of_the_area_that_is_shown():
    # 512 x 256 resized, of which 224 x 224 is shown.
    frame = short_side_frame((512, 256), 256, (224, 224), 8)
    assert frame.coverage == pytest.approx(224 * 224 / (512 * 256))


def test_place_and_pad_put_the_image_top_left_and_zeros_elsewhere():
    image = some_image(3, 40, 100) + 1  # no zeros of its own
    frame = letterbox_frame((40, 100), (64, 64), 8)
    placed = place(image, frame, "bilinear")
    window = pad(placed, frame)
    assert placed.shape == (3, 24, 64)
    assert window.shape == (3, 64, 64)
    torch.testing.assert_close(window[:, :24], interpolated(image[None], (24, 64), "bilinear")[0], atol=2e-6, rtol=1e-5)
    assert (window[:, 24:] == 0).all()


def test_pad_to_the_right_of_a_tall_image():
    image = some_image(1, 100, 40) + 1
    frame = letterbox_frame((100, 40), (64, 64), 8)
    window = pad(place(image, frame, "bilinear"), frame)
    assert window.shape == (1, 64, 64)
    assert (window[..., :24] > 0).all()
    assert (window[..., 24:] == 0).all()


def test_pad_leaves_a_full_window_as_it_is():
    image = some_image(3, 50, 50)
    frame = short_side_frame((60, 50), 50, (50, 50), 8)
    assert pad(image, frame).shape == (3, 50, 50)
