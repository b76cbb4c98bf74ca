"""Which good images set the thresholds, and against which banks."""

import hashlib
import logging
import shutil

import numpy as np
import pytest
import torch
from tiny import TINY, Tiny, noise

from patchcore import Detector
from patchcore.verdict.calibration import Calibration, folds


def fit(images, **fields):
    fields = {"coreset": "identity", "scaling": "none", **fields}
    return Detector(TINY.replace(**fields), backbone=Tiny()).fit(images)


@pytest.mark.parametrize("n", [4, 24])
def test_every_image_is_scored_against_a_bank_without_its_fold(n):
    images = list(noise(n))
    detector = fit(images, calibration="folds")
    calibration = detector.fitted.calibration
    assert calibration.crossed
    assert len(calibration.scores) == n
    digests = [digest_of(image) for image in images]
    fold = folds(digests, 0.2, detector.recipe.seed)
    assert len(set(fold)) == min(n, 5)
    for number in range(0, n, 3):
        others = [image for image, own in zip(images, fold, strict=True) if own != fold[number]]
        alone = fit(others, calibration_share=0).predict(images[number])
        assert calibration.scores[number] == pytest.approx(alone.score, rel=2e-3)  # patches in half precision
        assert calibration.map_maxima[number] == pytest.approx(np.nanmax(alone.map), rel=2e-3)
    bank = detector.fitted.members[0].bank
    assert set(bank.origins[:, 0].tolist()) == set(range(n))
    whole = fit(images, calibration_share=0).fitted.members[0].bank
    assert torch.equal(bank.rows, whole.rows)


def digest_of(image):
    return hashlib.sha256(f"{image.shape}{image.dtype}".encode() + image.tobytes()).hexdigest()


def test_a_coreset_of_a_fold_is_that_of_a_fit_without_it():
    images = list(noise(24))
    fields = {"coreset": "k_center", "ratio": 0.3, "min_rows": 1}
    detector = fit(images, calibration="folds", **fields)
    fold = folds(list(map(digest_of, images)), 0.2, 0)
    others = [image for image, own in zip(images, fold, strict=True) if own != fold[0]]
    alone = fit(others, calibration_share=0, **fields).predict(images[0])
    assert detector.fitted.calibration.scores[0] == pytest.approx(alone.score, rel=2e-3)


def test_the_bank_is_that_of_a_fit_that_sets_no_threshold(hazelnut, small_recipe):
    train = hazelnut / "train/good"
    crossed, without = (
        Detector(small_recipe.replace(**fields)).fit(train)
        for fields in ({"calibration": "folds"}, {"calibration_share": 0})
    )
    for a, b in zip(crossed.fitted.members, without.fitted.members, strict=True):
        assert torch.equal(a.bank.rows, b.bank.rows)
        assert torch.equal(a.bank.origins, b.bank.origins)
    assert without.fitted.calibration.scores == ()
    assert len(crossed.fitted.calibration.scores) == len(crossed.fitted.images)
    assert crossed.fitted.calibration.images == crossed.fitted.images


def test_held_out_images_are_in_no_bank(hazelnut, small_recipe):
    fitted = Detector(small_recipe.replace(calibration="held_out")).fit(hazelnut / "train/good").fitted
    assert not fitted.calibration.crossed
    held = {fitted.images.index(name) for name in fitted.calibration.images}
    assert len(held) == 2
    assert not held & set(fitted.members[0].bank.origins[:, 0].tolist())


def test_memory_and_threads_change_nothing(hazelnut, small_recipe):
    train = hazelnut / "train/good"
    found = [
        Detector(small_recipe, threads=threads).fit(train, memory=memory).fitted
        for threads, memory in ((1, None), (2, "500MB"))
    ]
    assert found[0].calibration == found[1].calibration
    assert torch.equal(found[0].members[0].bank.rows, found[1].members[0].bank.rows)


def test_members_of_an_ensemble_are_scored_in_the_same_folds(hazelnut, small_recipe):
    recipe = small_recipe.replace(calibration="folds")
    both = recipe.ensemble(recipe, recipe.replace(size=96))
    fitted = Detector(both).fit(hazelnut / "train/good").fitted
    assert fitted.calibration.crossed
    assert len(fitted.calibration.scores) == len(fitted.images)
    assert all(member.unit > 0 for member in fitted.members)


def test_copies_of_one_image_set_no_threshold(caplog):
    with caplog.at_level(logging.WARNING):
        calibration = fit(list(noise(1)) * 25, calibration="folds").fitted.calibration
    assert calibration.scores == ()
    assert "All 25 good images are copies of one, so no threshold can be set." in caplog.text


def test_an_image_that_alone_raises_the_threshold_is_named(hazelnut, small_recipe, tmp_path, caplog):
    folder = shutil.copytree(hazelnut / "train/good", tmp_path / "good")
    odd = sorted((hazelnut / "test").glob("*/*.jpg"))
    odd = next(path for path in odd if path.parent.name != "good")
    shutil.copy(odd, folder / "odd.jpg")
    with caplog.at_level(logging.WARNING):
        Detector(small_recipe).fit(folder)
    assert "odd.jpg alone raises the threshold from" in caplog.text
    assert "look at this image" in caplog.text


def test_what_a_file_keeps_of_the_calibration(hazelnut, small_recipe, tmp_path):
    detector = Detector(small_recipe.replace(confidence=0.8, false_reject_rate=0.3)).fit(hazelnut / "train/good")
    detector.save(tmp_path / "a.patchcore")
    calibration = Detector.load(tmp_path / "a.patchcore").fitted.calibration
    assert calibration == detector.fitted.calibration
    assert isinstance(calibration, Calibration)
    assert calibration.confidence == 0.8
    assert calibration.crossed


def test_a_result_says_how_unusual_its_score_is_for_a_good_image(detector, hazelnut):
    good = detector.fitted.calibration.scores
    result = detector.predict(hazelnut / "test/colour/00.jpg")
    assert result.p_value == pytest.approx((1 + sum(score >= result.score for score in good)) / (len(good) + 1))
