"""Tiling: every tile where it belongs, and no trace of it in what is put together again."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from patchcore import UsageError
from patchcore.maths.tiling import Merged, Tiling, merge, split


@st.composite
def tilings(draw):
    tile = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    stride = tuple(draw(st.integers(1, side)) for side in tile)
    return Tiling(draw(st.tuples(st.integers(1, 30), st.integers(1, 30))), tile, stride)


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize(
    ("size", "tile", "stride", "rows", "columns"),
    [
        ((8, 12), (4, 4), (4, 4), [0, 4], [0, 4, 8]),
        ((8, 12), (4, 6), (2, 3), [0, 2, 4], [0, 3, 6]),
        ((10, 7), (4, 4), (4, 4), [0, 4, 6], [0, 3]),  # not multiples: the last one is moved back
        ((4, 4), (4, 4), (4, 4), [0], [0]),
        ((3, 9), (4, 4), (3, 3), [0], [0, 3, 5]),  # higher than the image
        ((5, 5), (4, 4), (4, 4), [0, 1], [0, 1]),
    ],
)
def test_where_tiles_lie(size, tile, stride, rows, columns):
    tiling = Tiling(size, tile, stride)
    assert tiling.starts == (rows, columns)
    assert tiling.corners == [(top, left) for top in rows for left in columns]


@given(tilings())
def test_tiles_cover_the_image_and_end_with_it(tiling):
    seen = np.zeros(np.maximum(tiling.size, tiling.tile), int)
    for top, left in tiling.corners:
        part = seen[top : top + tiling.tile[0], left : left + tiling.tile[1]]
        assert part.shape == tiling.tile  # none of them looks beyond the image, or its padding
        part += 1
    assert seen.min() >= 1
    assert len(set(tiling.corners)) == len(tiling.corners)


@given(tilings())
def test_an_image_that_is_cut_and_merged_is_the_image(tiling):
    image = noise(2, 3, *tiling.size)
    torch.testing.assert_close(merge(split(image, tiling), tiling), image, rtol=2e-6, atol=0)


@given(tilings())
def test_tiles_that_touch_and_do_not_overlap_are_put_back_bit_for_bit(tiling):
    tiling = Tiling(tuple(2 * side for side in tiling.tile), tiling.tile, tiling.tile)
    image = noise(1, 2, *tiling.size)
    assert torch.equal(merge(split(image, tiling), tiling), image)


@given(tilings())
def test_the_weights_are_a_hann_window_over_the_sum_of_all(tiling):
    # Straight from the definition, in two dimensions.
    (height, width), (h, w) = tiling.size, tiling.tile
    window = np.outer(np.sin(np.pi * (np.arange(h) + 0.5) / h) ** 2, np.sin(np.pi * (np.arange(w) + 0.5) / w) ** 2)
    over, under = np.zeros((max(h, height), max(w, width))), np.zeros((max(h, height), max(w, width)))
    tiles = noise(len(tiling.corners), 1, 1, h, w)
    for (top, left), tile in zip(tiling.corners, tiles, strict=True):
        over[top : top + h, left : left + w] += window * tile[0, 0].numpy()
        under[top : top + h, left : left + w] += window
    expected = (over / under)[:height, :width]
    np.testing.assert_allclose(merge(tiles, tiling)[0, 0], expected, rtol=1e-5, atol=1e-6)


@given(tilings(), st.integers(1, 16))
def test_in_cells_the_tiles_are_the_same_tiles(tiling, cell):
    pixels = Tiling(*(tuple(cell * side for side in pair) for pair in (tiling.size, tiling.tile, tiling.stride)))
    assert pixels.in_cells(cell) == tiling
    assert pixels.corners == [(cell * top, cell * left) for top, left in tiling.corners]


@pytest.mark.parametrize("size", [(64, 96), (72, 40), (24, 100), (16, 16)])
@pytest.mark.parametrize("stride", [16, 24, 32])
def test_what_looks_no_further_than_a_cell_is_the_same_in_tiles(size, stride):
    size = tuple(side // 8 * 8 for side in size)
    image, tiling = noise(2, 3, *size), Tiling(size, (32, 32), (stride, stride))
    expected = F.avg_pool2d(image.exp(), 8)
    cells = merge((F.avg_pool2d(tile.exp(), 8) for tile in split(image, tiling)), tiling.in_cells(8))
    torch.testing.assert_close(cells, expected, rtol=1e-6, atol=0)


def test_what_a_tile_does_not_know_at_its_border_fades_out():
    # A 3 x 3 mean with zero padding is wrong in the border cells of every tile: overlaps make the seam go away.
    image = torch.ones(1, 1, 64, 64)

    def error(stride):
        tiling = Tiling((64, 64), (16, 16), (stride, stride))
        tiles = (F.avg_pool2d(tile, 3, 1, 1) for tile in split(image, tiling))
        return float((merge(tiles, tiling) - 1)[..., 1:-1, 1:-1].abs().max())

    assert error(16) > 0.5  # 5 of 9 are zeros in a corner
    assert error(12) < 0.03
    assert error(8) < 0.01


def test_padding_is_zeros_below_and_to_the_right_and_is_cut_off_again():
    tiling = Tiling((3, 5), (4, 8), (4, 8))
    (tile,) = split(torch.ones(1, 2, 3, 5), tiling)
    assert tile.shape == (1, 2, 4, 8)
    assert tile.sum() == 2 * 3 * 5
    assert tile[..., :3, :5].min() == 1
    assert torch.equal(merge([tile + 1], tiling), torch.full((1, 2, 3, 5), 2.0))


def test_tiles_are_taken_one_by_one():
    tiling, taken = Tiling((8, 8), (4, 4), (2, 2)), []

    def tiles():
        for number, tile in enumerate(split(noise(1, 1, 8, 8), tiling)):
            taken.append(number)
            yield tile

    merged, source = Merged(tiling), tiles()
    merged.add(next(source))
    assert taken == [0]
    for tile in source:
        merged.add(tile)
    torch.testing.assert_close(merged.total(), noise(1, 1, 8, 8))


def test_the_type_of_the_tiles_is_kept():
    tiling = Tiling((6, 6), (4, 4), (2, 2))
    assert merge(split(torch.ones(1, 1, 6, 6).half(), tiling), tiling).dtype == torch.float16


@pytest.mark.parametrize("stride", [(5, 4), (4, 5), (0, 4)])
def test_a_stride_that_leaves_something_out_is_refused(stride):
    with pytest.raises(UsageError, match=r"stride .* \(4, 4\).*expected a stride from 1 to the tile's side"):
        Tiling((8, 8), (4, 4), stride)


def test_what_does_not_fit_is_refused():
    tiling = Tiling((8, 8), (4, 4), (4, 4))
    with pytest.raises(UsageError, match=r"Images of \(8, 9\) pixels; .* \(8, 8\)"):
        list(split(torch.ones(1, 1, 8, 9), tiling))
    with pytest.raises(UsageError, match=r"Tile 0 has the size \(3, 4\); expected 4 of \(4, 4\)"):
        merge([torch.ones(1, 1, 3, 4)], tiling)
    with pytest.raises(UsageError, match="3 of 4 tiles have come"):
        merge([torch.ones(1, 1, 4, 4)] * 3, tiling)
    with pytest.raises(UsageError, match=r"Tile 4 .* expected 4"):
        merge([torch.ones(1, 1, 4, 4)] * 5, tiling)
    with pytest.raises(UsageError, match="not all multiples of 3"):
        tiling.in_cells(3)
