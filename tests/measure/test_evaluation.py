"""Evaluation: figures of a detector on labelled images."""

import doctest
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import patchcore.measure.evaluation
from patchcore import DataError, Detector, ImageError, Reading, UsageError
from patchcore.data.resolve import detect
from patchcore.data.sample import Sample
from patchcore.measure.evaluation import Evaluation, evaluate

IMAGE, PIXEL = {"image_auroc", "image_ap", "image_f1_max"}, {"pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05"}


@pytest.fixture(scope="module")
def samples(hazelnut) -> list[Sample]:
    return detect(hazelnut).test


@pytest.fixture(scope="module")
def evaluation(detector, samples) -> Evaluation:
    return evaluate(detector, samples)


def test_a_dataset_or_its_path_is_evaluated(detector, hazelnut, samples, evaluation):
    for given in (str(hazelnut), detect(hazelnut)):
        assert evaluate(detector, given).metrics == evaluation.metrics
    with pytest.raises(UsageError, match="got str among the images; expected a dataset, its path, or labelled images"):
        evaluate(detector, [str(samples[0].image)])
    with pytest.raises(UsageError, match="got PosixPath as the detector"):
        evaluate(hazelnut, detector)


def test_real_defects_are_told_from_good_images(evaluation):
    assert set(evaluation.metrics) == IMAGE | PIXEL
    assert evaluation.metrics["image_auroc"] == 1
    assert evaluation.metrics["image_ap"] == 1
    assert evaluation.metrics["image_f1_max"] == 1
    assert evaluation.metrics["pixel_auroc"] > 0.95
    assert 0.05 < evaluation.metrics["aupro_05"] < evaluation.metrics["aupro_30"] < 1


def test_pixel_auroc_is_over_all_pixels_of_all_images_at_the_masks_size(evaluation):
    maps, masks = [], []
    for sample, result in evaluation.results:
        maps.append(result.map.ravel())
        mask = np.zeros(result.map.shape, bool) if sample.mask is None else np.asarray(Image.open(sample.mask)) > 0
        assert mask.shape == result.map.shape == (512, 512)
        masks.append(mask.ravel())
    expected = roc_auc_score(np.concatenate(masks), np.concatenate(maps))
    assert evaluation.metrics["pixel_auroc"] == pytest.approx(expected, abs=1e-6)


def test_the_confusion_table_counts_every_verdict(evaluation, detector):
    table = evaluation.confusion()
    assert list(table) == ["good", "colour"]
    for kind, n in (("good", 3), ("colour", 4)):
        fails = sum(r.score > detector.fitted.calibration.threshold for s, r in evaluation.results if s.kind == kind)
        assert table[kind] == {"pass": n - fails, "unsure": 0, "fail": fails}
    assert table["colour"]["fail"] == 4


def test_a_detector_without_threshold_is_unsure_of_everything(hazelnut, small_recipe, samples):
    detector = Detector(small_recipe.replace(calibration_share=0)).fit(hazelnut / "train/good", limit=2)
    table = evaluate(detector, samples).confusion()
    assert table["good"] == {"pass": 0, "unsure": 3, "fail": 0}
    assert table["colour"] == {"pass": 0, "unsure": 4, "fail": 0}


def test_without_labels_there_is_nothing_to_measure(detector, hazelnut):
    unlabelled = [Sample("a", hazelnut / "test/good/04.jpg")]
    for found in ([], unlabelled, detect(hazelnut / "test/good").test):
        with pytest.raises(DataError, match=r"no labelled images.*test/<kind> folders, or a CSV table"):
            evaluate(detector, found)


def test_unlabelled_images_are_left_out(detector, samples, evaluation):
    more = [*samples, Sample("unlabelled", samples[0].image)]
    assert evaluate(detector, more).metrics == evaluation.metrics


def test_one_class_alone_has_no_figures(detector, samples):
    good = evaluate(detector, [sample for sample in samples if sample.kind == "good"])
    assert good.metrics == dict.fromkeys(IMAGE | PIXEL)
    assert list(good.confusion()) == ["good"]


