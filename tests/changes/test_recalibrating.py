"""Thresholds from new good images are those that a fit would have set with them, and can be taken back."""

import numpy as np
import pytest
from tiny import TINY, Tiny, noise

from patchcore import DataError, Detector, Recipe
from patchcore.changes.history import content
from patchcore.verdict.defects import Defects


def dull(n: int, seed: int = 0):
    return [one // 16 + np.uint8(100) for one in noise(n, seed=seed)]


def brighter(n: int, seed: int):
    """With more contrast, too, so that scores rise."""
    return [one // 8 + np.uint8(120) for one in noise(n, seed=seed)]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(TINY.replace(exposure="as_is", false_reject_rate=0.1), backbone=Tiny()).fit(dull(20))


def test_they_are_what_a_fit_sets_with_these_images(detector):
    new = brighter(15, seed=1)
    recipe = detector.recipe.replace(calibration="folds")
    whole = Detector(recipe, backbone=Tiny()).fit(dull(20), calibration=dull(5, seed=9))
    fitted = Detector(recipe, backbone=Tiny()).fit(dull(20), calibration=new)
    assert whole.recalibrate(new).fitted.calibration == fitted.fitted.calibration


def test_the_promise_is_kept_again(detector):
    assert all(result.decision == "fail" for result in detector.predict(brighter(20, seed=2)))
    now = detector.recalibrate(brighter(30, seed=3))
    assert sum(result.decision == "fail" for result in now.predict(brighter(20, seed=2))) <= 4
    assert now.fitted.members[0].bank.rows is detector.fitted.members[0].bank.rows
    assert now.fitted.calibration.looks[0].brightness > detector.fitted.calibration.looks[0].brightness
    assert not now.fitted.calibration.crossed


def test_the_history_has_figures_before_and_after_and_the_way_back(detector):
    now = detector.recalibrate(brighter(12, seed=3), who="ann", why="new lamp")
    entry = now.fitted.history[-1]
    assert (entry["what"], entry["who"], entry["good"], entry["failing"]) == ("recalibrate", "ann", 12, [12, 0])
    assert entry["threshold"] == [detector.fitted.calibration.threshold, now.fitted.calibration.threshold]
    assert "12 held-out good images" in entry["promise"]
    assert content(now.undo().fitted) == content(detector.fitted)


def test_known_defects_that_pass_are_counted(detector):
    from dataclasses import replace

    was = detector.fitted.calibration
    defects = Defects.fit([was.threshold * x for x in (1.05, 1.1, 9, 9)], 0.5)
    known = Detector.of(replace(detector.fitted, calibration=was.with_defects(defects)))
    now = known.recalibrate(brighter(12, seed=3))
    assert now.fitted.calibration.defects == defects
    before, after = now.fitted.history[-1]["missed"]
    assert before == 0
    assert after >= before


def test_images_that_were_learned_and_none_at_all_are_refused(detector):
    with pytest.raises(DataError, match="among the training images"):
        detector.recalibrate(dull(20))
    with pytest.raises(DataError, match="no images"):
        detector.recalibrate([])


def test_units_of_an_ensemble_stay():
    one = TINY.replace(backbone="efficientnet_lite0", taps=(8, 16), size=64)
    both = Detector(Recipe(members=[one, one.replace(size=96)], calibration="held_out")).fit(noise(8, 48, 48))
    now = both.recalibrate(noise(4, 48, 48, seed=2))
    assert [m.unit for m in now.fitted.members] == [m.unit for m in both.fitted.members]
    scores = [result.score for result in now.predict(noise(4, 48, 48, seed=2))]
    assert now.fitted.calibration.scores == pytest.approx(scores, rel=1e-4)
