"""Detector: fit on good images, predict on new ones, save and load."""

import copy
import gc
import io
import itertools
import logging
import math
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY, Tiny, noise
from torch import nn
from torch.utils.data import DataLoader

from patchcore import (
    BackboneError,
    DataError,
    Detector,
    ImageError,
    NotFittedError,
    Reading,
    Recipe,
    RecipeError,
    Result,
    StoreError,
    UsageError,
    WeightsError,
)
from patchcore.backbones.engines import with_torch
from patchcore.data.sample import Sample
from patchcore.pipeline.workers import load


class Means(nn.Module):
    """A network whose cells are means of 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(4)

    def forward(self, x):
        return self.cells(x)


def tiny(images=None, **fields) -> Detector:
    """A detector that is fitted within milliseconds, where the images' content does not matter."""
    options = {key: fields.pop(key) for key in ("calibration", "limit", "reading") if key in fields}
    detector = Detector(TINY.replace(**fields), backbone=Tiny())
    return detector.fit(noise(20) if images is None else images, **options)


@pytest.fixture(scope="module")
def tiny_detector() -> Detector:
    return tiny()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five small images."""
    (tmp_path / "images").mkdir()
    for number, image in enumerate(noise(5)):
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


def same_bank(a: Detector, b: Detector) -> bool:
    return torch.equal(a.fitted.members[0].bank.rows, b.fitted.members[0].bank.rows) and torch.equal(
        a.fitted.members[0].bank.origins, b.fitted.members[0].bank.origins
    )


# What a user sees on real images


def test_defects_score_higher_than_good_images_and_are_found_where_they_are(detector, hazelnut):
    good = detector.predict(hazelnut / "test/good")
    bad = detector.predict(hazelnut / "test/colour")
    assert max(result.score for result in good) < min(result.score for result in bad)
    for result in bad:
        mask = np.asarray(Image.open(hazelnut / "ground_truth/colour" / f"{Path(result.name).stem}_mask.png")) > 0
        assert result.map[mask].mean() > 1.5 * result.map[~mask].mean()


def test_the_decision_is_fail_if_and_only_if_the_score_is_over_the_threshold(detector, hazelnut):
    results = detector.predict(hazelnut / "train/good") + detector.predict(hazelnut / "test/colour")
    for result in results:
        assert result.decision == ("fail" if result.score > result.threshold else "pass")
        assert (result.normalised > 0.5) == (result.score > result.threshold)
    assert {"pass", "fail"} == {result.decision for result in results}


@pytest.mark.parametrize("seed", range(4))
def test_the_images_that_set_the_threshold_pass_when_they_are_seen_again(hazelnut, small_recipe, seed):
    # Few are held out, so that the largest score sets it. Batches of another size round otherwise.
    images = sorted((hazelnut / "train/good").iterdir())
    recipe = small_recipe.replace(calibration="held_out", calibration_share=0.3, seed=seed)
    detector = Detector(recipe).fit(images)
    seen = {images[i] for i in detector.fitted.members[0].bank.origins[:, 0].tolist()}
    held_out = [path for path in images if path not in seen]
    assert len(held_out) == len(detector.fitted.calibration.scores)
    again = [
        *detector.predict(held_out),
        *detector.predict(held_out, reading=Reading(batch=5)),
        *map(detector.predict, held_out),
    ]
    assert {result.decision for result in again} == {"pass"}
    assert not any(result.mask.any() for result in again)
    # The margin for that is no more than an image's last digits.
    assert max(result.score for result in again) == pytest.approx(detector.fitted.calibration.threshold, rel=2e-4)


def test_map_and_mask_have_the_images_size_and_the_mask_is_the_map_over_its_threshold(detector, hazelnut):
    (result,) = detector.predict([hazelnut / "train/good/01.jpg"])
    assert result.map.shape == result.mask.shape == (522, 512)
    assert result.map.dtype == np.float32
    assert np.array_equal(result.mask, result.map > result.pixel_threshold)
    assert result.coverage == 1


@pytest.mark.parametrize("size", [(40, 70), (70, 40), (16, 16)])
@pytest.mark.parametrize(
    "fields",
    [
        {"resize": "stretch", "size": 32},
        {"resize": "stretch", "size": (32, 64)},
        {"resize": "short_side", "size": 32},
        {"resize": "letterbox", "size": 32},
    ],
)
def test_maps_of_whole_images_have_their_size_and_a_value_everywhere(size, fields):
    detector = tiny(noise(6, *size), **fields)
    result = detector.predict(noise(1, *size, seed=1)[0])
    assert result.map.shape == size
    assert np.isfinite(result.map).all()
    assert result.coverage == 1


@pytest.mark.parametrize(("size", "grid"), [((16, 32), (4, 8)), ((32, 16), (8, 4)), ((100, 50), (8, 4))])
def test_no_patch_of_a_letterbox_lies_in_its_padding(size, grid):
    detector = tiny(noise(6, *size), resize="letterbox", size=32, coreset="identity", calibration_share=0)
    assert len(detector.fitted.members[0].bank.rows) == 6 * grid[0] * grid[1]
    assert detector.fitted.members[0].bank.origins[:, 1:].amax(0).tolist() == [grid[0] - 1, grid[1] - 1]
    assert detector.predict(noise(1, *size, seed=1)[0]).patch_scores.shape == grid


@pytest.mark.parametrize("size", [(40, 80), (80, 40)])
def test_a_crop_leaves_the_rest_of_the_map_empty(size):
    detector = tiny(noise(6, *size), resize="short_side", size=32, crop=24)
    result = detector.predict(noise(1, *size, seed=1)[0])
    shown = np.isfinite(result.map)
    # 24 of 32 pixels of the short side, 24 of 64 of the long one, in the middle.
    rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
    for found, side in ((rows, size[0]), (columns, size[1])):
        length = round(side * 24 / (32 if side == 40 else 64))
        assert len(found) == pytest.approx(length, abs=1)
        assert found[0] == pytest.approx((side - length) / 2, abs=1)
    assert shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert result.coverage == pytest.approx(24 * 24 / (32 * 64))
    assert not result.mask[~shown].any()


@pytest.mark.parametrize(
    "fields",
    [
        {"resize": "stretch", "size": 64},
        {"resize": "short_side", "size": 64},
        {"resize": "short_side", "size": 72, "crop": 64},
        {"resize": "letterbox", "size": 64},
    ],
)
@pytest.mark.parametrize("size", [(60, 100), (100, 60)])
def test_the_map_is_highest_where_the_defect_is(fields, size):
    good = np.full((5, *size, 3), 128, np.uint8) + noise(5, *size) // 32
    bad = good[0].copy()
    bad[40:48, 30:38] = 255
    recipe = Recipe(taps=("cells",), patch_size=1, coreset="identity", sigma=1, **{"crop": None, **fields})
    detector = Detector(recipe, backbone=Means()).fit(good)
    row, column = np.unravel_index(np.nanargmax(detector.predict(bad).map), size)
    assert abs(row - 43.5) < 5
    assert abs(column - 33.5) < 5


# What `fit` takes


@pytest.fixture(scope="module")
def squares(hazelnut) -> list[Path]:
    """Training images of one size, so that they can be stacked."""
    return [path for path in sorted((hazelnut / "train/good").iterdir()) if path.name != "01.jpg"][:5]


@pytest.fixture(scope="module")
def from_paths(squares, small_recipe) -> Detector:
    return Detector(small_recipe).fit(squares)


@pytest.mark.parametrize(
    "form",
    ["folder", "strings", "arrays", "array", "tensor", "tensors", "pillow", "loader", "labelled loader", "generator"],
)
def test_the_same_images_in_any_form_give_the_same_bank(form, squares, from_paths, small_recipe, tmp_path):
    arrays = [np.asarray(Image.open(path)) for path in squares]
    tensors = [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays]
    if form == "folder":
        for path in squares:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    images = {
        "folder": tmp_path,
        "strings": [str(path) for path in squares],
        "arrays": arrays,
        "array": np.stack(arrays),
        "tensor": torch.stack(tensors),
        "tensors": tensors,
        "pillow": [Image.fromarray(array) for array in arrays],
        "loader": DataLoader(tensors, batch_size=2),
        "labelled loader": DataLoader([(tensor, 0) for tensor in tensors], batch_size=2),
        "generator": (path for path in squares),
    }[form]
    detector = Detector(small_recipe).fit(images)
    assert same_bank(detector, from_paths)
    assert detector.fitted.fingerprint == from_paths.fitted.fingerprint
    named = replace(from_paths.fitted.calibration, images=detector.fitted.calibration.images)
    assert detector.fitted.calibration == named  # arrays have numbers for names


def test_float_images_from_0_to_1_give_nearly_the_same_bank(squares, from_paths, small_recipe):
    # 8-bit levels divided by 255 outside rather than inside; only rounding differs.
    floats = [np.asarray(Image.open(path), np.float32) / 255 for path in squares]
    detector = Detector(small_recipe).fit(floats)
    assert detector.predict(squares[0]).score == pytest.approx(from_paths.predict(squares[0]).score, abs=0.05)


def test_fit_returns_the_detector(squares, small_recipe):
    detector = Detector(TINY, backbone=Tiny())
    assert detector.fit(noise(3)) is detector


def test_the_bank_keeps_a_share_of_the_patches_and_at_most_max_rows():
    # 16 held-in images of 8 x 8 patches.
    held_in = 20 - len(tiny().fitted.calibration.scores)
    assert len(tiny(ratio=0.1).fitted.members[0].bank.rows) == int(held_in * 64 * 0.1)
    assert len(tiny(ratio=1).fitted.members[0].bank.rows) == held_in * 64
    assert len(tiny(max_rows=7).fitted.members[0].bank.rows) == 7


@pytest.mark.parametrize(("fields", "rows"), [({}, 100), ({"ratio": 0.5}, 512), ({"max_rows": 60}, 60)])
def test_the_bank_keeps_at_least_min_rows_where_no_more_are_asked_for_or_allowed(fields, rows):
    assert len(tiny(**{"min_rows": 100, "ratio": 0.01, **fields}).fitted.members[0].bank.rows) == rows


def test_the_bank_of_few_patches_has_all_of_them():
    held_in = 20 - len(tiny().fitted.calibration.scores)
    rows = tiny(min_rows=2048).fitted.members[0].bank.rows
    assert len(rows) == held_in * 64
    assert torch.equal(rows.unique(dim=0), tiny(ratio=1, coreset="identity").fitted.members[0].bank.rows.unique(dim=0))


def test_every_bank_row_points_at_the_patch_it_came_from(detector, hazelnut):
    paths = sorted((hazelnut / "train/good").iterdir())
    assert [Path(name).name for name in detector.fitted.images] == [path.name for path in paths]
    for number, path in enumerate(paths):
        (one,) = detector.embedders[0]([load(Sample(path.name, path), 10**8)])
        mine = detector.fitted.members[0].bank.origins[:, 0] == number
        _, row, column = detector.fitted.members[0].bank.origins[mine].T.long()
        patches = one.values.unflatten(0, one.grid)[row, column] * detector.fitted.members[0].bank.scales
        # The bank holds half precision: 11 bits.
        torch.testing.assert_close(detector.fitted.members[0].bank.rows[mine], patches, rtol=2**-10, atol=1e-3)


def test_images_held_out_for_the_threshold_are_not_in_the_bank(hazelnut, small_recipe):
    detector = Detector(small_recipe.replace(calibration="held_out")).fit(hazelnut / "train/good")
    in_bank = set(detector.fitted.members[0].bank.origins[:, 0].tolist())
    assert len(in_bank) + len(detector.fitted.calibration.scores) == len(detector.fitted.images)
    assert len(detector.fitted.calibration.scores) >= 1


def test_images_given_for_calibration_set_the_threshold_alone():
    images, held = noise(10), noise(30, seed=1)
    detector = tiny(images, calibration=held, coreset="identity", false_reject_rate=0.1)
    assert set(detector.fitted.members[0].bank.origins[:, 0].tolist()) == set(range(10))
    scores = sorted(result.score for result in detector.predict(held))
    # The ceil((30 + 1) * 0.9) = 28th smallest of 30 scores.
    assert detector.fitted.calibration.threshold == pytest.approx(1.0001 * scores[27], rel=1e-5)
    maxima = sorted(result.map.max() for result in detector.predict(held))
    assert detector.fitted.calibration.pixel_threshold == pytest.approx(1.0001 * maxima[27], rel=1e-5)


@pytest.mark.parametrize("form", ["array", "generator"])
def test_calibration_images_that_were_learned_from_are_refused(form):
    learned = noise(6)
    held = np.concatenate([noise(2, seed=1), learned[3:4]])
    with pytest.raises(DataError, match=r"#2: this calibration image is among the training images too.*other good"):
        tiny(learned, calibration=held if form == "array" else iter(held))


def test_the_threshold_keeps_its_false_reject_rate_on_new_good_images():
    # Held-out and new images are drawn alike, so about 10 % of the new ones may fail; with 60
    # and 300 of them, more than 22 % would be four standard deviations away.
    detector = tiny(noise(8), calibration=noise(60, seed=1), false_reject_rate=0.1)
    fails = sum(result.decision == "fail" for result in detector.predict(noise(300, seed=2)))
    assert 0 < fails / 300 < 0.22


def test_too_few_images_for_the_rate_is_said_plainly(caplog):
    with caplog.at_level(logging.INFO, "patchcore"):
        detector = tiny(noise(10), false_reject_rate=0.01)
    (record,) = [record for record in caplog.records if "Threshold" in record.message]
    held = len(detector.fitted.calibration.scores)
    assert record.levelno == logging.WARNING
    assert f"the largest score of only {held} held-out good image" in record.message
    assert "needs at least 99" in record.message
    assert detector.fitted.calibration.threshold == pytest.approx(1.0001 * max(detector.fitted.calibration.scores))


def test_one_image_alone_gives_scores_but_no_verdict(caplog):
    with caplog.at_level(logging.WARNING, "patchcore"):
        detector = tiny(noise(1))
    assert "every verdict will be 'unsure'" in caplog.text
    result = detector.predict(noise(1, seed=1)[0])
    assert result.decision == "unsure"
    assert math.isnan(result.threshold)
    assert math.isnan(result.normalised)
    assert result.score > 0
    assert not result.mask.any()


def test_two_images_leave_one_for_the_threshold():
    detector = tiny(noise(2))
    assert len(detector.fitted.calibration.scores) == 1
    assert len(set(detector.fitted.members[0].bank.origins[:, 0].tolist())) == 1
    assert "keeps a false-reject rate of 0.5, not 0.05" in detector.fitted.calibration.summary()


def test_changed_versions_are_remembered_as_images_of_their_own():
    images = noise(3, 32, 48)
    fields = {"resize": "area", "calibration_share": 0, "coreset": "identity", "scaling": "none"}
    augmented = tiny(images, augment=("flip_h", "rotate_90"), **fields)
    turned = [[one, one[:, ::-1], np.rot90(one)] for one in images]
    plain = tiny([np.ascontiguousarray(version) for one in turned for version in one], **fields)
    assert torch.equal(augmented.fitted.members[0].bank.rows, plain.fitted.members[0].bank.rows)
    assert torch.equal(augmented.fitted.members[0].bank.scales, plain.fitted.members[0].bank.scales)
    number, row, column = plain.fitted.members[0].bank.origins.T
    assert torch.equal(augmented.fitted.members[0].bank.origins, torch.stack([number // 3, row, column, number % 3], 1))
    assert len(augmented.fitted.images) == 3


def test_held_out_images_are_not_changed_and_their_versions_not_remembered():
    images = noise(6)
    detector = tiny(images, augment=("flip_v", "rotate_180"), coreset="identity")
    held = set(range(6)) - set(detector.fitted.members[0].bank.origins[:, 0].tolist())
    scores = [detector.predict(images[number]).score for number in sorted(held)]
    assert len(held) == 1
    assert list(detector.fitted.calibration.scores) == pytest.approx(scores, rel=1e-3)  # held in half precision
    assert min(scores) > 0


def test_a_mirrored_part_is_as_good_as_the_part_where_the_recipe_says_so():
    (one,) = noise(1)
    mirrored = np.ascontiguousarray(one[:, ::-1])
    detectors = [tiny([one], augment=augment, coreset="identity") for augment in ((), ("flip_h",))]
    plain, augmented = (detector.predict(mirrored) for detector in detectors)
    assert plain.score > 0.1
    assert augmented.score == pytest.approx(0, abs=0.02)  # rows have half precision
    rows = detectors[1].fitted.members[0].bank.origins[augmented.nearest_rows[..., 0]]
    assert rows[3, 5].tolist() == [0, 3, 5, 1]


@pytest.mark.parametrize("options", [{"threads": 1}, {"memory": 500_000_000}])
def test_the_bank_with_versions_depends_on_neither_threads_nor_memory(options, monkeypatch):
    recipe = TINY.replace(augment=("flip_h", "transpose"), ratio=0.3)
    wanted = Detector(recipe, backbone=Tiny(), threads=2).fit(noise(5, 40, 32))
    if "memory" in options:
        monkeypatch.setattr("patchcore.detector.spill_limit", lambda memory: 3000)  # bytes
    threads = options.pop("threads", 2)
    assert same_bank(wanted, Detector(recipe, backbone=Tiny(), threads=threads).fit(noise(5, 40, 32), **options))


def test_a_detector_with_versions_reads_back(tmp_path):
    detector = tiny(augment=("flip_h",))
    detector.save(tmp_path / "model")
    again = Detector.load(tmp_path / "model", backbone=Tiny())
    assert same_bank(detector, again)
    assert again.fitted.members[0].bank.origins.shape[1] == 4
    assert again.recipe.augment == ("flip_h",)


def test_no_share_for_calibration_means_no_verdict():
    detector = tiny(calibration_share=0)
    assert detector.predict(noise(1)[0]).decision == "unsure"
    assert set(detector.fitted.members[0].bank.origins[:, 0].tolist()) == set(range(20))


def test_the_limit_is_a_sample_that_follows_the_seed(folder):
    names = [tiny(folder, limit=3, seed=seed).fitted.images for seed in range(6)]
    assert all(len(chosen) == 3 for chosen in names)
    assert all(list(chosen) == sorted(chosen) for chosen in names)
    assert len(set(names)) > 1
    assert tiny(folder, limit=3, seed=0).fitted.images == names[0]
    assert len(tiny(folder, limit=50).fitted.images) == 5


def test_a_second_fit_forgets_the_first():
    detector = tiny(noise(12, seed=1))
    detector.fit(noise(12, seed=2))
    fresh = tiny(noise(12, seed=2))
    assert same_bank(detector, fresh)
    assert detector.fitted.calibration == fresh.fitted.calibration
    assert detector.fitted.fingerprint == fresh.fitted.fingerprint


def test_a_fit_that_fails_leaves_the_detector_as_it_was(tmp_path):
    detector = tiny()
    before = detector.predict(noise(1)[0]).score
    with pytest.raises(ImageError):
        detector.fit([tmp_path / "nowhere.png"])
    assert detector.predict(noise(1)[0]).score == before


@pytest.mark.parametrize("form", ["list", "array", "generator"])
def test_nothing_to_learn_from_is_an_error(form):
    empty = {"list": [], "array": noise(0), "generator": iter(())}[form]
    with pytest.raises(DataError, match="no good images to learn from"):
        tiny(empty)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path.name} holds no images \(\.bmp"):
        tiny(tmp_path)


def test_something_that_is_no_image_is_named():
    with pytest.raises(UsageError, match=r"got int; expected a path, an image"):
        tiny(3)


def test_a_bad_image_stops_fit_and_is_named(folder):
    (folder / "2.png").write_bytes(b"this is no image")
    with pytest.raises(ImageError) as error:
        tiny(folder)
    assert str(error.value).startswith(f"{folder / '2.png'}: not an image")
    assert error.value.name == "2.png"


def test_a_bad_image_can_be_left_out_of_fit(folder):
    whole = tiny([path for path in sorted(folder.iterdir()) if path.name != "2.png"])
    (folder / "2.png").write_bytes(b"this is no image")
    errors = []
    detector = tiny(folder, reading=Reading(on_bad=errors.append))
    assert [error.name for error in errors] == ["2.png"]
    assert detector.fitted.images == ("0.png", "1.png", "3.png", "4.png")
    assert same_bank(detector, whole)


def test_only_bad_images_is_an_error(folder):
    for path in folder.iterdir():
        path.write_bytes(b"this is no image")
    with pytest.raises(DataError, match="no good images to learn from"):
        tiny(folder, reading=Reading(on_bad=lambda error: None))


def test_an_image_whose_values_do_not_fit_is_bad_like_one_that_cannot_be_read():
    errors = []
    floats = [image.astype(np.float32) for image in noise(4)]
    images = [*noise(4), floats[0]]
    with pytest.raises(ImageError, match="#4: a float image with values"):
        tiny(images)
    detector = tiny(images, reading=Reading(on_bad=errors.append))
    assert [error.name for error in errors] == ["#4"]
    assert len(detector.fitted.images) == 4


def test_features_beyond_half_precision_are_refused():
    class Loud(Tiny):
        def forward(self, x):
            return super().forward(x * 1e8)

    with pytest.raises(Exception, match="half precision holds up to 65504"):
        Detector(TINY, backbone=Loud()).fit(noise(3))


@pytest.mark.parametrize("device", ["gpu", "meta", None, 0, ""])
def test_an_unknown_device_is_named(device):
    with pytest.raises(UsageError, match=rf"^device is {device!r}; expected auto, cpu, cuda, cuda:0 or mps\.$"):
        Detector(device=device)


def test_a_backbone_by_name_is_a_field_of_the_recipe():
    with pytest.raises(
        UsageError, match=r"backbone is 'resnet18'; expected a torch.nn.Module.*Recipe\(backbone=name\)"
    ):
        Detector(backbone="resnet18")


def test_a_detector_prints_what_it_is_in_a_line(tiny_detector):
    rows = len(tiny_detector.fitted.members[0].bank.rows)
    assert repr(tiny_detector) == f"Detector(backbone='module', device='cpu', {rows} bank rows)"
    unfitted = repr(Detector(device="cpu"))
    assert unfitted == "Detector(backbone='efficientnet_lite0', device='cpu', not fitted)"


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.deepcopy])
def test_a_detector_that_is_pickled_points_at_save_and_load(attempt, tiny_detector):
    with pytest.raises(UsageError, match=r"cannot be pickled or copied\. Use save\(path\), and Detector\.load\(path\)"):
        attempt(tiny_detector)


def test_more_neighbours_than_bank_rows_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "patchcore"):
        tiny(noise(4), neighbours=3, max_rows=2)
    assert "neighbours is 3, more than the 2 rows of the bank" in caplog.text


@pytest.mark.parametrize("size", [4, 8])
def test_a_size_that_gives_a_single_cell_is_refused(size):
    with pytest.raises(BackboneError, match=rf"{size} x {size} pixels are a single cell at the tap.*larger `size`"):
        Detector(Recipe(size=size)).fit(noise(3))


def test_a_device_that_is_not_there_is_named():
    for device in ("cuda:99", "hpu"):
        with pytest.raises(
            UsageError, match=rf"^device is '{device}', which cannot be used here \([^()]*\)\. Try auto or cpu\.$"
        ):
            Detector(device=device)


# What `predict` takes


def test_one_image_gives_one_result_and_several_give_a_list(tiny_detector, folder):
    image = noise(1)[0]
    for one in (image, torch.from_numpy(image).permute(2, 0, 1), Image.fromarray(image), folder / "0.png"):
        assert isinstance(tiny_detector.predict(one), Result)
    for several in ([image], (image, image), noise(3), torch.from_numpy(noise(3)).permute(0, 3, 1, 2), folder):
        results = tiny_detector.predict(several)
        assert isinstance(results, list)
        assert all(isinstance(result, Result) for result in results)
    assert len(tiny_detector.predict(folder)) == 5
    assert tiny_detector.predict([]) == []


def test_every_form_of_an_image_gives_the_same_score(tiny_detector, folder):
    image = noise(1)[0]
    scores = [
        tiny_detector.predict(one).score
        for one in (
            folder / "0.png",
            str(folder / "0.png"),
            image,
            torch.from_numpy(image).permute(2, 0, 1),
            Image.fromarray(image),
        )
    ]
    assert scores == [scores[0]] * 5


def test_results_come_in_order_and_are_named_as_the_images_were(tiny_detector, folder):
    paths = sorted(folder.iterdir(), reverse=True)
    assert [result.name for result in tiny_detector.predict(paths)] == [str(path) for path in paths]
    assert [result.name for result in tiny_detector.predict(noise(3))] == ["#0", "#1", "#2"]


def test_images_together_score_as_they_do_alone(detector, hazelnut):
    paths = sorted((hazelnut / "test").rglob("*.jpg"))
    together = [result.score for result in detector.predict(paths)]
    assert together == pytest.approx([detector.predict(path).score for path in paths], rel=1e-5)
    assert [r.score for r in detector.predict(paths, reading=Reading(batch=3))] == pytest.approx(together, rel=1e-5)


def test_images_of_different_sizes_can_be_in_one_list():
    detector = tiny(resize="short_side")
    images = [noise(1, *size)[0] for size in ((32, 32), (50, 40), (40, 50), (32, 32))]
    results = detector.predict(images)
    assert [result.map.shape for result in results] == [(32, 32), (50, 40), (40, 50), (32, 32)]
    assert results[0].score == pytest.approx(results[3].score, rel=1e-5)


def test_a_generator_streams_and_may_be_endless(tiny_detector):
    taken = []

    def camera():
        for number in itertools.count():
            taken.append(number)
            yield noise(1, seed=number)[0]

    results = tiny_detector.predict(camera())
    assert taken == []
    scores = [result.score for result in itertools.islice(results, 5)]
    expected = [tiny_detector.predict(noise(1, seed=number)[0]).score for number in range(5)]
    assert scores == pytest.approx(expected, rel=1e-5)
    assert len(taken) < 10


def test_a_cameras_image_does_not_wait_for_the_next_one(tiny_detector):
    # The next part may arrive in an hour; its verdict is wanted now.
    taken = []

    def camera():
        for number in itertools.count():
            taken.append(number)
            yield noise(1, seed=number)[0]

    results = tiny_detector.predict(camera())
    next(results)
    assert taken == [0]
    next(results)
    assert taken == [0, 1]


def test_a_stream_keeps_no_images(tiny_detector):
    images = []

    def camera():
        for number in range(40):
            image = noise(1, seed=number)[0].copy()
            images.append(weakref.ref(image))
            yield image

    most = 0
    for result in tiny_detector.predict(camera()):
        del result
        most = max(most, sum(reference() is not None for reference in images))
    assert most < 8
    gc.collect()
    assert sum(reference() is not None for reference in images) == 0


def test_a_bad_image_stops_predict_and_is_named(tiny_detector, folder):
    (folder / "2.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"2\.png: an empty file"):
        tiny_detector.predict(folder)
    with pytest.raises(ImageError, match=r"nowhere\.png: no such file"):
        tiny_detector.predict(folder / "nowhere.png")


def test_predict_goes_on_past_a_bad_image_when_asked_to(tiny_detector, folder):
    (folder / "2.png").write_bytes(b"")
    errors = []
    results = tiny_detector.predict(folder, reading=Reading(on_bad=errors.append))
    assert [Path(error.name).name for error in errors] == ["2.png"]
    assert [Path(result.name).name for result in results] == ["0.png", "1.png", "3.png", "4.png"]


def test_a_single_bad_image_is_an_error_whatever_is_asked_for(tiny_detector, folder):
    with pytest.raises(ImageError, match="no such file"):  # there is no other image to go on with
        tiny_detector.predict(folder / "nowhere.png", reading=Reading(on_bad=lambda error: None))


def test_predict_before_fit_says_what_to_do(tmp_path):
    for use in (Detector().predict, Detector().stream):
        with pytest.raises(NotFittedError, match=r"Call fit, or use Detector\.load"):
            use(noise(1)[0])
    with pytest.raises(NotFittedError, match="Call fit"):
        Detector().save(tmp_path / "x.patchcore")
    assert list(tmp_path.iterdir()) == []


def test_threads_may_share_a_detector(detector, hazelnut):
    paths = sorted(hazelnut.rglob("*.jpg"))
    expected = [detector.predict(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(detector.predict, paths))
    assert [result.score for result in actual] == pytest.approx([result.score for result in expected], rel=1e-5)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours.map, theirs.map, rtol=1e-4)


def test_16_bit_images_keep_their_depth(detector, hazelnut):
    eight = np.asarray(Image.open(hazelnut / "test/colour/00.jpg"))
    sixteen = eight.astype(np.uint16) * 257
    assert detector.predict(sixteen).score == pytest.approx(detector.predict(eight).score, rel=1e-4)
    # A change within one level of 8 bits is still seen.
    finer = sixteen + np.random.default_rng(0).integers(0, 200, sixteen.shape, dtype=np.uint16) * (sixteen < 65000)
    assert detector.predict(finer).score != detector.predict(sixteen).score


def test_grey_images_score_like_the_same_grey_in_rgb(tiny_detector):
    grey = noise(1)[0, :, :, 0]
    scores = [
        tiny_detector.predict(image).score
        for image in (grey, grey[..., None], np.repeat(grey[..., None], 3, 2), Image.fromarray(grey))
    ]
    assert scores == [scores[0]] * 4


def test_an_image_from_the_bank_itself_scores_next_to_nothing():
    images = noise(4)
    detector = tiny(images, coreset="identity", calibration_share=0)
    # The bank is in half precision; what is left of the distance is its rounding.
    own = max(result.score for result in detector.predict(images))
    assert own < 0.01 * detector.predict(noise(1, seed=9)[0]).score


def test_results_name_the_bank_rows_that_each_patch_is_nearest_to():
    images = noise(4)
    detector = tiny(images, coreset="identity", calibration_share=0)
    result = detector.predict(images[2])
    nearest = result.nearest_rows[..., 0]
    origins = detector.fitted.members[0].bank.origins[nearest]
    assert (origins[..., 0] == 2).all()
    assert origins[3, 5].tolist() == [2, 3, 5]
    assert result.patch_scores.shape == nearest.shape == (8, 8)


# The same again


def test_the_same_seed_makes_the_same_file(squares, small_recipe, from_paths, tmp_path):
    torch.rand(1)  # nothing that is drawn elsewhere matters
    again = Detector(small_recipe).fit(squares)
    again.save(tmp_path / "a")
    from_paths.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_number_of_threads_does_not_change_the_bank(squares, small_recipe, tmp_path):
    recipe = small_recipe.replace(ratio=0.2)
    before = torch.get_num_threads()
    detectors = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            detectors.append(Detector(recipe).fit(squares))
    finally:
        torch.set_num_threads(before)
    assert same_bank(*detectors)


@pytest.mark.parametrize("fields", [{"coreset": "random"}, {"start": "random"}, {"projection": "dense"}])
def test_another_seed_makes_another_bank(fields):
    fields = {"projection_dims": 4, "projection_from": 1, "calibration_share": 0, **fields}
    assert same_bank(tiny(seed=1, **fields), tiny(seed=1, **fields))
    assert not same_bank(tiny(seed=1, **fields), tiny(seed=2, **fields))


def test_another_seed_holds_out_other_images():
    held_in = {frozenset(tiny(seed=seed).fitted.members[0].bank.origins[:, 0].tolist()) for seed in range(4)}
    assert len(held_in) > 1


# Threads


@pytest.mark.parametrize(
    ("threads", "wrong"),
    [
        (0, "it must be at least 1"),
        (-1, "it must be at least 1"),
        (1_000_000, "it must be at most 4096"),  # the process would die of it
        (2.5, "expected a whole number"),
        ("4", "expected a whole number"),
        (True, "expected a whole number"),
    ],
)
def test_a_wrong_number_of_threads_is_wrong_usage(threads, wrong, model_file):
    for make in (Detector, partial(Detector.load, model_file)):
        with pytest.raises(UsageError, match=f"threads is {threads!r}; {wrong}"):
            make(threads=threads)


@pytest.fixture(scope="module")
def by_threads(squares, small_recipe) -> dict[int, Detector]:
    """The same fit by one thread and by two."""
    recipe = small_recipe.replace(ratio=0.2)
    return {threads: Detector(recipe, threads=threads).fit(squares) for threads in (1, 2)}


def test_the_threads_of_a_detector_do_not_change_its_file(by_threads, tmp_path):
    for threads, detector in by_threads.items():
        detector.save(tmp_path / str(threads))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_results_agree_whatever_the_threads(by_threads, squares, tmp_path):
    by_threads[1].save(tmp_path / "m")
    paths = squares[:5]
    expected = by_threads[1].predict(paths)
    others = [by_threads[2].predict(paths), Detector.load(tmp_path / "m", threads=2).predict(paths)]
    for detector in (*by_threads.values(), Detector.load(tmp_path / "m", threads=2)):
        others.append([detector.predict(path) for path in paths])
        others.append(list(detector.stream(paths, reading=Reading(batch=2))))
        others.append(list(detector.predict(iter(paths))))
    for results in others:
        assert [result.score for result in results] == pytest.approx([one.score for one in expected], rel=1e-5)
        for one, other in zip(results, expected, strict=True):
            np.testing.assert_allclose(one.patch_scores, other.patch_scores, rtol=1e-4, atol=1e-4)


def test_a_loaded_detector_gives_exactly_what_the_fitted_one_gives(by_threads, squares, tmp_path):
    by_threads[1].save(tmp_path / "m")
    loaded = Detector.load(tmp_path / "m", threads=1)
    for one, other in zip(loaded.predict(squares[:4]), by_threads[1].predict(squares[:4]), strict=True):
        assert one.score == other.score
        assert torch.equal(one.patch_scores, other.patch_scores)
        assert torch.equal(one.nearest_rows, other.nearest_rows)


@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("own", [1, 3])
def test_the_caller_s_number_of_threads_stays(own, threads, tiny_detector, folder):
    from threadpoolctl import threadpool_info

    def settings():
        return torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]

    def broken():
        yield noise(1)[0]
        raise OSError("camera unplugged")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(own)
        outside = settings()
        detector = Detector(TINY, backbone=Tiny(), threads=threads).fit(noise(6))
        assert settings() == outside
        detector.predict(noise(3))
        detector.predict(noise(1)[0])
        assert settings() == outside
        for half in (detector.stream(list(noise(8))), detector.predict(image for image in noise(8))):
            next(half)
            next(half)
            assert settings() == outside
            half.close()
            assert settings() == outside
        for act in (detector.fit, lambda images: list(detector.predict(images))):
            with pytest.raises(OSError, match="camera unplugged"):
                act(broken())
            assert settings() == outside
        (folder / "0.png").write_bytes(b"")
        with pytest.raises(ImageError):
            detector.predict(folder)
        assert settings() == outside
    finally:
        torch.set_num_threads(before)


def test_streams_may_be_consumed_in_turns(tiny_detector):
    images = list(noise(6))
    expected = [result.score for result in tiny_detector.predict(images)]
    streams = [tiny_detector.stream(images) for _ in range(3)]
    for scores in zip(*streams, expected, strict=True):
        assert [result if isinstance(result, float) else result.score for result in scores] == pytest.approx(
            [scores[-1]] * 4, rel=1e-5
        )


def test_a_detector_that_has_just_been_loaded_may_be_used_by_threads_at_once(by_threads, squares, tmp_path):
    # Nothing has been searched for yet: the bank is prepared by whoever comes first.
    by_threads[1].save(tmp_path / "m")
    expected = [result.score for result in by_threads[1].predict(squares[:4])]
    loaded = Detector.load(tmp_path / "m")
    with ThreadPoolExecutor(4) as pool:
        lists = list(pool.map(loaded.predict, [squares[:4]] * 4))
    for results in lists:
        assert [result.score for result in results] == pytest.approx(expected, rel=1e-5)


def test_an_image_whose_features_are_no_numbers_gets_no_verdict_and_changes_no_other():
    network = Means()
    network.cells = nn.Sequential(nn.AvgPool2d(4), Log())
    recipe = Recipe(taps=("cells",), size=32, resize="stretch", ratio=0.5, min_rows=1, exposure="as_is")
    detector = Detector(recipe, backbone=network).fit(noise(20) // 2 + 100)
    good = noise(1, seed=1)[0] // 2 + 100
    broken = good.copy()
    broken[:12, :12] = 0
    alone = detector.predict(good)
    both = detector.predict([good, broken, good])
    assert [result.score for result in both[::2]] == pytest.approx([alone.score] * 2, rel=1e-5)
    assert math.isnan(both[1].score)
    assert both[1].decision == "unsure"
    # The patches that the broken corner does not reach are scored as they are.
    torch.testing.assert_close(both[1].patch_scores[5:], alone.patch_scores[5:])


class Log(nn.Module):
    """No number below 0."""

    def forward(self, x):
        return x.add(2).log()


# Save and load


def test_a_loaded_detector_gives_the_same_results(detector, model_file, hazelnut):
    loaded = Detector.load(model_file)
    assert loaded.recipe == detector.fitted.recipe
    assert loaded.fitted.calibration == detector.fitted.calibration
    assert loaded.fitted.images == detector.fitted.images
    for ours, theirs in zip(
        loaded.predict(hazelnut / "test/colour"), detector.predict(hazelnut / "test/colour"), strict=True
    ):
        assert ours.score == theirs.score
        assert ours.decision == theirs.decision
        assert np.array_equal(ours.map, theirs.map)


def test_a_network_that_is_loaded_is_prepared_once(model_file, monkeypatch):
    prepared = []
    monkeypatch.setattr(with_torch, "folded", lambda extractor: prepared.append(extractor) or extractor)
    loaded = Detector.load(model_file)
    assert prepared == [one.backbone.extractor for one in loaded.embedders]


def test_a_loaded_detector_saves_the_same_file(model_file, tmp_path):
    Detector.load(model_file).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == model_file.read_bytes()


def test_a_file_without_weights_is_small_and_finds_them_again(detector, model_file, hazelnut, tmp_path):
    path = tmp_path / "light.patchcore"
    detector.save(path, weights=False)
    assert path.stat().st_size < 0.2 * model_file.stat().st_size
    image = hazelnut / "test/colour/00.jpg"
    assert Detector.load(path).predict(image).score == detector.predict(image).score


def test_a_file_without_weights_wants_the_local_file_again(tmp_path):
    def weights_of(seed):
        torch.manual_seed(seed)
        import timm

        torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), tmp_path / f"{seed}.pth")
        return str(tmp_path / f"{seed}.pth")

    recipe = Recipe(backbone="resnet10t", weights=weights_of(1), taps=(8,), size=32, resize="stretch", crop=None)
    detector = Detector(recipe).fit(noise(4))
    detector.save(tmp_path / "m", weights=False)
    with pytest.raises(
        WeightsError, match=r"saved without its weights, which came from the local file .*weights=\.\.\."
    ):
        Detector.load(tmp_path / "m")
    loaded = Detector.load(tmp_path / "m", weights=weights_of(1))
    loaded.fit(noise(4))  # with the network that it has: the recipe keeps no folder
    with pytest.raises(WeightsError, match=r"no such file \(a saved recipe keeps its name, not its folder"):
        Detector(loaded.recipe).fit(noise(4))
    assert loaded.predict(noise(1)[0]).score == detector.predict(noise(1)[0]).score
    with pytest.raises(WeightsError, match=r"not those that the detector was fitted with \(local file 1\.pth\)"):
        Detector.load(tmp_path / "m", weights=weights_of(2))


def test_a_file_tells_no_folder_of_the_machine(folder, tmp_path):
    detector = tiny(sorted(folder.iterdir()))
    detector.save(tmp_path / "m")
    assert str(tmp_path).encode() not in (tmp_path / "m").read_bytes()


def test_a_network_of_the_callers_own_is_needed_again(tiny_detector, tmp_path):
    tiny_detector.save(tmp_path / "m")
    image = noise(1)[0]
    loaded = Detector.load(tmp_path / "m", backbone=Tiny())
    assert loaded.predict(image).score == tiny_detector.predict(image).score
    with pytest.raises(StoreError, match=r"own network.*Detector\.load\(path, backbone=model\)"):
        Detector.load(tmp_path / "m")
    with pytest.raises(WeightsError, match="not those that the detector was fitted with"):
        Detector.load(tmp_path / "m", backbone=Tiny(seed=1))


def test_a_recipe_for_an_own_network_needs_it():
    with pytest.raises(UsageError, match=r"give the network: Detector\(recipe, backbone=network\)"):
        Detector(Recipe(backbone="module", taps=("shallow",))).fit(noise(2))


def test_a_detector_without_threshold_survives_save_and_load(tmp_path):
    detector = tiny(noise(1))
    detector.save(tmp_path / "m")
    loaded = Detector.load(tmp_path / "m", backbone=Tiny())
    assert loaded.predict(noise(1)[0]).decision == "unsure"
    assert math.isnan(loaded.fitted.calibration.threshold)


def test_saving_into_a_missing_folder_says_so(tiny_detector, tmp_path):
    with pytest.raises(StoreError, match=r"folder .*nowhere does not exist"):
        tiny_detector.save(tmp_path / "nowhere" / "m")


@pytest.mark.parametrize("name", ["nuts.patchcore", "Nüsse 二 .patchcore"])
def test_saving_leaves_one_file_and_replaces_an_older_one(name, tiny_detector, tmp_path):
    (tmp_path / name).write_bytes(b"an older file")
    tiny_detector.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert Detector.load(tmp_path / name, backbone=Tiny()).fitted.rows > 0


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "torchvision:mobilenet_v3_small", "convnext_atto"])
def test_networks_of_other_kinds_work_end_to_end(backbone, tmp_path):
    recipe = Recipe(backbone=backbone, weights="random", size=64, resize="stretch", crop=None, ratio=0.5)
    images = np.stack([np.full((64, 64, 3), 100 + n, np.uint8) for n in range(6)])
    detector = Detector(recipe).fit(images)
    detector.save(tmp_path / "m")
    bad = images[0].copy()
    bad[10:30, 10:30] = (255, 0, 0)
    result, good = Detector.load(tmp_path / "m").predict([bad, images[3]])
    assert result.score > good.score
    assert result.map.shape == (64, 64)


def test_a_recipe_may_be_given_by_its_name():
    assert Detector("fast").recipe == Recipe.named("fast")
    with pytest.raises(RecipeError, match=r"There is no recipe 'fats'.*Did you mean 'fast'"):
        Detector("fats")


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_no_images_is_wrong_usage(tiny_detector, size):
    with pytest.raises(UsageError, match=rf"batch is {size}; it must be at least 1"):
        tiny_detector.predict(noise(2), reading=Reading(batch=size))


# ---- copies of one image


def test_copies_of_an_image_count_once_and_are_said(caplog):
    once = noise(40)
    twice = np.repeat(once, 2, axis=0)
    expected = tiny(once).fitted
    assert "copies" not in caplog.text
    for images in (twice, iter(twice)):
        caplog.clear()
        fitted = tiny(images).fitted
        assert "40 of 80 images are copies of others, pixel for pixel; each counts once." in caplog.text
        assert fitted.calibration == replace(expected.calibration, images=fitted.calibration.images)
        assert torch.equal(fitted.members[0].bank.rows, expected.members[0].bank.rows)
        assert len(fitted.images) == 40


def test_good_images_that_are_all_copies_of_one_set_no_threshold(caplog):
    detector = tiny(np.repeat(noise(1), 25, axis=0))
    assert "All 25 good images are copies of one, so no threshold can be set." in caplog.text
    assert math.isnan(detector.fitted.calibration.threshold)
    assert detector.predict(noise(1)[0]).decision == "unsure"


def test_copies_among_calibration_images_count_once(caplog):
    held = np.repeat(noise(10, seed=1), 2, axis=0)
    fitted = tiny(noise(10), calibration=held).fitted
    assert len(fitted.calibration.scores) == 10
    assert "10 of 20 images are copies of others" in caplog.text


# ---- the order of colours


def reddish(n, seed=0):
    return (noise(n, seed=seed) * [1.0, 0.7, 0.4]).astype(np.uint8)


def test_arrays_of_opencv_give_the_same_when_their_order_is_said(tmp_path):
    images, bgr = reddish(6), Reading(colour="bgr")
    detector, other = tiny(images), tiny(images[..., ::-1], reading=bgr)
    assert other.fitted.fingerprint == detector.fitted.fingerprint
    assert torch.equal(other.fitted.members[0].bank.rows, detector.fitted.members[0].bank.rows)
    expected = detector.predict(images[0])
    Image.fromarray(images[0]).save(tmp_path / "0.png")
    tensor = torch.from_numpy(images[0].copy()).permute(2, 0, 1)
    alpha = np.concatenate([images[0][..., ::-1], images[0][..., :1]], axis=2)
    for image in (images[0][..., ::-1], tensor.flip(0), alpha, tmp_path / "0.png", Image.fromarray(images[0])):
        result = detector.predict(image, reading=bgr)
        assert result.score == expected.score
        assert np.array_equal(result.overlay(), expected.overlay())
    (result,) = detector.stream([images[0][..., ::-1]], reading=bgr)
    assert result.score == expected.score


def test_an_unknown_order_of_colours_is_an_error():
    with pytest.raises(UsageError, match=r"colour is 'BGR'; expected 'rgb', or 'bgr' for arrays that OpenCV has read"):
        Reading(colour="BGR")


def test_exchanged_colours_are_said_once(caplog, tmp_path):
    images, new = reddish(8), reddish(3, seed=1)
    tiny(images).save(tmp_path / "model", weights=False)
    detector = Detector.load(tmp_path / "model", backbone=Tiny())
    detector.predict(new)
    detector.predict(noise(2))  # grey on average
    detector.predict(noise(2)[0, ..., 0])
    detector.predict(new[..., ::-1], reading=Reading(colour="bgr"))
    assert "exchanged" not in caplog.text
    assert detector.predict(new[0, ..., ::-1]).decision != "pass"
    detector.predict(new[..., ::-1])
    (record,) = [one for one in caplog.records if "exchanged" in one.message]
    assert record.message.startswith("#0: it has the colours of the good images only with red and blue exchanged")
    assert "Reading(colour='bgr')" in record.message


def test_files_whose_colours_are_exchanged_are_said_where_arrays_were_learned(caplog, tmp_path):
    images = reddish(8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    Image.fromarray(images[0][..., ::-1]).save(tmp_path / "blue.png")
    tiny([tmp_path / f"{n}.png" for n in range(8)]).predict(tmp_path / "blue.png")  # a blue part: a defect
    assert "exchanged" not in caplog.text
    tiny(images[..., ::-1]).predict(tmp_path / "0.png")
    assert caplog.text.count("exchanged") == 1


def test_calibration_images_whose_colours_are_exchanged_are_said(caplog):
    tiny(reddish(6), calibration=reddish(4, seed=1))
    assert "exchanged" not in caplog.text
    tiny(reddish(6), calibration=reddish(4, seed=1)[..., ::-1])
    assert "4 of 4 calibration images have the colours of the training images only with red and blue" in caplog.text


# ---- files that are no paths


def test_the_contents_of_files_are_images(tmp_path, detector, hazelnut):
    path = hazelnut / "test/colour/00.jpg"
    expected, content = detector.predict(path), path.read_bytes()
    with path.open("rb") as file:
        for image in (content, io.BytesIO(content), file):
            result = detector.predict(image)
            assert (result.name, result.score) == ("#0", expected.score)
            assert np.array_equal(result.overlay(), expected.overlay())
    with pytest.raises(ImageError, match="more than the limit of 100"):
        detector.predict(content, reading=Reading(max_pixels=100))


def test_an_image_that_opencv_could_not_read_is_said_and_can_be_passed_over():
    detector, images = tiny(), noise(2)
    with pytest.raises(ImageError, match=r"#1: None, where .*cv2\.imread gives None where it cannot read a file"):
        detector.predict([images[0], None, images[1]])
    bad = []
    results = detector.predict([images[0], None, images[1]], reading=Reading(on_bad=bad.append))
    assert ([one.name for one in results], [one.name for one in bad]) == (["#0", "#2"], ["#1"])
    with pytest.raises(UsageError, match=r"got NoneType; .*cv2\.imread gives None"):
        detector.predict(None)


def test_a_word_is_no_reading(detector, hazelnut):
    for call in (detector.predict, detector.stream, detector.fit):
        with pytest.raises(UsageError, match="reading is 'bgr'; expected a Reading"):
            call(hazelnut / "test/colour/00.jpg", reading="bgr")
