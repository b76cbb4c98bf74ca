"""Cross-validation is fits and predictions that anybody could do one by one."""

import numpy as np
import pytest

from patchcore import Detector, Reading, UsageError
from patchcore.data.resolve import detect
from patchcore.tuning import Candidate, cross_validate, gather


@pytest.fixture(scope="module")
def images(hazelnut):
    found = detect(hazelnut)
    defects = [sample for sample in found.test if sample.kind != "good"][:2]
    return gather(found.train[:6], defects, reading=Reading(threads=1))


def test_every_fold_is_scored_by_a_detector_that_has_not_seen_it(images, small_recipe, tmp_path):
    fold = np.array([0, 1, 0, 1, 0, 1])
    other = small_recipe.replace(ratio=0.01)
    found = cross_validate([Candidate("a", small_recipe, {}), Candidate("b", other, {})], images, fold)
    assert [one.candidate.name for one in found] == ["a", "b"]
    for measured, recipe in zip(found, (small_recipe, other), strict=True):
        for number in (0, 1):
            detector = Detector(recipe).fit([s for s, f in zip(images.good, fold, strict=True) if f != number])
            held = detector.predict([s for s, f in zip(images.good, fold, strict=True) if f == number])
            assert measured.good[fold == number].tolist() == [result.score for result in held]
            assert measured.rejected[fold == number].tolist() == [result.decision == "fail" for result in held]
            defective = detector.predict(images.defective)
            assert measured.defective[number].tolist() == [result.score for result in defective]
            assert measured.missed[number].tolist() == [result.decision == "pass" for result in defective]
    figures = found[0].figures(images)
    assert figures.auroc == pytest.approx(np.mean(figures.fold_auroc))
    assert figures.auroc_low < figures.auroc <= figures.auroc_high
    assert figures.asked == small_recipe.false_reject_rate
    assert figures.false_reject_low <= figures.false_reject_rate <= figures.false_reject_high
    assert 0 < figures.milliseconds < 60_000
    detector = Detector(small_recipe).fit(images.good)
    detector.save(tmp_path / "model")
    assert figures.model_mb == pytest.approx((tmp_path / "model").stat().st_size / 1e6, rel=0.1)


def test_without_defects_there_is_no_accuracy(images, small_recipe):
    alone = gather(images.good[:4], [], reading=Reading(threads=1))
    (one,) = cross_validate([Candidate("a", small_recipe, {})], alone, np.array([0, 0, 1, 1]))
    figures = one.figures(alone)
    assert figures.auroc is figures.auroc_low is figures.miss_rate is None
    assert figures.fold_auroc == ()
    assert 0 <= figures.false_reject_rate <= 1


def test_a_recipe_that_cannot_be_used_is_named(images, small_recipe):
    wrong = Candidate("odd", small_recipe.replace(taps=("nowhere",)), {})
    with pytest.raises(UsageError, match=r"The recipe 'odd' cannot be used here: .*nowhere.* Change it, or omit it"):
        cross_validate([wrong], images, np.array([0, 0, 0, 1, 1, 1]))
