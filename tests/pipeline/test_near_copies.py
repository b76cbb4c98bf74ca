"""Near-copies among good images."""

import numpy as np
import torch
from tiny import TINY, Tiny

from patchcore import Detector
from patchcore.memory.patches import PatchStore
from patchcore.pipeline.near_copies import near_copies, said


def textures(count, side=16, dimensions=8, seed=0):
    """Patches of images (count, side, side, dimensions) that have nothing in common."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, side, side, dimensions))).float()


def stored(images):
    store = PatchStore()
    for image in images:
        store.append((image.flatten(0, 1), tuple(image.shape[:2])))
    return store


def test_images_that_have_nothing_in_common_stay_apart():
    assert near_copies(stored(textures(30))) == list(range(30))


def test_a_part_under_another_light_and_a_little_beside_is_found():
    images = textures(24)
    images[7] = 0.9 * images[3].roll(2, 0) + 3 + 0.1 * textures(1, seed=1)[0]  # shifted by two cells, brighter
    images[20] = images[3] + 0.1 * textures(1, seed=2)[0]
    expected = list(range(24))
    expected[7] = expected[20] = 3
    assert near_copies(stored(images)) == expected
    assert said(expected).startswith("3 of 24 good images are near-copies, of 1 part:")


def test_images_that_are_merely_alike_stay_apart():
    # One design, and of each image its own texture, half as strong.
    images = textures(1)[0] + 0.5 * textures(30, seed=3)
    assert near_copies(stored(images)) == list(range(30))
    assert said(list(range(30))) == ""


def test_few_images_tell_nothing():
    images = textures(5)
    images[4] = images[0]
    assert near_copies(stored(images)) == list(range(5))


def test_a_fit_keeps_them_in_one_fold_and_counts_them_once(caplog):
    rng = np.random.default_rng(0)
    # Blocks as large as a cell, so that the network sees as much in a copy that is darker.
    images = [np.kron(rng.integers(0, 230, (16, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8) for _ in range(12)]
    images += [np.clip(image + rng.integers(0, 6, image.shape), 0, 255).astype(np.uint8) for image in images[:3]]
    recipe = TINY.replace(size=64, calibration="folds")
    with caplog.at_level("INFO"):
        grouped = Detector(recipe, backbone=Tiny()).fit(images).fitted.calibration
    assert "6 of 15 good images are near-copies, of 3 parts" in caplog.text
    assert grouped.units == 12
    assert [grouped.parts[n] == grouped.parts[12 + n] for n in range(3)] == [True] * 3
    apart = Detector(recipe.replace(near_copies="apart"), backbone=Tiny()).fit(images).fitted.calibration
    assert (apart.units, apart.parts) == (15, ())
    assert min(grouped.scores[12:]) > max(apart.scores[12:])  # a copy in the bank hides what is new
