import gc
import os
import tempfile

import pytest
import torch

from patchcore.errors import BackboneError
from patchcore.memory.patches import PatchStore


def patches(n, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def filled():
    """Three images on grids of their own."""
    store = PatchStore()
    store.append((patches(6, seed=0), (2, 3)))
    store.append((patches(4, seed=1), (4, 1)))
    store.append((patches(2, seed=2), (1, 2)))
    return store


def test_patches_are_kept_in_half_precision():
    rows = filled().gather([1])
    assert rows.dtype == torch.float16
    assert torch.equal(rows, patches(4, seed=1).half())


def test_patches_of_some_images_come_in_the_order_that_is_asked_for():
    rows = filled().gather([2, 0])
    assert torch.equal(rows, torch.cat([patches(2, seed=2), patches(6, seed=0)]).half())


def test_each_patch_comes_with_its_image_and_its_place_on_the_grid():
    origins = filled().origins_of([1, 0])
    assert origins.tolist() == [
        *([1, row, 0] for row in range(4)),
        [0, 0, 0],
        [0, 0, 1],
        [0, 0, 2],
        [0, 1, 0],
        [0, 1, 1],
        [0, 1, 2],
    ]


def test_the_grids_are_those_of_the_images():
    assert filled().grids == [(2, 3), (4, 1), (1, 2)]


def both(limit):
    """Two stores with the same eight images: one in memory, one with at most `limit` bytes there."""
    stores = PatchStore(), PatchStore(limit)
    for store in stores:
        for seed in range(8):
            store.append((patches(6, seed=seed).T.contiguous().T, (2, 3)))  # as an embedding's channels lie
    return stores


@pytest.mark.parametrize("limit", [0, 47, 48, 200, 383])
def test_patches_beyond_the_limit_are_the_same_from_a_file(limit):
    memory, file = both(limit)
    assert not memory.spilled
    assert file.spilled
    for image in range(8):
        assert torch.equal(memory.of(image), file.of(image))
    assert all(map(torch.equal, memory.each([5, 1]), file.each([5, 1])))
    scales = torch.tensor([0.3, 1.0, 2.0, 7.0])
    rows = memory.gather([0, 2, 7], scales)
    assert torch.equal(file.gather([0, 2, 7], scales), rows)
    expected = torch.cat([patches(6, seed=seed).half() for seed in (0, 2, 7)]) * scales
    assert torch.equal(rows, expected.half())
    # The others are still there.
    assert torch.equal(memory.of(3), file.of(3))


def test_what_fits_is_not_spilled():
    assert not both(384)[1].spilled


def test_a_spilled_store_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _, store = both(100)
    rows = store.gather([0, 1])
    assert rows.shape == (12, 4)
    if os.name == "posix":  # not even while it is in use
        assert list(tmp_path.iterdir()) == []
    del rows, store
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [70_000.0, -70_000.0])
def test_features_that_half_precision_cannot_hold_are_an_error(value):
    store = PatchStore()
    large = patches(6)
    large[3, 2] = value
    with pytest.raises(
        BackboneError, match=r"features up to 70000; half precision holds up to 65504.*Use a tap before"
    ):
        store.append((large, (2, 3)))
    # Nothing of the image was kept.
    assert store.grids == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_no_numbers_are_an_error(value):
    broken = patches(6)
    broken[0, 0] = value
    with pytest.raises(BackboneError, match=f"features up to {value}"):
        PatchStore().append((broken, (2, 3)))


def test_the_largest_half_is_kept():
    store = PatchStore()
    store.append((torch.full((1, 2), 65504.0), (1, 1)))
    assert store.gather([0]).tolist() == [[65504.0, 65504.0]]


def with_versions(limit=None):
    """Two images, the second with two changed versions, one of them on another grid."""
    store = PatchStore(limit)
    store.append((patches(6, seed=0), (2, 3)))
    store.append((patches(2, seed=1), (2, 1)), (patches(2, seed=2), (2, 1)), (patches(2, seed=3), (1, 2)))
    return store


@pytest.mark.parametrize("limit", [None, 0, 60])
def test_versions_follow_their_image_wherever_they_are_kept(limit):
    store = with_versions(limit)
    assert store.grids == [(2, 3), (2, 1)]
    assert torch.equal(store.of(1), patches(2, seed=1).half())
    wanted = [patches(2, seed=1), patches(2, seed=2), patches(2, seed=3), patches(6, seed=0)]
    assert torch.equal(torch.cat(list(store.each([1, 0]))), torch.cat(wanted).half())
    assert store.origins_of([1, 0]).tolist() == [
        [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 1], [1, 0, 0, 2], [1, 0, 1, 2],
        *([0, row, column, 0] for row in range(2) for column in range(3)),
    ]  # fmt: skip
    assert torch.equal(store.gather([1, 0]), torch.cat(wanted).half())


def test_images_without_versions_have_origins_of_three_numbers():
    assert with_versions().origins_of([0]).shape == (6, 3)
