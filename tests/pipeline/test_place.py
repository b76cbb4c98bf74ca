"""Registration: parts that have moved are looked at where they are."""

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, Tiny

from patchcore import Detector
from patchcore.maths.registration import Motion
from patchcore.oversight.evidence import evidence
from patchcore.oversight.good_patches import GoodPatches

SIZE = 96, 128


def part(shift=(0, 0), angle=0.0, seed=0):
    """A plate with three marks on an even ground, a little noisy; moved as told."""
    image = np.full((*SIZE, 3), 60, np.uint8)
    image[24:72, 32:96] = 170
    image[32:40, 40:52], image[52:64, 44:50], image[56:62, 70:88] = 90, 230, 40
    image = Motion(SIZE, SIZE, shift, angle).to_image(image)
    return (image + np.random.default_rng(seed).integers(-4, 5, image.shape)).clip(0, 255).astype(np.uint8)


def fitted(kind, **fields):
    recipe = TINY.replace(registration=kind, size=(96, 128), exposure="as_is", **fields)
    good = [part((seed % 5 - 2.3, seed % 3 - 0.6), seed % 4 - 1.5, seed) for seed in range(16)]
    return Detector(recipe, backbone=Tiny()).fit(good)


@pytest.fixture(scope="module")
def rigid():
    return fitted("rigid", false_reject_rate=0.1)


def test_shift_and_angle_are_told_and_the_score_stays(rigid):
    still, moved = rigid.predict(part(seed=50)), rigid.predict(part((6, -4), 4, seed=50))
    assert still.registration.found
    assert moved.registration.found
    told = np.subtract(moved.registration.shift, still.registration.shift)
    assert told == pytest.approx((6, -4), abs=0.4)
    assert moved.registration.angle - still.registration.angle == pytest.approx(4, abs=0.3)
    plain = fitted("none")
    assert moved.score / still.score < 1.5 < plain.predict(part((6, -4), 4, seed=50)).score / still.score


def test_map_and_regions_lie_where_the_defect_is_in_the_image(rigid):
    motion = Motion(SIZE, SIZE, (6, -4), 4)
    image = part((6, -4), 4, seed=50)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    at = motion.matrix[:, :2] @ (80, 36) + motion.matrix[:, 2]
    spot = np.hypot(y - at[1], x - at[0]) < 5
    image[spot] = (255, 0, 0)
    result = rigid.predict(image)
    assert result.decision == "fail"
    assert result.map.shape == SIZE
    row, column = np.unravel_index(np.nanargmax(result.map), SIZE)
    assert np.hypot(row - at[1], column - at[0]) < 6
    left, top, width, height = result.regions[0].box
    assert left <= at[0] <= left + width
    assert top <= at[1] <= top + height
    box = evidence(rigid, result, 1).patches[0].box
    assert box[0] - 2 <= at[0] <= box[2] + 2
    assert box[1] - 2 <= at[1] <= box[3] + 2
    # What the reference shows beyond the image's border is not looked at, and the image there is NaN.
    assert result.patch_scores.isnan().any()
    assert 0.7 < result.coverage < 1


def test_another_thing_is_not_found_and_gets_no_verdict(rigid):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    other = np.repeat((127 + 120 * np.sin(x / 3) * np.cos(y / 5))[..., None], 3, 2).astype(np.uint8)
    result = rigid.predict(other)
    assert result.registration == Motion(SIZE, SIZE, residual=result.registration.residual, found=False)
    assert result.registration.residual > rigid.fitted.reference.limit
    assert result.decision == "unsure"
    assert result.reason == "part not found"
    assert result.told()[0] == "part not found"
    assert not result.mask.any()
    assert result.coverage == 1


def test_images_of_another_size_are_looked_at_at_their_own(rigid):
    large = np.asarray(Image.fromarray(part((6, -4), 4, seed=50)).resize((256, 192)))
    result = rigid.predict(large)
    assert result.map.shape == (192, 256)
    assert result.registration.shift == pytest.approx((12, -8), abs=2)
    assert result.reason is None
    wide = np.pad(part(seed=50), ((0, 0), (8, 8), (0, 0)), mode="edge")
    assert rigid.predict(wide).map.shape == (96, 144)


def test_areas_follow_the_part_and_one_out_of_sight_is_not_found():
    plate = {"include": [[(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]]}
    detector = fitted("shift", roi=plate)
    result = detector.predict(part((10, 0), seed=50))
    told = detector.predict(part(seed=50)).registration.shift
    shown = ~np.isnan(result.map)
    columns = np.flatnonzero(shown.any(0))
    begin = 32 + told[0] + 10  # the reference too lies somewhere
    assert columns[0] == pytest.approx(begin, abs=1)
    assert columns[-1] + 1 == pytest.approx(begin + 64, abs=1)
    assert detector.predict(part((60, 0), seed=50)).reason == "part not found"


def test_a_file_keeps_the_reference_and_the_limit(rigid, tmp_path):
    rigid.save(tmp_path / "a.patchcore")
    again = Detector.load(tmp_path / "a.patchcore", backbone=Tiny())
    assert again.fitted.reference.limit == rigid.fitted.reference.limit
    image = part((3, 2), 2, seed=50)
    assert again.predict(image).registration == rigid.predict(image).registration
    assert again.predict(image).score == rigid.predict(image).score


def test_the_reference_does_not_depend_on_the_order_of_images_or_a_generator():
    recipe = TINY.replace(registration="shift", exposure="as_is")
    good = [part((seed % 5 - 2, 0), seed=seed) for seed in range(6)]
    first, second = (Detector(recipe, backbone=Tiny()).fit(given) for given in (good, iter(good[::-1])))
    assert (first.fitted.reference.grey == second.fitted.reference.grey).all()


def test_good_patches_are_shown_where_they_are_in_the_training_images(rigid):
    fitted_ = rigid.fitted
    x, y, angle = fitted_.album.motions[3].tolist()
    row = int((fitted_.members[0].bank.origins[:, 0] == 3).nonzero()[0])
    good = GoodPatches(rigid).of(row)
    motion = Motion(SIZE, SIZE, (x, y), angle)
    cell = np.array([good.column + 0.5, good.row + 0.5]) * 4  # pixels of the canvas: the network's strides are 4
    at = motion.matrix[:, :2] @ cell + motion.matrix[:, 2]
    left, top, right, bottom = good.box
    assert (left + right) / 2 == pytest.approx(at[0], abs=1.5)
    assert (top + bottom) / 2 == pytest.approx(at[1], abs=1.5)
    image, reason = GoodPatches(rigid).close_up(good, 64)
    assert image is not None
    assert reason == "from its thumbnail"
