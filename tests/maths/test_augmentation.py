"""Augmented copies of an image."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from patchcore.maths.augmentation import Augmentation, augmented

PILLOW = {
    "flip_h": Image.Transpose.FLIP_LEFT_RIGHT,
    "flip_v": Image.Transpose.FLIP_TOP_BOTTOM,
    "rotate_90": Image.Transpose.ROTATE_90,
    "rotate_180": Image.Transpose.ROTATE_180,
    "rotate_270": Image.Transpose.ROTATE_270,
    "transpose": Image.Transpose.TRANSPOSE,
    "transverse": Image.Transpose.TRANSVERSE,
}


@pytest.mark.parametrize("how", get_args(Augmentation))
@given(st.data())
def test_they_are_what_pillow_makes_of_an_image(how, data):
    side = st.integers(1, 6)
    shape = (data.draw(side), data.draw(side), *data.draw(st.sampled_from([(), (3,)])))
    pixels = data.draw(arrays.arrays(np.uint8, shape))
    wanted = np.asarray(Image.fromarray(pixels).transpose(PILLOW[how]))
    assert np.array_equal(augmented(pixels, how), wanted)


@pytest.mark.parametrize("kind", [np.uint16, np.float32, np.bool_])
def test_the_type_stays_and_the_image_is_left_as_it_was(kind):
    pixels = np.arange(24).reshape(2, 4, 3).astype(kind)
    before = pixels.copy()
    made = augmented(pixels, "transpose")
    made[:] = 1
    assert made.dtype == kind
    assert made.flags.c_contiguous
    assert np.array_equal(pixels, before)