def test_defects_alone_have_pixel_figures_but_no_image_figures(detector, samples):
    bad = evaluate(detector, [sample for sample in samples if sample.kind != "good"])
    assert all(bad.metrics[name] is None for name in IMAGE)
    assert all(0 < bad.metrics[name] < 1 for name in PIXEL)


def test_a_defect_without_mask_leaves_the_pixel_figures_out(detector, samples, evaluation):
    # Its pixels could be either; counting them as good would be wrong.
    assert samples[0].kind != "good"
    measured = evaluate(detector, [replace(samples[0], mask=None), *samples[1:]]).metrics
    assert all(measured[name] is None for name in PIXEL)
    assert all(measured[name] == evaluation.metrics[name] for name in IMAGE)


def test_what_a_crop_hides_is_not_held_against_the_detector(hazelnut, small_recipe, samples):
    recipe = small_recipe.replace(resize="short_side", size=160, crop=128)
    detector = Detector(recipe).fit(hazelnut / "train/good", limit=4)
    measured = evaluate(detector, samples)
    assert measured.coverage == pytest.approx((128 / 160) ** 2)
    shown = [(s, r, np.isfinite(r.map)) for s, r in measured.results]
    masks = [
        (np.zeros((512, 512), bool) if s.mask is None else np.asarray(Image.open(s.mask)) > 0)[ok] for s, r, ok in shown
    ]
    expected = roc_auc_score(np.concatenate(masks), np.concatenate([r.map[ok] for s, r, ok in shown]))
    assert measured.metrics["pixel_auroc"] == pytest.approx(expected, abs=1e-6)


def test_a_mask_of_another_size_is_named_with_both_sizes(detector, samples, tmp_path):
    Image.new("L", (500, 512)).save(tmp_path / "small_mask.png")
    with pytest.raises(ImageError, match=r"small_mask\.png: a mask of 500 x 512 pixels for an image of 512 x 512"):
        evaluate(detector, [replace(samples[0], mask=tmp_path / "small_mask.png"), *samples[1:]])


def test_a_bad_image_stops_the_evaluation_unless_it_may_be_left_out(detector, samples, evaluation, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    more = [*samples, Sample("bad.png", tmp_path / "bad.png", "colour", samples[0].mask)]
    with pytest.raises(ImageError, match=r"bad\.png: an empty file"):
        evaluate(detector, more)
    errors = []
    assert evaluate(detector, more, reading=Reading(on_bad=errors.append)).metrics == evaluation.metrics
    assert [error.name for error in errors] == ["bad.png"]


def test_images_of_one_name_keep_their_own_labels(detector, samples):
    # As in a table that lists a file twice, or samples made by hand.
    named = [replace(sample, name="part.png") for sample in samples]
    measured = evaluate(detector, named)
    assert [sample.kind for sample, _ in measured.results] == [sample.kind for sample in samples]
    assert measured.metrics["image_auroc"] == 1


def test_why_figures_are_missing_is_said(detector, samples, evaluation):
    assert evaluation.missing() == []
    good = evaluate(detector, [sample for sample in samples if sample.kind == "good"])
    assert [why.split(":")[0] for why in good.missing()] == ["No image metrics", "No pixel metrics"]
    unmasked = evaluate(detector, [replace(samples[0], mask=None), *samples[1:]])
    assert unmasked.missing() == [
        "No pixel metrics: they need a mask for every defective image; 3 of 4 have one.",
    ]
    assert unmasked.pixel_curve is None


def test_the_pixel_curve_is_there_to_be_drawn(evaluation):
    curve = evaluation.pixel_curve
    assert len(curve.true) < 2100
    assert curve.true[-1] + curve.false[-1] == 7 * 512 * 512
    area = np.trapezoid(np.append(0, curve.true / curve.true[-1]), np.append(0, curve.false / curve.false[-1]))
    assert area == pytest.approx(evaluation.metrics["pixel_auroc"], abs=2e-3)


def test_the_example_in_its_docstring_is_true(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    done = doctest.testmod(patchcore.measure.evaluation)
    assert done.attempted == 3
    assert done.failed == 0
