from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from patchcore.errors import UsageError
from patchcore.maths.metrics import (
    PixelCurve,
    image_metrics,
    pixel_curve,
    pixel_metrics,
    precision_recall,
    pro_curve,
    segmentation,
    segmented,
    share_interval,
)

PIXEL_NAMES = {"pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05"}


def best_f1(labels, scores):
    """Over every threshold, one by one."""
    return max(f1_score(labels, scores >= threshold) for threshold in np.unique(scores))


def aupro(maps, masks, limit):
    """Every threshold in turn, every region in turn; then the area by trapezoids."""
    values = np.unique(np.concatenate([m[~np.isnan(m)] for m in maps]))[::-1]
    regions, outside = [], []
    for index, (m, mask) in enumerate(zip(maps, masks, strict=True)):
        seen = ~np.isnan(m)
        defect = np.zeros(m.shape, bool) if mask is None else mask & seen
        labels, count = ndimage.label(defect, structure=np.ones((3, 3)))
        regions += [(index, labels == label) for label in range(1, count + 1)]
        outside.append(seen & ~defect)
    negatives = sum(int(o.sum()) for o in outside)
    points = [(0.0, 0.0)]
    for value in values:
        marked = [np.nan_to_num(m, nan=-np.inf) >= value for m in maps]
        false = sum(int((a & o).sum()) for a, o in zip(marked, outside, strict=True))
        overlap = np.mean([(marked[index] & region).sum() / region.sum() for index, region in regions])
        points.append((false / negatives, float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > limit:
            area += (limit - x0) * (y0 + y0 + (y1 - y0) * (limit - x0) / (x1 - x0)) / 2
            break
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def scene(seed, levels=None, nan=False, shape=(24, 30), n=4):
    """Maps that are higher, on average, in the masks; with `levels`, full of ties."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(n):
        mask = np.zeros(shape, bool)
        for _ in range(rng.integers(1, 4)):
            top, left = rng.integers(0, shape[0] - 6), rng.integers(0, shape[1] - 6)
            mask[top : top + rng.integers(1, 6), left : left + rng.integers(1, 6)] = True
        values = rng.random(shape) + 0.5 * mask
        if levels:
            values = np.floor(values * levels) / levels
        if nan:
            values[:, :3] = values[-2:] = np.nan
        maps.append(values.astype(np.float32))
        masks.append(None if index == n - 1 else mask)
    return maps, masks


def flat(maps, masks):
    """All pixels that count, as one vector of values and one of labels."""
    values = np.concatenate([m.ravel() for m in maps])
    labels = np.concatenate(
        [np.zeros(m.size, bool) if k is None else k.ravel() for m, k in zip(maps, masks, strict=True)]
    )
    return values[~np.isnan(values)], labels[~np.isnan(values)]


@settings(max_examples=40)
@given(n=st.integers(2, 40), levels=st.sampled_from([2, 5, 1000]), seed=st.integers(0, 1000))
def test_image_metrics_are_those_of_scikit_learn(n, levels, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, n) / levels
    defective = rng.random(n) < 0.5
    defective[:2] = [True, False]
    got = image_metrics(scores.tolist(), defective.tolist())
    assert got["image_auroc"] == pytest.approx(roc_auc_score(defective, scores))
    assert got["image_ap"] == pytest.approx(average_precision_score(defective, scores))
    assert got["image_f1_max"] == pytest.approx(best_f1(defective, scores))


def test_image_metrics_by_hand():
    # Two good images, two defective ones, one of which lies below one good one: 3 of 4 pairs in order.
    got = image_metrics([0.1, 0.6, 0.5, 0.9], [False, False, True, True])
    assert got["image_auroc"] == pytest.approx(3 / 4)
    assert got["image_ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert got["image_f1_max"] == pytest.approx(2 * 2 / (3 + 2))


@pytest.mark.parametrize("label", [True, False])
def test_image_metrics_of_one_class_are_none(label):
    got = image_metrics([0.1, 0.2, 0.3], [label] * 3)
    assert got == {"image_auroc": None, "image_ap": None, "image_f1_max": None}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("levels", [None, 7])
def test_pixel_metrics_are_those_of_scikit_learn(seed, nan, levels):
    maps, masks = scene(seed, levels, nan)
    values, labels = flat(maps, masks)
    got = pixel_metrics(pixel_curve(maps, masks))
    assert got["pixel_auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-9)
    thresholds = np.unique(values)
    marked = values[None] >= thresholds[:, None]
    true = (marked & labels).sum(1)
    assert got["pixel_f1_max"] == pytest.approx(float((2 * true / (marked.sum(1) + labels.sum())).max()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("levels", [None, 3, 9])
def test_aupro_is_that_of_counting_every_region_at_every_threshold(seed, nan, levels):
    maps, masks = scene(seed, levels, nan, shape=(14, 18), n=3)
    got = pixel_metrics(pixel_curve(maps, masks))
    assert got["aupro_30"] == pytest.approx(aupro(maps, masks, 0.3), abs=1e-9)
    assert got["aupro_05"] == pytest.approx(aupro(maps, masks, 0.05), abs=1e-9)


def test_aupro_weighs_a_small_region_like_a_large_one():
    # The large region lies above every good pixel, the small one below: the mean overlap is a half
    # until the last good pixel is marked.
    mask = np.zeros((10, 10), bool)
    mask[:4] = True
    mask[9, 9] = True
    values = np.where(mask, 2.0, 1.0).astype(np.float32)
    values[9, 9] = 0.0
    got = pixel_metrics(pixel_curve([values], [mask]))
    assert got["aupro_30"] == pytest.approx(0.5)
    assert got["aupro_05"] == pytest.approx(0.5)


def test_regions_that_touch_at_a_corner_are_one():
    # Joined, 1 of 2 pixels is found: 1/2. Apart, the two regions would have overlaps 1 and 0: also 1/2;
    # a third region, found, tells them apart: 3/4 against 2/3.
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[5, 5] = True
    values = np.full((6, 6), 1.0, np.float32)
    values[0, 0] = values[5, 5] = 2.0
    values[1, 1] = 0.0
    assert pixel_curve([values], [mask]).overlap.tolist() == pytest.approx([3 / 4, 3 / 4, 1])


def test_a_region_that_a_crop_cuts_in_two_still_counts_as_one():
    # A U whose foot is hidden: one defect, of which two pixels of four that are left are found; and
    # another that is found whole.
    mask = np.zeros((4, 8), bool)
    mask[:3, 1] = mask[:3, 3] = mask[2, 2] = True
    mask[0, 6] = True
    values = np.ones((4, 8), np.float32)
    values[mask] = 0.0
    values[0:2, 1] = values[0, 6] = 2.0
    values[2:] = np.nan
    assert float(pixel_curve([values], [mask]).overlap[0]) == pytest.approx((1 / 2 + 1) / 2)
    values[1, 1] = 0.0  # now one of four
    assert float(pixel_curve([values], [mask]).overlap[0]) == pytest.approx((1 / 4 + 1) / 2)


def test_pixels_that_a_crop_hides_do_not_count():
    mask = np.zeros((4, 4), bool)
    mask[0] = mask[1] = True
    values = np.where(mask, 2.0, 1.0).astype(np.float32)
    values[0] = np.nan  # half of the defect
    values[3] = np.nan
    curve = pixel_curve([values], [mask])
    assert curve.true.tolist() == [4, 4]
    assert curve.false.tolist() == [0, 4]
    assert curve.overlap.tolist() == [1, 1]


def test_an_image_without_a_mask_is_good_everywhere():
    mask = np.array([[True, False]])
    values = [np.array([[3.0, 1.0]], np.float32), np.array([[2.0, 2.0]], np.float32)]
    curve = pixel_curve(values, [mask, None])
    assert curve.true.tolist() == [1, 1]
    assert curve.false.tolist() == [0, 3]


@pytest.mark.parametrize("fill", [True, False])
def test_pixel_metrics_of_one_class_are_none(fill):
    values = np.arange(9, dtype=np.float32).reshape(3, 3)
    got = pixel_metrics(pixel_curve([values], [np.full((3, 3), fill)]))
    assert set(got) == PIXEL_NAMES
    assert all(value is None for value in got.values())


def test_pixel_metrics_without_a_curve_are_none():
    got = pixel_metrics(None)
    assert set(got) == PIXEL_NAMES
    assert all(value is None for value in got.values())


def test_a_constant_map_is_chance():
    mask = np.zeros((10, 10), bool)
    mask[:2, :5] = True
    got = pixel_metrics(pixel_curve([np.full((10, 10), 3.0, np.float32)], [mask]))
    assert got["pixel_auroc"] == pytest.approx(0.5)
    assert got["pixel_f1_max"] == pytest.approx(2 * 10 / (100 + 10))
    # The overlap rises from (0, 0) to (1, 1) in one line: half the limit.
    assert got["aupro_30"] == pytest.approx(0.15)
    assert got["aupro_05"] == pytest.approx(0.025)


def test_a_perfect_map_has_perfect_metrics():
    mask = np.zeros((10, 10), bool)
    mask[:2, :5] = mask[7:, 7:] = True
    got = pixel_metrics(pixel_curve([mask.astype(np.float32)], [mask]))
    assert got == {name: pytest.approx(1.0) for name in PIXEL_NAMES}


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 30, 1_000_000]), st.integers(5, 1000))
def test_a_thinned_curve_is_the_same_curve_to_the_eye(seed, levels, steps):
    rng = np.random.default_rng(seed)
    mask = np.zeros((60, 80), bool)
    mask[10:20, 10:30], mask[40:45, 60:70] = True, True
    full = pixel_curve([rng.integers(0, levels, mask.shape) + mask * (levels // 2)], [mask])
    thin = full.thinned(steps)
    assert len(thin.true) <= 2 * steps + 2
    assert (thin.true[-1], thin.false[-1], thin.overlap[-1]) == (full.true[-1], full.false[-1], full.overlap[-1])
    # Every point of the full one lies within a step of one that is left.
    kept = np.stack(pro_curve(thin), 1)
    for x, y in np.stack(pro_curve(full), 1)[:: max(1, len(full.true) // 50)]:
        assert (np.abs(kept - (x, y)).max(1)).min() <= 1 / steps + 1e-9


def test_the_pro_curve_starts_at_nothing_and_ends_at_everything():
    curve = PixelCurve(np.array([1, 2]), np.array([1, 4]), np.array([0.5, 1.0]))
    false_rate, overlap = pro_curve(curve)
    assert false_rate.tolist() == [0, 0.25, 1]
    assert overlap.tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 40), (10, 10), (1, 1)])
def test_an_interval_of_a_share_is_wilson_s(count, total):
    z, p = 1.959963984540054, count / total
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    assert share_interval(count, total) == pytest.approx((centre - half, centre + half), abs=1e-9)


def test_precision_and_recall_by_hand():
    precision, recall = precision_recall([1.0, 2.0, 3.0, 4.0], [False, True, False, True])
    assert precision.tolist() == [1 / 2, 2 / 3, 1 / 2, 1, 1]
    assert recall.tolist() == [1, 1, 1 / 2, 1 / 2, 0]
    with pytest.raises(UsageError, match="labels are the same"):
        precision_recall([1.0, 2.0], [True, True])


def test_segmentation_counts_pixels_of_all_images_and_regions_of_each():
    mask, found = np.zeros((6, 6), bool), np.zeros((6, 6), bool)
    mask[0, :4] = mask[3:5, 3:5] = True  # two regions of four pixels
    found[0, :2] = found[5, :] = True  # half of the first; six pixels beside them
    other = np.zeros((6, 6), bool)
    other[0, 0] = True  # on a good image
    counts = [segmented(found, mask), segmented(other, None)]
    assert counts == [(8, 8, 2, 0.5, 2), (1, 0, 0, 0.0, 0)]
    assert segmentation(counts) == {"f1": 2 * 2 / (9 + 8), "overlap": 0.25, "area": 9 / 8}
    assert segmentation([counts[1]]) == {"f1": None, "overlap": None, "area": None}
