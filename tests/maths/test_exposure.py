import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchcore.maths.resize import FLOOR, LEVEL, SPREAD, even


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
