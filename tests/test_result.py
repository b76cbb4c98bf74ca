"""Result: what a user holds after `predict`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from patchcore import Detector, ImageError, Result


@pytest.fixture(scope="module")
def good(detector, hazelnut) -> Result:
    """An image that the detector has learned from: certainly good."""
    return detector.predict(hazelnut / "train/good" / "00.jpg")


@pytest.fixture(scope="module")
def bad(detector, hazelnut) -> Result:
    return detector.predict(hazelnut / "test/colour/00.jpg")


def colourfulness(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).astype(int)
    return pixels.max(-1) - pixels.min(-1)


def heat(result: Result, path) -> np.ndarray:
    """How far the overlay of each pixel is from the image under it, colours muted."""
    image = np.asarray(Image.open(path)).astype(float)
    calm = 0.75 * image.mean(2, keepdims=True) + 0.25 * image
    return np.abs(np.asarray(result.overlay()) - calm).max(-1)


def test_the_overlay_of_a_good_image_stays_nearly_uncoloured(good, hazelnut):
    assert good.decision == "pass"
    assert (heat(good, hazelnut / "train/good/00.jpg") > 40).mean() < 0.05


def test_the_overlay_of_a_defect_is_coloured_and_outlined_there(bad, hazelnut):
    mask = np.asarray(Image.open(hazelnut / "ground_truth/colour/00_mask.png")) > 0
    changed = heat(bad, hazelnut / "test/colour/00.jpg") > 40
    assert changed[mask].mean() > 0.7
    assert changed[~mask].mean() < 0.5 * changed[mask].mean()
    pixels = np.asarray(bad.overlay())
    outline = (pixels == 0).all(-1)
    assert outline.sum() > 100
    assert bad.mask[outline].all()


def test_the_overlay_is_an_rgb_image_of_the_same_size(bad):
    image = bad.overlay()
    assert image.size == (512, 512)
    assert image.mode == "RGB"


@pytest.mark.parametrize("form", ["path", "string", "array", "grey", "float", "16 bit", "tensor", "pillow"])
def test_every_form_of_an_image_can_be_drawn(form, detector, hazelnut):
    path = hazelnut / "test/colour/00.jpg"
    array = np.asarray(Image.open(path))
    image = {
        "path": path,
        "string": str(path),
        "array": array,
        "grey": array.mean(2).astype(np.uint8),
        "float": array.astype(np.float32) / 255,
        "16 bit": array.astype(np.uint16) * 257,
        "tensor": torch.from_numpy(array.copy()).permute(2, 0, 1),
        "pillow": Image.fromarray(array),
    }[form]
    overlay = np.asarray(detector.predict(image).overlay()).astype(int)
    assert overlay.shape == (512, 512, 3)
    if form != "grey":
        expected = np.asarray(detector.predict(path).overlay()).astype(int)
        # Rounding may move an outline by a pixel.
        assert (np.abs(overlay - expected).max(-1) > 2).mean() < 0.01


def test_the_overlay_of_an_image_that_has_gone_says_so(detector, hazelnut, tmp_path):
    path = tmp_path / "gone.jpg"
    path.write_bytes((hazelnut / "test/colour/00.jpg").read_bytes())
    result = detector.predict(path)
    path.unlink()
    assert result.map.shape == (512, 512)
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        result.overlay()


@pytest.mark.parametrize("other", ["train/good/00.jpg", "smaller"])
def test_the_overlay_of_a_file_that_was_replaced_is_refused(detector, hazelnut, tmp_path, other):
    path = tmp_path / "latest.png"
    first = Image.open(hazelnut / "test/colour/00.jpg")
    first.save(path)
    result = detector.predict(path)
    assert result.overlay().size == first.size
    (first.resize((64, 64)) if other == "smaller" else Image.open(hazelnut / other)).save(path)
    with pytest.raises(ImageError, match=r"latest\.png: the file has changed since it was looked at"):
        result.overlay()
    first.save(path, compress_level=1)  # another file, but the same image
    assert result.overlay().size == first.size


def test_the_overlay_of_an_array_that_was_overwritten_is_refused(detector, hazelnut):
    frame = np.array(Image.open(hazelnut / "test/colour/00.jpg"))
    result = detector.predict(frame)
    frame[300, 200, 1] ^= 1
    with pytest.raises(ImageError, match="#0: the image has changed since it was looked at"):
        result.overlay()


def test_the_overlay_of_an_image_whose_parts_have_changed_places_is_refused(detector):
    frame = np.random.default_rng(0).integers(0, 256, (128, 512, 1), np.uint8)
    result = detector.predict(frame)
    frame[:] = np.roll(frame, 16, axis=0)
    with pytest.raises(ImageError, match="the image has changed since it was looked at"):
        result.overlay()


def test_a_damaged_jpeg_has_a_warning_and_cannot_be_learned_from(detector, hazelnut, small_recipe, tmp_path):
    data = bytearray((hazelnut / "train/good/00.jpg").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 512] = bytes(512)
    path = tmp_path / "hole.jpg"
    path.write_bytes(data)
    result = detector.predict(path)
    (warning,) = result.warnings
    assert "a part of the image is wrong" in warning
    assert result.overlay().size == (512, 512)
    assert detector.predict(hazelnut / "train/good/00.jpg").warnings == ()
    with pytest.raises(ImageError, match=r"hole\.jpg: damaged"):
        Detector(small_recipe).fit([hazelnut / "train/good/01.jpg", path])


def test_map_and_mask_are_the_same_array_each_time(bad):
    assert bad.map is bad.map
    assert bad.mask is bad.mask


def test_a_result_cannot_be_changed(bad):
    with pytest.raises(AttributeError, match="cannot assign to field 'score'"):
        bad.score = 0.0


def test_the_normalised_score_is_one_half_at_the_threshold_and_one_at_twice_it(bad):
    assert bad.normalised == pytest.approx(bad.score / (2 * bad.threshold))
    assert bad.normalised > 0.5


def test_a_result_prints_what_matters_and_no_tensors(bad):
    assert repr(bad) == f"Result({bad.name!r}, score={bad.score:.6g}, 'fail', map 512 x 512)"


def test_the_map_reaches_over_the_pixel_threshold_where_the_image_is_defective(good, bad):
    assert bad.map.max() > bad.pixel_threshold
    assert bad.mask.any()
    assert not good.mask.any()


def test_something_is_outlined_if_and_only_if_the_image_fails(detector, hazelnut):
    for path in sorted([*(hazelnut / "test").rglob("*.jpg"), *(hazelnut / "train/good").iterdir()]):
        result = detector.predict(path)
        # The two thresholds are set each by itself: what each would say alone does not matter.
        for score in (0.5 * result.threshold, result.score, 2 * result.threshold):
            for pixel_threshold in (0.1 * result.map.max(), result.pixel_threshold, 2 * result.map.max()):
                one = replace(result, score=score, pixel_threshold=float(pixel_threshold))
                assert one.mask.any() == (one.decision == "fail")


def test_the_patch_that_made_the_score_is_outlined_whatever_else_is(bad):
    row, column = bad.worst_patch
    assert bad.patch_scores[row, column] == bad.patch_scores.max()
    cells = bad.patch_scores.clone()
    cells[0, 0] = 1.1 * cells.max()
    elsewhere = replace(bad, patch_scores=cells, pixel_threshold=float(bad.map[32:, 32:].max()) * 0.99)
    assert elsewhere.worst_patch == (0, 0)
    assert elsewhere.mask[:32, :32].any()


def test_the_outline_is_closer_to_the_true_defect_than_the_map_over_the_threshold(detector, hazelnut):
    overlap = []
    for path in sorted((hazelnut / "test/colour").iterdir()):
        result = detector.predict(path)
        truth = np.asarray(Image.open(hazelnut / f"ground_truth/colour/{path.stem}_mask.png")) > 0
        for found in (result.mask, result.map > result.pixel_threshold):
            overlap.append((found & truth).sum() / (found | truth).sum())
    assert np.mean(overlap[::2]) > np.mean(overlap[1::2])


def test_a_caption_is_a_bar_below_the_overlay(bad, good):
    for result in (bad, good):
        plain, page = result.overlay(), result.overlay(caption=True)
        assert np.array_equal(np.asarray(page)[:512, :512], np.asarray(plain))
        assert page.width == 512
        assert 512 < page.height < 580
    lower = replace(bad, pixel_threshold=float(2 * bad.map.max()))
    assert lower.overlay(caption=True).height > bad.overlay(caption=True).height  # it says that nothing is over


def test_the_nearest_image_is_where_the_bank_row_of_the_worst_patch_comes_from(detector, bad):
    near = bad.nearest_image
    number = int(bad.nearest_rows[bad.worst_patch][0])
    image, row, column = detector.fitted.members[0].bank.origins[number].tolist()
    assert near == (detector.fitted.images[image], row, column, None)


def test_the_patch_of_the_nearest_image_is_the_row_itself(detector, bad, hazelnut):
    near = bad.nearest_image
    other = detector.predict(hazelnut / "train/good" / near.name)
    number = int(bad.nearest_rows[bad.worst_patch][0])
    assert other.nearest_rows[near.row, near.column, 0] == number
    assert other.patch_scores[near.row, near.column] < 0.01 * bad.score


def test_without_origins_there_is_no_nearest_image(detector, hazelnut):
    fitted = detector.fitted
    unnamed = Detector.of(replace(fitted, images=()))
    assert unnamed.predict(hazelnut / "test/colour/00.jpg").nearest_image is None


def test_seconds_are_counted(bad):
    assert 0 < bad.seconds < 60


def test_the_overlay_without_a_threshold_is_calm(hazelnut, small_recipe):
    detector = Detector(small_recipe.replace(calibration_share=0)).fit(hazelnut / "train/good", limit=1)
    path = hazelnut / "test/colour/00.jpg"
    result = detector.predict(path)
    assert result.decision == "unsure"
    assert heat(result, path).max() <= 1


def test_regions_are_the_mask_s_and_a_passed_image_has_none(good, bad):
    assert good.regions == ()
    assert sum(one.area for one in bad.regions) == bad.mask.sum()
    assert bad.regions[0].peak == bad.map[bad.mask].max()
    assert bad.regions[0].unit == "px"


def test_regions_are_measured_in_millimetres_and_small_ones_left_out(bad):
    low = replace(bad, pixel_threshold=float(np.quantile(bad.map, 0.6)))
    scaled = replace(low, recipe=low.recipe.replace(mm_per_pixel=0.5))
    assert np.array_equal(scaled.mask, low.mask)
    for one, other in zip(low.regions, scaled.regions, strict=True):
        assert (other.unit, other.box, other.area) == ("mm", one.box, one.area / 4)
        assert (other.length, other.width) == pytest.approx((one.length / 2, one.width / 2))
    one = replace(low, recipe=low.recipe.replace(min_region=1e6))
    assert [region.box for region in one.regions] == [low.regions[0].box]
    assert one.mask.sum() == one.regions[0].area


def test_a_result_without_regions_asked_for_has_computed_neither_map_nor_mask(detector, hazelnut):
    result = detector.predict(hazelnut / "test/colour/00.jpg")
    assert not {"map", "mask", "regions"} & set(vars(result))
