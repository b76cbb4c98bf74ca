import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchcore.maths.exposure import FLOOR, LEVEL, SPREAD, blocks_of, even, variation


def images(seed=0, shape=(3, 17, 23)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.5 + 0.2


def test_mean_and_spread_are_those_of_the_whole_image():
    image = images()
    values = image.numpy().astype(float)
    expected = (values - values.mean()) / (values.std() + FLOOR) * SPREAD + LEVEL
    np.testing.assert_allclose(even(image), expected, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_of_a_part_that_is_shown_it_is_that_of_the_part_alone(level):
    batch = torch.full((2, 3, 24, 30), level)
    batch[..., :17, :23] = torch.stack([images(0), images(1) * 0.5])
    shown = (torch.arange(24) < 17)[:, None] & (torch.arange(30) < 23)
    expected = even(batch[..., :17, :23])
    torch.testing.assert_close(even(batch, shown)[..., :17, :23], expected, atol=1e-6, rtol=0)


def test_each_image_of_a_batch_is_taken_by_itself():
    batch = torch.stack([images(0), images(1) * 0.5])
    torch.testing.assert_close(even(batch), torch.stack([even(one) for one in batch]))


@given(gain=st.floats(0.5, 2), shift=st.floats(-0.2, 0.2))
def test_light_that_changes_hardly_changes_the_image(gain, shift):
    # The floor under the spread keeps it from being exactly the same.
    image = images()
    spread = float(image.std(correction=0))
    allowed = SPREAD * abs(spread / (spread + FLOOR) - gain * spread / (gain * spread + FLOOR)) * 5 + 1e-5
    assert float((even(image * gain + shift) - even(image)).abs().max()) <= allowed
    assert float((even(image + shift) - even(image)).abs().max()) <= 1e-5


def test_colours_keep_their_differences():
    image = images()
    image[0] += 0.2
    ratio = SPREAD / (float(image.std(correction=0)) + FLOOR)
    torch.testing.assert_close(even(image)[0] - even(image)[1], (image[0] - image[1]) * ratio, atol=1e-6, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_an_image_without_contrast_is_a_plain_grey(level):
    noise = torch.randn(3, 9, 9, generator=torch.Generator().manual_seed(0)) * 1e-3
    assert float((even(torch.full((3, 9, 9), level)) - LEVEL).abs().max()) < 1e-5
    assert float((even(level + noise) - LEVEL).abs().max()) < 0.05


def blocks(n=40, seed=0, light=0.0, content=0.02):
    """Of images that share a fixed scene: its light by image, its content by block."""
    generator = np.random.default_rng(seed)
    scene = generator.uniform(0.2, 0.8, (8, 8))
    return torch.from_numpy(
        scene + light * generator.normal(size=(n, 1, 1)) + content * generator.normal(size=(n, 8, 8))
    ).float()


@pytest.mark.parametrize(("light", "content"), [(0.06, 0.02), (0.02, 0.02), (0.01, 0.03)])
def test_the_variation_is_that_of_light_over_that_of_content(light, content):
    found = np.mean([variation(blocks(200, seed, light, content)) for seed in range(8)])
    assert found == pytest.approx((light / content) ** 2 + 1 / 64, rel=0.1)


def test_content_alone_and_a_fixed_scene_alone_are_no_light():
    assert variation(blocks(light=0.0)) < 0.1  # a 64th, if the blocks have nothing in common
    assert variation(blocks()[:1].expand(20, -1, -1)) == 0
    assert variation(blocks(light=0.1, content=0.0)) > 1e6


def test_one_image_does_not_tell_how_light_varies():
    assert variation(blocks(1)) == float("inf")


def test_blocks_are_means_over_channels_and_pixels():
    image = images(shape=(3, 16, 24))
    expected = image.numpy().reshape(3, 8, 2, 8, 3).mean((0, 2, 4))
    np.testing.assert_allclose(blocks_of(image), expected, atol=1e-6)
    assert blocks_of(images(shape=(1, 5, 3))).shape == (8, 8)  # smaller than the blocks
