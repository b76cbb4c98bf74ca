"""Regions against other labellings, shapes of known size, and another reader of COCO's polygons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco
from scipy import ndimage
from skimage import draw as shapes
from skimage import measure

from patchcore.verdict.regions import labelled, large, measured

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.booleans())


def found(mask, values=None, gap=0.0, mm=None):
    return measured(mask, np.ones(mask.shape, np.float32) if values is None else values, gap, mm)


def rasterised(regions, shape):
    """What pycocotools makes of the polygons."""
    outlines = [[value for point in polygon for value in point] for one in regions for polygon in one.polygons]
    return coco.decode(coco.merge(coco.frPyObjects(outlines, *shape))).astype(bool)


def blobs(seed, sigma=5.0, shape=(120, 150)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return (noise / noise.std()).astype(np.float32)


@given(MASKS, st.integers(0, 2**31))
def test_regions_are_those_that_scikit_image_finds(mask, seed):
    values = np.random.default_rng(seed).random(mask.shape, np.float32)
    regions = found(mask, values)
    expected = sorted(
        (tuple(one.bbox), int(one.area), float(one.intensity_max))
        for one in measure.regionprops(measure.label(mask, connectivity=1), values)
    )
    boxes = [(top, left, top + height, left + width) for left, top, width, height in (one.box for one in regions)]
    assert sorted((box, one.area, one.peak) for box, one in zip(boxes, regions, strict=True)) == expected
    assert [one.number for one in regions] == list(range(1, len(regions) + 1))
    assert [one.peak for one in regions] == sorted((one.peak for one in regions), reverse=True)


@given(MASKS, st.floats(0, 8))
def test_pixels_closer_than_the_gap_are_in_one_region_and_others_are_not(mask, gap):
    labels = labelled(mask, gap)
    assert np.array_equal(labels > 0, mask)
    points = np.argwhere(mask)
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    near = (apart <= 1) | (apart < gap + 1 - 1e-6)
    for _ in range(len(points).bit_length()):  # paths of any length
        near = near.astype(int) @ near.astype(int) > 0
    own = labels[mask]
    assert np.array_equal(own[:, None] == own[None], near)


@given(MASKS, st.integers(0, 30), st.floats(0, 4))
def test_small_regions_are_left_out_but_for_the_one_with_the_highest_peak(mask, least, gap):
    values = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    kept, regions = large(mask, values, least, gap), found(mask, values, gap)
    assert kept.any() == mask.any()
    assert not kept[~mask].any()
    expected = {one.box for one in regions if one.area >= least or one.number == 1}
    assert {one.box for one in found(kept, values, gap)} == expected


@pytest.mark.parametrize("seed", range(4))
def test_polygons_are_the_regions_to_half_a_pixel(seed):
    mask = ndimage.binary_fill_holes(blobs(seed) > 1)
    regions = found(mask)
    again = rasterised(regions, mask.shape)
    wrong = again != mask
    inner = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    outer = ndimage.distance_transform_edt(~mask)
    assert max(inner[wrong].max(initial=0), outer[wrong].max(initial=0)) <= 1  # pixels at the edge itself
    assert (again & mask).sum() / (again | mask).sum() > 0.95
    assert sum(len(polygon) for one in regions for polygon in one.polygons) < 0.5 * measure.perimeter(mask)


@given(MASKS)
def test_every_pixel_of_a_region_is_in_its_polygon(mask):
    for one in found(mask):
        outlines = np.concatenate(one.polygons)
        left, top, width, height = one.box
        assert outlines.min(0).tolist() == [left, top]
        assert outlines.max(0).tolist() == [left + width, top + height]
        assert all(len(polygon) >= 3 for polygon in one.polygons)


def test_rectangles_are_measured_exactly():
    mask = np.zeros((40, 50), bool)
    mask[10:13, 5:25] = True
    mask[39, 49] = True
    values = np.where(mask, 2.0, 0.5).astype(np.float32)
    values[39, 49] = 3
    point, line = found(mask, values)
    assert (point.box, point.area, point.length, point.width) == ((49, 39, 1, 1), 1, 1, 1)
    assert (line.box, line.area, line.length, line.width, line.unit) == ((5, 10, 20, 3), 60, 20, 3, "px")
    assert set(line.polygons[0]) == {(5, 10), (25, 10), (25, 13), (5, 13)}
    assert (point.peak, line.peak) == (3, 2)
    _, line = found(mask, values, mm=0.5)
    assert (line.box, line.area, line.length, line.width, line.unit) == ((5, 10, 20, 3), 15, 10, 1.5, "mm")


@pytest.mark.parametrize("degrees", [0, 17, 45, 80, 120])
def test_length_and_width_are_along_the_region_s_own_axes(degrees):
    turn = np.deg2rad(degrees)
    along, across = np.array([np.cos(turn), np.sin(turn)]) * 50, np.array([-np.sin(turn), np.cos(turn)]) * 8
    corners = np.array([along + across, along - across, -along - across, -along + across]) + 70
    mask = shapes.polygon2mask((141, 141), corners)
    (one,) = found(mask)
    assert one.length == pytest.approx(100, abs=2)
    assert one.width == pytest.approx(16, abs=2)


def test_parts_that_are_joined_have_an_outline_each_and_one_number():
    mask = np.zeros((20, 30), bool)
    mask[5:8, 2:6] = mask[5:8, 8:12] = mask[5:8, 20:24] = True
    assert len(found(mask)) == len(found(mask, gap=2)) == 3  # two pixels are between the first two, not fewer
    first, second = found(mask, gap=2.1)
    assert len(first.polygons) == 2
    assert (first.box, first.length, first.area) == ((2, 5, 10, 3), 10, 24)
    assert second.box == (20, 5, 4, 3)


def test_a_hole_counts_in_no_area_and_is_not_outlined():
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[5:8, 5:8] = False
    (one,) = found(mask)
    assert one.area == 91
    assert set(one.polygons[0]) == {(2, 2), (12, 2), (12, 12), (2, 12)}


def test_the_outside_of_a_crop_is_in_no_region():
    values = np.full((10, 10), 2, np.float32)
    values[:, :4] = np.nan
    (one,) = found(values > 1, values)
    assert (one.box, one.peak) == ((4, 0, 6, 10), 2)
    assert np.array_equal(large(values > 1, values, 1000, 0), values > 1)
