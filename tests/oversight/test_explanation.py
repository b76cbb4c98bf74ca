"""Why a defect was missed, and the advice that follows from it and from nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from patchcore import Detector, explain
from patchcore.errors import UsageError
from patchcore.maths.resize import Frame
from patchcore.oversight.explanation import marked_cells


@pytest.fixture(scope="module")
def result(detector, hazelnut):
    return detector.predict(hazelnut / "test/colour/00.jpg")


@pytest.fixture(scope="module")
def mask(hazelnut):
    (path,) = (hazelnut / "ground_truth/colour").glob("00*")
    return np.asarray(Image.open(path).convert("L")) > 0


def square(top, left, side, size=512):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def beyond(detector, *, scores=1.0, maxima=1.0, maps=1.0):
    """A detector whose threshold, patches of good images and maps of good images are so many times as high."""
    fitted = detector.fitted
    own = fitted.calibration
    changed = replace(
        own,
        threshold=own.threshold * scores,
        pixel_threshold=own.pixel_threshold * maps,
        map_maxima=tuple(one * maps for one in own.map_maxima),
        patches=tuple((median, highest * maxima) for median, highest in own.patches),
    )
    return Detector.of(replace(fitted, calibration=changed))


def test_a_defect_that_is_found_is_explained_without_advice(detector, result, mask):
    why = explain(detector, result, mask)
    assert why.defect.outcome == "found"
    assert why.defect.rank == 1
    assert why.defect.distance == float(result.patch_scores.max())
    assert why.defect.p_value == 1 / (1 + len(detector.fitted.calibration.scores))
    assert why.defect.good_beyond == 0
    assert why.advice == ()
    assert why.facts[0] == "The image fails, and what is outlined meets the mark."
    assert sum(count for _, count in why.defect.nearest_images) <= why.defect.patches


def test_without_a_mask_the_worst_patches_are_explained_and_nothing_is_advised(detector, result):
    why = explain(detector, result)
    assert why.defect is None
    assert why.advice == ()
    assert [fact.split(",")[0] for fact in why.facts] == ["Patch 1", "Patch 2", "Patch 3"]


def test_the_patches_of_a_marked_defect_are_those_that_show_it(detector, result):
    why = explain(detector, result, square(0, 0, 64))  # 2 x 2 of the cells of 32 pixels
    assert why.defect.patches == 4
    assert why.defect.outcome == "failed elsewhere"
    assert {(one.row, one.column) for one in why.evidence.patches} <= {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert why.defect.distance == float(result.patch_scores[:2, :2].max())
    assert why.defect.width_in_cells == pytest.approx(2, abs=0.1)
    scores = result.patch_scores
    assert why.defect.rank == 1 + int((scores > why.defect.distance).sum())


def test_a_small_defect_that_good_patches_hide_wants_a_larger_size(detector, hazelnut):
    strict = beyond(detector, scores=3, maxima=3)
    result = strict.predict(hazelnut / "test/colour/00.jpg")
    row, column = result.worst_patch
    small = explain(strict, result, square(row * 32 + 8, column * 32 + 8, 16))
    assert small.defect.outcome == "missed"
    assert small.defect.width_in_cells == pytest.approx(0.5, abs=0.1)
    assert len(small.advice) == 1
    assert small.advice[0].startswith("Try a larger size than 128")
    wide = explain(strict, result, square((row - 1) * 32, (column - 2) * 32, 128))
    assert wide.advice == ()


def test_no_larger_size_is_advised_where_the_image_has_no_more_pixels(detector, hazelnut, tmp_path):
    strict = beyond(detector, scores=3, maxima=3)
    Image.open(hazelnut / "test/colour/00.jpg").resize((128, 128)).save(tmp_path / "a.png")
    result = strict.predict(tmp_path / "a.png")
    row, column = result.worst_patch
    assert explain(strict, result, square(row * 8 + 2, column * 8 + 2, 4, 128)).advice == ()


def test_what_the_smoothed_map_loses_wants_a_smaller_sigma(detector, hazelnut, mask):
    strict = beyond(detector, scores=3, maps=5)
    result = strict.predict(hazelnut / "test/colour/00.jpg")
    why = explain(strict, result, mask)
    assert why.defect.outcome == "missed"
    assert len(why.advice) == 1
    assert why.advice[0].startswith("Try a smaller sigma than 4")


def test_a_training_image_with_the_same_defect_is_named(hazelnut, small_recipe, mask, tmp_path):
    good = sorted((hazelnut / "train/good").iterdir())
    image = Image.open(hazelnut / "test/colour/00.jpg").convert("RGB")
    image.save(tmp_path / "dirty.png")
    detector = Detector(small_recipe.replace(ratio=0.5)).fit([*map(str, good), str(tmp_path / "dirty.png")])
    again = np.asarray(image).astype(int) + np.random.default_rng(0).integers(-2, 3, (512, 512, 3))
    Image.fromarray(again.clip(0, 255).astype(np.uint8)).save(tmp_path / "again.png")
    why = explain(detector, detector.predict(tmp_path / "again.png"), mask)
    assert why.defect.nearest_images[0][0].endswith("dirty.png")
    assert why.defect.median_distance < 0.5 * why.defect.usual_distance
    assert any("dirty.png" in one and "fit again without it" in one for one in why.advice)
    fresh = explain(detector, detector.predict(good[0]), square(100, 100, 64))
    assert not any("dirty.png" in one for one in fresh.advice)


def test_without_a_threshold_there_is_no_verdict_and_no_p_value(hazelnut, small_recipe, mask):
    detector = Detector(small_recipe.replace(calibration_share=0)).fit(hazelnut / "train/good", limit=3)
    why = explain(detector, detector.predict(hazelnut / "test/colour/00.jpg"), mask)
    assert why.defect.outcome == "no threshold"
    assert why.defect.p_value is why.defect.map_p_value is why.defect.good_beyond is why.defect.usual_distance is None
    assert why.advice == ()


@pytest.mark.parametrize(
    ("mask", "message"),
    [(np.ones((10, 10), bool), r"\(10, 10\)"), (np.zeros((512, 512), bool), "marks nothing")],
)
def test_a_mask_that_does_not_fit_is_refused(mask, message, detector, result):
    with pytest.raises(UsageError, match=message):
        explain(detector, result, mask)


def test_cells_are_those_that_the_window_shows():
    # 100 x 200, resized to 50 x 100, cut to the middle 40 x 40, in 4 x 4 cells: 20 pixels of the image each.
    frame = Frame((100, 200), (50, 100), (40, 40), (-5, -30))
    mask = np.zeros((100, 200), bool)
    mask[0, 0] = mask[10, 60] = mask[49, 99] = mask[89, 139] = mask[90, 140] = True
    assert np.argwhere(marked_cells(mask, frame, (4, 4))).tolist() == [[0, 0], [1, 1], [3, 3]]


def test_json_has_plain_values(detector, result, mask):
    data = json.loads(json.dumps(explain(detector, result, mask).to_dict()))
    assert set(data) == {"evidence", "defect", "facts", "advice"}
    assert set(data["defect"]["nearest_images"][0]) == {"image", "patches"}
