import pytest
import torch

from patchcore.errors import BackboneError
from patchcore.memory.patches import PatchStore


def patches(n, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def filled():
    """Three pictures on grids of their own."""
    store = PatchStore()
    store.append(patches(6, seed=0), (2, 3))
    store.append(patches(4, seed=1), (4, 1))
    store.append(patches(2, seed=2), (1, 2))
    return store


def test_patches_are_kept_in_half_precision():
    rows = filled().rows_of([1])
    assert rows.dtype == torch.float16
    assert torch.equal(rows, patches(4, seed=1).half())


def test_patches_of_some_pictures_come_in_the_order_that_is_asked_for():
    rows = filled().rows_of([2, 0])
    assert torch.equal(rows, torch.cat([patches(2, seed=2), patches(6, seed=0)]).half())


def test_each_patch_comes_with_its_picture_and_its_place_on_the_grid():
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


def test_the_grids_are_those_of_the_pictures():
    assert filled().grids == [(2, 3), (4, 1), (1, 2)]


def test_what_is_appended_later_does_not_change_what_was_there():
    store = filled()
    before = store.rows_of([0, 1]).clone()
    store.append(patches(3, seed=5), (3, 1))
    assert torch.equal(store.rows_of([0, 1]), before)


@pytest.mark.parametrize("value", [70_000.0, -70_000.0])
def test_features_that_half_precision_cannot_hold_are_an_error(value):
    store = PatchStore()
    large = patches(6)
    large[3, 2] = value
    with pytest.raises(
        BackboneError, match=r"features up to 70000; half precision holds up to 65504.*Use a tap before"
    ):
        store.append(large, (2, 3))
    # Nothing of the picture was kept.
    assert store.grids == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_no_numbers_are_an_error(value):
    broken = patches(6)
    broken[0, 0] = value
    with pytest.raises(BackboneError, match=f"features up to {value}"):
        PatchStore().append(broken, (2, 3))


def test_the_largest_half_is_kept():
    store = PatchStore()
    store.append(torch.full((1, 2), 65504.0), (1, 1))
    assert store.rows_of([0]).tolist() == [[65504.0, 65504.0]]
