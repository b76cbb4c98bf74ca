"""A taught image passes, and the rest stays what it was."""

import numpy as np
import pytest
import torch
from tiny import TINY, Tiny, noise

from patchcore import DataError, Detector, Recipe, UsageError
from patchcore.changes.teaching import covering_radius
from patchcore.maths.coreset import k_center_greedy


@pytest.fixture(scope="module")
def images() -> list:
    return some(8)


def some(n: int, seed: int = 0) -> list[np.ndarray]:
    return [one // 16 + np.uint8(100) for one in noise(n, 48, 48, seed=seed)]


@pytest.fixture(scope="module")
def detector(images) -> Detector:
    return Detector(TINY, backbone=Tiny()).fit(images)


def bright(image: np.ndarray) -> np.ndarray:
    changed = image.copy()
    changed[8:28, 8:28] = 255
    return changed


def test_a_taught_image_passes(detector):
    wrong = [bright(one) for one in some(3, seed=5)]
    assert "pass" not in {r.decision for r in detector.predict(wrong)}
    assert {r.decision for r in detector.teach(wrong).predict(wrong)} == {"pass"}


def test_scores_of_others_only_fall(detector):
    others = some(6, seed=7)
    before, after = ([r.score for r in one.predict(others)] for one in (detector, detector.teach([bright(others[0])])))
    assert all(a <= b for a, b in zip(after, before, strict=True))


def test_new_rows_know_their_image_and_place(detector):
    now = detector.teach([bright(some(1, seed=5)[0])])
    image, row, column = now.fitted.members[0].bank.origins[-1].tolist()
    assert image == len(detector.fitted.images) == len(now.fitted.images) - 1
    result = now.predict(bright(some(1, seed=5)[0]))
    assert int(result.nearest_rows[row, column, 0]) == now.fitted.rows - 1


def test_the_covering_radius_is_that_of_the_greedy_selection():
    points = torch.rand(300, 5, generator=torch.Generator().manual_seed(0))
    picks = k_center_greedy(points, 40)
    recipe = TINY.replace(coreset="k_center")
    bank = type("Bank", (), {"rows": points[picks]})()
    member = type("Member", (), {"bank": bank, "recipe": recipe})()
    farthest = float(torch.cdist(points, points[picks]).amin(1).max())
    assert farthest <= covering_radius(member) <= farthest * 1.3


def test_no_new_patch_is_left_farther_than_the_radius(detector):
    wrong = bright(some(1, seed=5)[0])
    now = detector.teach([wrong])
    before, after = now.fitted.history[-1]["radius"]
    assert after <= covering_radius(detector.fitted.members[0]) * 1.001 < before
    assert float(now.predict(wrong).patch_scores.max()) <= after * 1.001


def test_rows_bound_the_growth(detector, caplog):
    now = detector.teach([bright(one) for one in some(3, seed=5)], rows=2)
    assert now.fitted.rows == detector.fitted.rows + 2
    assert "it still fails" in caplog.text


def test_a_member_of_an_ensemble_learns_too(images):
    recipe = Recipe(members=[TINY.replace(backbone="efficientnet_lite0", taps=(8, 16), size=64), TINY.replace(
        backbone="efficientnet_lite0", taps=(8, 16), size=96)], calibration="held_out")  # fmt: skip
    both = Detector(recipe).fit(images)
    wrong = bright(some(1, seed=5)[0])
    now = both.teach([wrong])
    assert now.predict(wrong).decision == "pass"
    assert now.fitted.rows > both.fitted.rows


def test_a_mean_of_several_distances_that_cannot_pass_is_an_error(images):
    many = Detector(TINY.replace(neighbours=5), backbone=Tiny()).fit(images)
    wrong = images[0].copy()
    wrong[20:28, 20:28] = np.arange(8, dtype=np.uint8)[:, None, None] * 32  # few patches, which differ
    with pytest.raises(DataError, match="still fails with all of its patches in the bank"):
        many.teach([wrong])


def test_forgetting_takes_all_rows_of_an_image(detector):
    now = detector.forget("#2")
    assert 2 not in now.fitted.members[0].bank.origins[:, 0].tolist()
    lost = int((detector.fitted.members[0].bank.origins[:, 0] == 2).sum())
    assert now.fitted.history[-1]["lost"] == lost > 0
    assert now.fitted.rows == detector.fitted.rows - lost


def test_a_forgotten_image_no_longer_sets_the_threshold(images):
    folds = Detector(TINY.replace(calibration="folds"), backbone=Tiny()).fit([*images, bright(images[0])])
    odd = max(range(9), key=lambda n: folds.fitted.calibration.scores[n])
    now = folds.forget(folds.fitted.calibration.images[odd])
    assert len(now.fitted.calibration.scores) == 8
    assert now.fitted.calibration.threshold < folds.fitted.calibration.threshold


@pytest.mark.parametrize(("name", "said"), [("#99", "no training image"), ("", "no training image")])
def test_an_image_that_nobody_knows(detector, name, said):
    with pytest.raises(UsageError, match=said):
        detector.forget(name)


def test_an_image_without_rows_cannot_be_forgotten_twice(detector):
    with pytest.raises(UsageError, match="no row of the bank comes from it"):
        detector.forget("#2").forget("#2")


def test_what_is_known_is_not_learned_twice(detector, images):
    learned = sorted(set(detector.fitted.members[0].bank.origins[:, 0].tolist()))
    with pytest.raises(DataError, match="known, and pass: there is nothing to learn"):
        detector.teach([images[number] for number in learned])
    new = some(1, seed=11)[0]
    now = detector.teach([images[learned[0]], new])
    assert [one["name"] for one in now.fitted.history[-1]["taught"]] == ["#1 (version 2)"]
    assert len(now.fitted.images) == len(detector.fitted.images) + 1


def test_a_held_out_image_that_is_learned_no_longer_sets_the_threshold(detector, images):
    held = detector.fitted.calibration.images
    now = detector.teach([images[int(held[0].removeprefix("#"))]])
    assert now.fitted.calibration.images == held[1:]
    assert detector.fitted.calibration.images == held


def test_nothing_to_learn_from(detector):
    with pytest.raises(DataError, match="no images to learn from"):
        detector.teach([])
