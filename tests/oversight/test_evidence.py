"""Why an image has its score: the most unusual patches beside the good ones that are most like them."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from patchcore import Detector, Evidence, evidence
from patchcore.errors import UsageError
from patchcore.maths.augmentation import augmented
from patchcore.oversight.evidence import spots
from patchcore.oversight.good_patches import GoodPatches
from patchcore.oversight.sources import Sources


@pytest.fixture(scope="module")
def result(detector, hazelnut):
    return detector.predict(hazelnut / "test/colour/00.jpg")


@pytest.fixture(scope="module")
def found(detector, result) -> Evidence:
    return evidence(detector, result)


def test_the_first_patch_is_the_worst_and_the_others_lie_apart(found, result):
    cells = [(one.row, one.column) for one in found.patches]
    assert cells[0] == result.worst_patch
    assert len(cells) == 3
    assert all(max(abs(a - c), abs(b - d)) > 3 for (a, b), (c, d) in combinations(cells, 2))
    assert [one.distance for one in found.patches] == sorted((one.distance for one in found.patches), reverse=True)


def test_patches_of_one_spot_count_once():
    scores = torch.zeros(20, 30)
    scores[3:8, 3:8] = torch.tensor([1.0, 2, 5, 2, 1])[:, None] + torch.tensor([1.0, 2, 5, 2, 1])
    scores[15, 25] = 1.5
    assert spots(scores, 2, 3) == [(5, 5), (15, 25)]


def test_only_patches_that_are_asked_for_are_looked_at():
    scores = torch.arange(400.0).view(20, 20)
    among = np.zeros((20, 20), bool)
    among[2:4, 2:4] = True
    assert spots(scores, 3, 3, among) == [(3, 3)]


def test_a_box_is_of_the_cells_that_are_pooled_into_a_patch(found):
    one = found.patches[0]  # 512 pixels over 16 cells of 32
    expected = [(one.column - 1) * 32, (one.row - 1) * 32, (one.column + 2) * 32, (one.row + 2) * 32]
    assert list(one.box) == np.clip(expected, 0, 512).tolist()


def test_the_nearest_good_patch_is_the_bank_row_s(found, detector):
    for one in found.patches:
        number = int(found.result.nearest_rows[one.row, one.column, 0])
        image, row, column = detector.fitted.members[0].bank.origins[number].tolist()[:3]
        good = one.nearest
        assert (good.name, good.row, good.column) == (detector.fitted.images[image], row, column)
        assert good.sha256 == bytes(detector.fitted.album.sha256[image].numpy()).hex()


def test_a_p_value_counts_the_good_images_whose_worst_patch_is_as_far(found, detector):
    maxima = [highest for _, highest in detector.fitted.calibration.patches]
    assert len(maxima) == found.good_images == len(detector.fitted.calibration.scores) > 0
    for one in found.patches:
        assert one.p_value == (1 + sum(m >= one.distance for m in maxima)) / (len(maxima) + 1)
    assert found.patches[0].p_value == 1 / (len(maxima) + 1)


def test_held_out_images_scored_again_are_where_the_calibration_has_them(hazelnut, small_recipe):
    good = hazelnut / "train/good"
    images = sorted(good.iterdir())
    detector = Detector(small_recipe).fit(images[:6], calibration=images[6:])
    for image, (median, highest) in zip(images[6:], detector.fitted.calibration.patches, strict=True):
        scores = detector.predict(image).patch_scores
        assert float(scores.median()) == pytest.approx(median, rel=1e-4)
        assert float(scores.max()) == pytest.approx(highest, rel=1e-4)


def without_patches(detector, **recipe):
    fitted = detector.fitted
    member = replace(fitted.members[0], recipe=fitted.members[0].recipe.replace(**recipe))
    return Detector.of(replace(fitted, members=(member,), calibration=replace(fitted.calibration, patches=())))


def test_a_file_that_does_not_know_good_patches_has_no_p_value_and_says_why(detector, result):
    found = evidence(without_patches(detector), result)
    assert [one.p_value for one in found.patches] == [None] * 3
    assert found.p_value_of.startswith("none: the model does not know")
    assert found.good_images == 0
    assert found.image().width == 1000


def test_where_an_image_s_score_is_its_highest_patch_an_earlier_file_knows_enough(detector, result):
    found = evidence(without_patches(detector, image_score="max"), result)
    assert found.patches[0].p_value == 1 / (1 + len(detector.fitted.calibration.scores))


def test_json_has_plain_values(found):
    data = json.loads(json.dumps(found.to_dict()))
    assert set(data) == {"patches", "good_images", "p_value_of"}
    assert set(data["patches"][0]) == {"row", "column", "box", "distance", "p_value", "nearest"}
    assert set(data["patches"][0]["nearest"]) == {"image", "row", "column", "augmentation", "box", "sha256"}


def test_the_number_of_patches_is_at_least_one(detector, result):
    with pytest.raises(UsageError, match="n is 0"):
        evidence(detector, result, 0)


def test_rows_of_unknown_origin_have_no_nearest_patch(detector, result):
    fitted = detector.fitted
    bank = replace(fitted.members[0].bank, origins=fitted.members[0].bank.origins * 0 - 1)
    unknown = Detector.of(replace(fitted, members=(replace(fitted.members[0], bank=bank),)))
    found = evidence(unknown, result)
    assert {one["nearest"] for one in found.to_dict()["patches"]} == {None}
    assert found.image().width == 1000


@pytest.mark.parametrize(
    ("size", "level"), [((200, 200), 250), ((60, 900), 5), ((4000, 3000), 5), ((900, 60), 250)], ids=str
)
def test_the_image_of_it_is_as_wide_for_every_part(size, level, detector, tmp_path):
    noise = np.random.default_rng(0).integers(0, 5, (*size, 3)) + level
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    found = evidence(detector, detector.predict(tmp_path / "a.png"))
    drawn = found.image()
    assert drawn.width == 1000
    assert len(found.patches) * 220 < drawn.height < 1700


def test_boxes_show_on_the_part_and_close_ups_are_of_it(found):
    """The frame of the first patch, black within white, lies where its box is."""
    drawn = np.asarray(found.image().convert("L"), float)
    part = np.asarray(found.image().crop((16, 16, 492, 492)).convert("L"), float)
    left, top, right, bottom = (round(side * 476 / 512) for side in found.patches[0].box)
    assert (
        part[(top + bottom) // 2, max(0, left) : left + 2].max() < 40
        or part[top : top + 2, (left + right) // 2].max() < 40
    )
    assert (drawn[-10:, :10] != 255).all()  # the verdict


@pytest.mark.parametrize(
    "how", ["flip_h", "flip_v", "rotate_90", "rotate_180", "rotate_270", "transpose", "transverse"]
)
def test_a_box_of_an_augmented_copy_is_where_its_pixels_are_in_the_image_itself(how, hazelnut, small_recipe, tmp_path):
    recipe = small_recipe.replace(augment=(how,), coreset="identity", resize="area", size=96, calibration_share=0)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 144, 3)).astype(np.uint8)  # the area of 96 x 96: cells of 8
    Image.fromarray(pixels).save(tmp_path / "a.png")
    detector = Detector(recipe).fit([str(tmp_path / "a.png")])
    bank, copy = detector.fitted.members[0].bank, augmented(pixels, how)
    height, width = copy.shape[:2]
    rows, columns = (bank.origins[bank.origins[:, 3] == 1][:, 1:3].amax(0) + 1).tolist()
    number = int((bank.origins == torch.tensor([0, 2, 3, 1])).all(1).nonzero())
    good = GoodPatches(detector, Sources()).of(number)
    assert good.grid == (rows, columns)
    left, top, right, bottom = good.box
    own = augmented(pixels[top:bottom, left:right], how)
    y, x = height // rows, width // columns
    there = copy[(2 - 1) * y : (2 + 2) * y, (3 - 1) * x : (3 + 2) * x]
    assert own.shape == there.shape
    assert (own == there).all()
