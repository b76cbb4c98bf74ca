import numpy as np
import pytest
import torch

from patchcore.maths.foreground import foreground, outlines, shared
from patchcore.maths.polygons import inside


def disc(size=64, radius=0.25, at=(0.5, 0.5)):
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    return np.hypot(y - at[0], x - at[1]) < radius


def image(mask, part=0.8, ground=0.2, noise=0.02, seed=0):
    values = np.where(mask, part, ground) + np.random.default_rng(seed).normal(0, noise, mask.shape)
    return np.repeat(values[..., None], 3, 2).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("part", [0.0, 0.9])
def test_a_part_on_even_ground_is_found_whether_it_is_lighter_or_darker(part):
    mask = disc()
    mask[30:34, 30:34] = False  # a hole is the part's own
    assert np.array_equal(foreground(image(mask, part, 0.5)), disc())


def test_noise_alone_and_one_grey_have_no_part():
    assert foreground(image(disc(), 0.5, 0.5, 0.1)) is None
    assert foreground(np.full((32, 32, 3), 0.5, np.float32)) is None


def test_images_share_what_nearly_all_of_them_have_with_some_room():
    found = shared([disc(), disc(), disc(radius=0.3)])
    assert found[disc()].all()
    assert not found[~disc(radius=0.3)].any()


def test_parts_that_do_not_overlap_and_images_without_a_part_share_nothing():
    assert shared([disc(at=(0.3, 0.3)), disc(at=(0.7, 0.7))]) is None
    assert shared([disc(), None]) is None
    assert shared([None, None]) is None
    assert shared([disc(radius=0.03)] * 3) is None


@pytest.mark.parametrize("seed", range(3))
def test_outlines_hold_just_the_centres_of_a_mask_s_pixels(seed):
    rough = np.random.default_rng(seed).random((23, 31)) > 0.5  # specks, holes, islands in holes
    ring = disc(31, 0.4)[:23] & ~disc(31, 0.3)[:23] | disc(31, 0.1)[:23]
    for mask in (rough, ring):
        ys, xs = ((torch.arange(side) + 0.5) / side for side in mask.shape)
        found = torch.zeros(mask.shape, dtype=torch.bool)
        for polygon in outlines(mask):
            found |= inside(polygon, ys, xs)
        assert np.array_equal(found.numpy(), mask)
