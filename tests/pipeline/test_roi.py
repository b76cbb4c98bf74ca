"""Regions of interest: what is outside has no part in bank, scores, thresholds and maps."""

import numpy as np
import pytest
import torch
from tiny import TINY, Tiny, noise

from patchcore import DataError, Detector, Recipe, RecipeError
from patchcore.data.sample import Sample
from patchcore.maths.augmentation import augmented
from patchcore.maths.registration import Motion
from patchcore.maths.resize import Frame, area_frame, letterbox_frame, short_side_frame
from patchcore.pipeline.roi import OUTSIDE, cells_of, pixels_of
from patchcore.pipeline.workers import Loaded
from patchcore.recipe.roi import Area, Roi

LEFT = {"include": [[(0, 0), (0.5, 0), (0.5, 1), (0, 1)]]}
BOTH = {"areas": [{"name": "left", **LEFT}, {"name": "right", "exclude": LEFT["include"]}]}
CORNER = Roi(areas=[Area(include=[[(0, 0), (0.5, 0), (0, 0.25)]])])


def fitted(n=12, **fields):
    return Detector(TINY.replace(**fields), backbone=Tiny()).fit(list(noise(n)))


@pytest.fixture(scope="module")
def left():
    return fitted(roi=LEFT)


@pytest.fixture(scope="module")
def both():
    return fitted(roi=BOTH)


