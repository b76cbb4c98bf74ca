"""Images for people: heat on one fixed scale, outlines, sheets."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from patchcore.cli import sheet
from patchcore.verdict import draw

GREY = np.full((60, 80, 3), 120, np.uint8)


def colourfulness(image) -> np.ndarray:
    """Largest less smallest channel of every pixel."""
    pixels = np.asarray(image).astype(int)
    return pixels.max(-1) - pixels.min(-1)


def flat_map(value: float, shape=(60, 80)) -> np.ndarray:
    return np.full(shape, value, np.float32)


def test_an_overlay_has_the_images_size_and_is_rgb():
    image = draw.overlay(GREY, flat_map(0), 1.0)
    assert image.size == (80, 60)
    assert image.mode == "RGB"


def test_a_calm_map_leaves_a_grey_image_as_it_is():
    assert np.array_equal(np.asarray(draw.overlay(GREY, flat_map(0.3), 1.0)), GREY)


def test_heat_grows_with_the_map_and_ends_in_full_colour():
    changes = [
        np.abs(np.asarray(draw.overlay(GREY, flat_map(v), 1.0)).astype(int) - GREY).mean() for v in (0.99, 1.05, 1.3)
    ]
    assert changes[0] == 0
    assert changes[0] < changes[1] < changes[2]
    hot = np.asarray(draw.overlay(GREY, flat_map(50.0), 1.0))
    hotter = np.asarray(draw.overlay(GREY, flat_map(500.0), 1.0))
    assert np.array_equal(hot, hotter)


def test_the_same_map_value_has_the_same_colour_in_every_image():
    # Stretched to each image's own range, the first would glow as the second does.
    calm, wild = flat_map(0.2), flat_map(0.2)
    calm[20:30, 20:30] = wild[20:30, 20:30] = 1.1
    wild[40:55, 50:70] = 8.0
    first, second = (np.asarray(draw.overlay(GREY, values, 1.0)) for values in (calm, wild))
    assert np.array_equal(first[20:30, 20:30], second[20:30, 20:30])
    assert np.array_equal(first[:15], second[:15])
    assert colourfulness(second)[45:50, 55:65].min() > 80


def test_the_scale_is_the_threshold():
    first = draw.overlay(GREY, flat_map(1.2), 1.0)
    second = draw.overlay(GREY, flat_map(48.0), 40.0)
    assert np.array_equal(np.asarray(first), np.asarray(second))


def test_what_is_over_the_threshold_is_outlined_and_nothing_else():
    values = flat_map(0.1)
    values[20:40, 30:60] = 1.2
    values[5:10, 5:10] = 0.99
    pixels = np.asarray(draw.overlay(GREY, values, 1.0))
    black, white = (pixels == 0).all(-1), (pixels == 255).all(-1)
    edge = np.zeros((60, 80), bool)
    edge[20:40, 30:60] = True
    edge[21:39, 31:59] = False
    assert np.array_equal(black, edge)
    rows, columns = np.nonzero(white)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (19, 40, 29, 60)
    assert not white[20:40, 30:60].any()


def test_a_region_that_is_given_is_outlined_in_place_of_the_threshold_s():
    values, region = flat_map(0.1), np.zeros((60, 80), bool)
    values[20:40, 30:60] = 1.2
    none = np.asarray(draw.overlay(GREY, values, 1.0, region))
    assert not (none == 0).all(-1).any()
    region[5:15, 5:15] = True
    black = (np.asarray(draw.overlay(GREY, values, 1.0, region)) == 0).all(-1)
    assert black[5, 5:15].all()
    assert not black[20:40, 30:60].any()


def hill(height: float, centre: tuple[int, int], width: float = 8.0) -> np.ndarray:
    rows, columns = np.mgrid[:60, :80]
    return height * np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * width**2))


def test_a_defect_reaches_to_half_the_height_of_its_peak():
    # A stripe 20 wide, smoothed: where the map is half as high as in its middle is the stripe's own edge.
    stripe = np.zeros((60, 80), np.float32)
    stripe[:, 30:50] = 4.0
    values = 0.5 + ndimage.gaussian_filter1d(stripe, 4.0, axis=1)
    region = draw.defect(values, 1.0, (30, 40))
    assert (values > 1.0).sum() > 1.4 * stripe.astype(bool).sum()
    assert np.array_equal(region, stripe > 0)


def test_each_defect_has_its_own_height():
    values = (0.5 + hill(9, (30, 20)) + hill(1.5, (30, 65), 5)).astype(np.float32)
    region = draw.defect(values, 1.0, (30, 20))
    assert region[30, 20]
    assert region[30, 65]
    assert not region[30, 45]
    assert not region[values <= 1.0].any()


def test_the_hottest_place_is_a_defect_though_nothing_is_over_the_threshold():
    values = (0.5 + hill(0.4, (20, 30), 4)).astype(np.float32)
    region = draw.defect(values, 1.0, (20, 30))
    assert region[20, 30]
    assert 0 < region.mean() < 0.05
    assert np.array_equal(region, values >= 0.75 * values[20, 30] + 0.25 * np.median(values))


def test_a_hottest_place_beside_a_region_over_the_threshold_is_there_too():
    values = (0.5 + hill(2, (20, 20), 4) + hill(0.4, (40, 65), 4)).astype(np.float32)
    region = draw.defect(values, 1.0, (40, 65))
    assert region[20, 20]
    assert region[40, 65]
    assert not region[30, 45]


def test_a_defect_is_never_outside_a_crop_and_never_empty():
    values = flat_map(2.0)
    values[:, :40] = np.nan
    for threshold in (1.0, 3.0, float("nan")):
        region = draw.defect(values, threshold, (30, 60))
        assert region[:, 40:].all()
        assert not region[:, :40].any()


@pytest.mark.parametrize("size", [(100, 100), (30, 200), (512, 512), (6000, 4000)])
@pytest.mark.parametrize("verdict", ["pass", "fail", "unsure"])
def test_a_caption_stands_below_the_image_in_letters_that_can_be_read(size, verdict):
    image = Image.new("RGB", size, (0, 0, 255))
    page = draw.captioned(image, verdict, "score 31.234", "threshold 13.525")
    pixels = np.asarray(page)
    assert np.array_equal(pixels[: size[1], : size[0]], np.asarray(image))
    bar = pixels[size[1] :]
    ground = bar[0, 0]
    letters = (bar.astype(int).sum(-1) > 600).any(1)
    assert not letters[0]
    assert not letters[-1]
    first = np.flatnonzero(letters)[0]
    capitals = np.flatnonzero(~letters[first:])[0]  # the height of the first line, with what reaches below it
    assert capitals >= max(7, max(size) / 50)
    assert len(bar) < 0.1 * size[1] or max(size) < 300
    contrast = (255 - ground.astype(int)).mean()
    assert contrast > 120


def test_a_long_caption_does_not_widen_a_narrow_image():
    image = Image.new("RGB", (200, 500), (0, 0, 255))
    short = draw.captioned(image, "fail", "score 22.15", "threshold 21.38")
    long = draw.captioned(image, "fail", "score 22.15", "threshold 21.38", "a remark that goes on for " + "long " * 20)
    assert short.width == long.width == 200
    assert long.height > short.height


def test_a_caption_says_verdict_score_and_threshold():
    image = Image.new("RGB", (400, 300))
    same = [np.asarray(draw.captioned(image, *said)) for said in (("pass", "score 1"), ("pass", "score 2"))]
    assert same[0].shape == same[1].shape
    assert not np.array_equal(*same)
    fail = np.asarray(draw.captioned(image, "fail", "score 1"))
    assert not np.array_equal(fail[-1, -1], same[0][-1, -1])


def test_outlines_are_wider_on_larger_images():
    values = np.zeros((800, 1000), np.float32)
    values[300:500, 300:500] = 2
    pixels = np.asarray(draw.overlay(np.full((800, 1000, 3), 120, np.uint8), values, 1.0))
    assert (pixels[400, 300:304] == 0).all()
    assert (pixels[400, 304:310] != 0).any(-1).all()


def test_the_outside_of_a_crop_is_under_a_veil_and_stays_uncoloured():
    values = flat_map(2.0)
    values[:, :40] = np.nan
    pixels = np.asarray(draw.overlay(GREY, values, 1.0))
    assert (pixels[:, :38] == np.round(0.3 * GREY[:, :38] + 0.7 * 128)).all()
    assert colourfulness(pixels)[10:50, 50:70].min() > 50


@pytest.mark.parametrize("threshold", [float("nan"), 0.0])
def test_without_a_threshold_nothing_is_coloured(threshold):
    assert np.array_equal(np.asarray(draw.overlay(GREY, flat_map(3.0), threshold)), GREY)


def test_colours_of_the_image_are_muted_so_that_colour_means_heat():
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 255
    pixels = draw.overlay(red, flat_map(0, (40, 40)), 1.0)
    assert 0 < colourfulness(pixels).max() < 100


@pytest.mark.parametrize(
    ("pixels", "value_range", "expected"),
    [
        (np.array([[[0], [100], [255]]], np.uint8), None, [0, 100, 255]),
        (np.array([[[0], [25700], [65535]]], np.uint16), None, [0, 100, 255]),
        (np.array([[[0], [0.5], [1]]], np.float32), None, [0, 127, 255]),
        (np.array([[[0], [2048], [4095], [9999]]], np.uint16), (0, 4095), [0, 127, 255, 255]),
        (np.array([[[-1], [0], [1]]], np.float32), (-1, 1), [0, 127, 255]),
        (np.array([[[50], [100], [250]]], np.uint8), (50, 150), [0, 127, 255]),
    ],
)
def test_every_depth_is_shown_in_8_bit_rgb(pixels, value_range, expected):
    shown = draw.to_uint8(pixels, value_range)
    assert shown.dtype == np.uint8
    assert shown.shape == (1, len(expected), 3)
    for channel in range(3):
        assert shown[0, :, channel] == pytest.approx(expected, abs=1)


def test_a_sheet_holds_every_image_in_rows():
    images = [(f"image {n}", Image.new("RGB", (100, 50), (0, 0, 255))) for n in range(5)]
    one_row = sheet.sheet(images[:3], 3, tile=100)
    two_rows = sheet.sheet(images, 3, tile=100)
    assert one_row.width == two_rows.width > 300
    assert two_rows.height > one_row.height + 100
    blue = (np.asarray(two_rows) == (0, 0, 255)).all(-1)
    assert blue.sum() == 5 * 100 * 50
    # Captions are below the tiles; the place of the sixth image stays empty.
    assert not blue[-150:, -105:].any()


def test_the_legend_has_the_overlay_s_colours_and_marks_the_threshold():
    shown = np.asarray(sheet._legend())
    width = shown.shape[1]
    grey = np.full((shown.shape[0], width, 3), 150, np.uint8)
    for share in (0.5, 0.99, 1.5, 1.9):
        column = round(share / 2 * (width - 1))
        expected = np.asarray(draw.overlay(grey, flat_map(share, grey.shape[:2]), 1.0))[5, 5]
        if share < 1:  # above it an outline surrounds the whole
            assert shown[5, column] == pytest.approx(expected, abs=4)
        else:
            assert colourfulness(shown)[5, column] > 80
    assert (shown[:14, width // 2] == 0).all()


def test_a_sheet_with_heat_has_the_legend_above_the_images():
    images = [("", Image.new("RGB", (100, 100), (0, 0, 255)))] * 4
    page, plain = (np.asarray(sheet.sheet(images, 4, tile=100, legend=heat)) for heat in (True, False))
    legend = np.asarray(sheet._legend())
    top = next(row for row in range(60) if np.array_equal(page[row : row + 34, 10 : 10 + legend.shape[1]], legend))
    blue = np.flatnonzero((page == (0, 0, 255)).all(-1).any(1))
    assert top + 34 <= blue[0]
    assert len(page) > len(plain)


def test_a_sheet_with_a_title_is_higher():
    images = [("", Image.new("RGB", (100, 100)))]
    assert sheet.sheet(images, 1, title="Nuts").height > sheet.sheet(images, 1).height


def test_a_sheet_shrinks_large_images_and_leaves_them_unchanged_themselves():
    large = Image.new("RGB", (1000, 500), (255, 0, 0))
    page = sheet.sheet([("", large)], 1, tile=100)
    assert page.width < 200
    assert (np.asarray(page) == (255, 0, 0)).all(-1).sum() == 100 * 50
    assert large.size == (1000, 500)
