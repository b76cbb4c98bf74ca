"""Each number tells one thing, and stays where another changes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from patchcore.maths.appearance import appearance


@pytest.fixture(scope="module")
def grey():
    return gaussian_filter(np.random.default_rng(0).random((60, 80)), 0.7) * 0.5


def of(grey):
    return appearance(torch.from_numpy(np.asarray(grey, np.float32))[None])


def test_brightness_and_contrast_are_mean_and_deviation(grey):
    found = of(grey)
    assert found.brightness == pytest.approx(grey.mean(), abs=1e-5)
    assert found.contrast == pytest.approx(grey.std(), abs=1e-5)


def test_grey_in_three_channels_is_grey(grey):
    three = torch.from_numpy(grey.astype(np.float32)).expand(3, -1, -1)
    assert appearance(three) == pytest.approx(of(grey), abs=1e-5)


def test_sharpness_is_the_mean_bend_in_units_of_contrast(grey):
    bends = [np.abs(np.diff(grey, 2, axis=axis)).mean() / 2 for axis in (0, 1)]
    assert of(grey).sharpness == pytest.approx(np.mean(bends) / (grey.std() + 1e-4), rel=1e-3)


def test_blur_lowers_sharpness_and_light_leaves_it(grey):
    assert of(gaussian_filter(grey, 1)).sharpness < 0.7 * of(grey).sharpness
    assert of(grey * 1.3 + 0.1).sharpness == pytest.approx(of(grey).sharpness, rel=2e-3)


def test_the_place_is_that_of_the_edges():
    image = np.zeros((100, 200))
    image[20:40, 50:90] = 1
    found = of(image)
    assert (found.across, found.down) == pytest.approx((70 / 200, 30 / 100))
    assert of(np.roll(image, (10, 20), (0, 1)))[3:] == pytest.approx((90 / 200, 40 / 100))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2)])
def test_the_smallest_images_have_an_appearance(size):
    assert of(np.full(size, 0.5)) == pytest.approx((0.5, 0, 0, 0.5, 0.5))


def test_a_large_image_is_looked_at_in_part(grey):
    large = np.tile(grey, (25, 25))
    assert of(large) == pytest.approx(of(np.tile(grey, (5, 5))), rel=0.02)