@pytest.mark.parametrize(
    "frame",
    [
        Frame((40, 60), (32, 32), (32, 32)),
        area_frame((40, 60), (32, 32), 4),
        letterbox_frame((40, 60), (32, 32), 4),
        short_side_frame((40, 60), 32, (24, 24), 4),
    ],
)
def test_a_cell_counts_if_its_centre_lies_in_the_area_of_the_image(frame):
    grid = (frame.inside[0] // 4, frame.inside[1] // 4)
    cells = cells_of(CORNER, frame, grid)
    for row in range(grid[0]):
        for column in range(grid[1]):
            y = (4 * row + 2 - frame.offset[0]) / frame.resized[0]
            x = (4 * column + 2 - frame.offset[1]) / frame.resized[1]
            assert cells[row, column] == (0 if y < 0.25 - x / 2 else OUTSIDE)


@pytest.mark.parametrize(
    "how", ["flip_h", "flip_v", "rotate_90", "rotate_180", "rotate_270", "transpose", "transverse"]
)
def test_areas_of_an_augmented_copy_are_mirrored_and_turned_with_it(how):
    frame = Frame((32, 32), (32, 32), (32, 32))
    plain = cells_of(CORNER, frame, (8, 8)).numpy()
    assert np.array_equal(cells_of(CORNER, frame, (8, 8), how).numpy(), augmented(plain, how))


def test_what_has_moved_out_of_the_image_does_not_count_and_pixels_are_at_their_own_place():
    motion = Motion((32, 32), (32, 32), shift=(9, 0))  # the part lies 9 pixels to the right
    frame = Frame((32, 32), (32, 32), (32, 32), motion=motion)
    cells = cells_of(None, frame, (8, 8))
    assert (cells[:, :5] == 0).all()  # 20 + 9 < 32, and the next cell ends at 33
    assert (cells[:, 5:] == OUTSIDE).all()
    roi = Roi(areas=[Area(include=[[(0, 0), (0.25, 0), (0.25, 1), (0, 1)]])])
    shown = pixels_of(roi, frame)
    assert (shown == ((torch.arange(32) >= 9) & (torch.arange(32) < 17))).all()


def test_bank_and_scores_are_those_of_the_cells_inside(left):
    origins = left.fitted.members[0].bank.origins
    assert int(origins[:, 2].max()) < 4  # columns of a grid of 8
    image = noise(1, seed=5)[0]
    result = left.predict(image)
    assert result.patch_scores[:, :4].isfinite().all()
    assert result.patch_scores[:, 4:].isnan().all()
    assert (result.nearest_rows[:, 4:] == -1).all()
    assert result.coverage == 0.5
    assert np.isnan(result.map[:, 16:]).all()
    assert np.isfinite(result.map[:, :16]).all()
    assert [(one.name, one.score, one.threshold) for one in result.areas] == [("", result.score, result.threshold)]
    assert result.worst_patch[1] < 4
    # With a bank of all patches of the left half, the same distances come out of plain arithmetic.
    embedder, bank = left.embedders[0], left.fitted.members[0].bank
    own = embedder([Loaded(Sample("a", image), image)])[0].values * bank.scales
    assert torch.allclose(result.patch_scores[:, :4].flatten(), torch.cdist(own, bank.rows).amin(1), atol=1e-4)


def test_what_happens_outside_changes_no_score_far_from_it():
    image = noise(1, seed=5)[0]
    other = image.copy()
    other[:, 28:] = 255  # far enough from the left half for a network of small fields
    plain = fitted(roi=LEFT, exposure="as_is")  # `even` looks at whole images
    assert plain.predict(image).score == plain.predict(other).score


def test_each_area_has_a_score_and_a_threshold_in_its_own_unit(both):
    units, threshold = both.fitted.units, both.fitted.calibration.threshold
    assert len(units) == 2
    result = both.predict(noise(1, seed=3)[0] // 4 * 3)
    assert [one.name for one in result.areas] == ["left", "right"]
    for one, unit in zip(result.areas, units, strict=True):
        assert one.threshold == pytest.approx(threshold * unit)
        assert one.decision == ("fail" if one.score > one.threshold else "pass")
    assert result.score == pytest.approx(max(one.score / unit for one, unit in zip(result.areas, units, strict=True)))
    assert (result.decision == "fail") == any(one.decision == "fail" for one in result.areas)
    assert result.patch_scores.isfinite().all()


def test_units_are_the_medians_of_the_areas_scores_over_good_images():
    good = noise(6, seed=9)
    detector = Detector(TINY.replace(roi=BOTH, image_score="max"), backbone=Tiny()).fit(
        list(noise(12)), calibration=list(good)
    )
    raw = [[one.score for one in detector.predict(image).areas] for image in good]
    assert detector.fitted.units == pytest.approx(np.median(raw, 0).tolist(), rel=1e-3)
    scores = sorted(max(np.divide(one, detector.fitted.units)) for one in raw)
    assert sorted(detector.fitted.calibration.scores) == pytest.approx(scores, rel=1e-3)


def test_folds_and_ensembles_leave_out_the_same_cells():
    folds = fitted(roi=LEFT, calibration="folds", false_reject_rate=0.1)
    assert len(folds.fitted.calibration.scores) == 12
    assert folds.predict(noise(1)[0]).decision == "pass"
    small = TINY.replace(backbone="resnet18", weights="random", taps=(4, 8), calibration="held_out")
    whole = Recipe(members=(small, small.replace(patch_size=5)), roi=LEFT, calibration="held_out")
    detector = Detector(whole).fit(list(noise(6)))
    scores = detector.predict(noise(1, seed=2)[0]).patch_scores
    assert scores[:, : scores.shape[1] // 2].isfinite().all()
    assert scores[:, scores.shape[1] // 2 :].isnan().all()


def test_augmented_copies_remember_only_what_is_inside():
    detector = fitted(roi=LEFT, augment=("flip_h",), ratio=1, coreset="identity")
    origins = detector.fitted.members[0].bank.origins
    assert origins[origins[:, 3] == 0][:, 2].max() == 3
    assert origins[origins[:, 3] == 1][:, 2].min() == 4


def test_a_file_keeps_areas_and_units(both, tmp_path):
    both.save(tmp_path / "a.patchcore", weights=False)
    again = Detector.load(tmp_path / "a.patchcore", backbone=Tiny())
    image = noise(1, seed=4)[0]
    assert again.recipe == both.recipe
    assert again.predict(image).areas == both.predict(image).areas


def test_an_area_without_a_patch_is_refused_by_its_name():
    with pytest.raises(DataError, match=r"no patch has its centre in the area 'pin'.*grid of 8 x 8.*larger"):
        fitted(roi={"name": "pin", "include": [[(0.51, 0.51), (0.52, 0.51), (0.52, 0.52)]]})


def test_an_image_whose_shape_shows_no_patch_of_an_area_is_unsure_and_says_which(both):
    strip = {"name": "strip", "include": [[(0.55, 0), (0.6, 0), (0.6, 1), (0.55, 1)]]}
    thin = {"areas": [{"name": "left", **LEFT}, strip]}
    detector = fitted(roi=thin, resize="area", size=64)
    result = detector.predict(noise(1, 200, 10)[0])
    assert result.decision == "unsure"
    assert result.reason == "not in the image: strip"
    assert "not in the image: strip" in result.told()


@pytest.mark.parametrize(
    ("roi", "said"),
    [
        ({"include": [[(0, 0), (1, 0)]]}, "roi got"),
        ({"include": [[(0, 0), (1.5, 0), (1, 1)]]}, "less than or equal to 1"),
        ({"includes": []}, "roi got"),
        ({"areas": [{"name": "a", **LEFT}, {"name": "a", **LEFT}]}, "each needs a name of its own"),
        ({"areas": [LEFT, {"name": "b", **LEFT}]}, "each needs a name of its own"),
        ({"name": "all"}, "includes and excludes nothing"),
        ("left", "roi got 'left'"),
    ],
)
def test_what_is_no_region_is_refused(roi, said):
    with pytest.raises(RecipeError, match=said):
        Recipe(roi=roi)


def test_auto_is_the_part_that_good_images_share_and_is_refused_without_one():
    y, x = np.mgrid[:64, :64]
    part = np.hypot(y - 32, x - 32) < 16
    images = noise(6, 64, 64) // 8 + np.where(part, 200, 20).astype(np.uint8)[..., None]
    detector = Detector(TINY.replace(roi="auto", size=64), backbone=Tiny()).fit(list(images))
    shown = ~np.isnan(detector.predict(images[0]).map)
    assert shown[part].all()
    assert not shown[np.hypot(y - 32, x - 32) > 20].any()
    with pytest.raises(DataError, match="no foreground that the good images share: 6 of 6 have no part"):
        Detector(TINY.replace(roi="auto"), backbone=Tiny()).fit(list(noise(6)))


def test_an_area_without_a_patch_is_refused_before_anything_is_decided_too():
    with pytest.raises(DataError, match="no patch has its centre in the region of interest"):
        fitted(roi={"include": [[(0, 0), (0.01, 0), (0.01, 0.01)]]}, pool="auto", scaling="auto")
