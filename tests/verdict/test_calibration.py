import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.errors import UsageError
from patchcore.verdict.calibration import Calibration, folds, hold_out

shares = st.floats(0.01, 0.99)
seeds = st.integers(0, 10_000)


def images(n):
    """What stands for each of n images that show a part of their own."""
    return [f"image {number}" for number in range(n)]


@settings(max_examples=150)
@given(n=st.integers(1, 200), share=st.floats(0, 0.999), seed=seeds)
def test_every_image_is_either_in_the_bank_or_held_out(n, share, seed):
    kept, held = hold_out(images(n), share, seed)
    assert sorted(kept + held) == list(range(n))
    assert kept == sorted(kept)
    assert held == sorted(held)
    assert kept, "the bank is never empty"


@settings(max_examples=100)
@given(n=st.integers(2, 200), share=shares, seed=seeds)
def test_from_two_images_on_at_least_one_is_held_out(n, share, seed):
    assert hold_out(images(n), share, seed)[1]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.999])
def test_a_single_image_is_in_the_bank(share):
    for seed in range(20):
        assert hold_out(images(1), share, seed) == ([0], [])


@settings(max_examples=20)
@given(n=st.integers(1, 100), seed=seeds)
def test_a_share_of_nothing_holds_nothing_out(n, seed):
    assert hold_out(images(n), 0.0, seed) == (list(range(n)), [])


@pytest.mark.parametrize(("n", "expected"), [(2, 1), (3, 1), (10, 2), (13, 3), (28, 6), (100, 20)])
def test_the_share_is_held_out_whatever_the_seed(n, expected):
    assert {len(hold_out(images(n), 0.2, seed)[1]) for seed in range(50)} == {expected}


def test_every_image_is_as_likely_to_be_held_out():
    # 2000 seeds: the standard deviation of each image's share is 0.009.
    counts = [0] * 10
    for seed in range(2000):
        for index in hold_out(images(10), 0.2, seed)[1]:
            counts[index] += 1
    assert [count / 2000 for count in counts] == pytest.approx([0.2] * 10, abs=0.04)


def test_the_seed_decides_which_are_held_out():
    assert hold_out(images(50), 0.2, 3) == hold_out(images(50), 0.2, 3)
    assert len({tuple(hold_out(images(50), 0.2, seed)[1]) for seed in range(20)}) == 20


def test_where_the_share_alone_holds_nothing_out_the_seed_still_decides():
    assert {hold_out(images(5), 0.001, seed)[1][0] for seed in range(60)} == set(range(5))
    assert {hold_out(images(5), 0.999, seed)[0][0] for seed in range(60)} == set(range(5))


def test_thresholds_are_set_from_scores_and_from_maps_apart():
    scores = [float(i) for i in range(1, 20)]
    calibration = Calibration.fit(scores, [10 * score for score in scores], 0.1)
    # ceil(20 * 0.9) = the 18th, and 1e-4 of it above
    assert calibration.threshold == pytest.approx(18.0018)
    assert calibration.pixel_threshold == pytest.approx(180.018)
    assert calibration.enough
    assert calibration.summary() == (
        "Threshold 18.0018, from 19 held-out good images; false-reject rate 0.1. Good images without end would set it, "
        "with 0.95 confidence, at least 14.0014; so few set no upper limit."
    )


def test_too_few_scores_are_said_to_be_too_few():
    calibration = Calibration.fit([1.0, 3.0, 2.0], [5.0, 6.0, 4.0], 0.05)
    assert (calibration.threshold, calibration.pixel_threshold) == pytest.approx((3.0003, 6.0006))
    assert not calibration.enough
    assert "largest score of only 3 held-out good images" in calibration.summary()
    assert "keeps a false-reject rate of 0.25, not 0.05: that needs at least 19." in calibration.summary()


def test_one_score_is_of_one_image():
    assert (
        "of only 1 held-out good image, which keeps a false-reject rate of 0.5,"
        in Calibration.fit([1.0], [1.0], 0.05).summary()
    )


def test_no_scores_give_no_threshold():
    calibration = Calibration.fit([], [], 0.05)
    assert math.isnan(calibration.threshold)
    assert math.isnan(calibration.pixel_threshold)
    assert not calibration.enough
    assert "every verdict will be 'unsure'" in calibration.summary()
    assert "--calibration DIR" in calibration.summary()


@pytest.mark.parametrize("scores", [[], [0.1, 1 / 3, 7e-12]])
def test_a_calibration_comes_back_from_json_as_it_was(scores):
    calibration = Calibration.fit(scores, scores, 0.05)
    text = json.dumps(calibration.to_dict(), allow_nan=False)
    again = Calibration.from_dict(json.loads(text))
    assert again.scores == tuple(scores)
    assert repr(again) == repr(calibration)  # NaN equals nothing, but reads the same


@settings(max_examples=60)
@given(n=st.integers(2, 120), share=st.sampled_from([0.1, 0.2, 0.5]), seed=seeds)
def test_another_image_moves_no_other_between_bank_and_hold_out_but_one(n, share, seed):
    before, after = (set(hold_out(images(count), share, seed)[1]) for count in (n, n + 1))
    assert len(before - after) <= 1
    assert len(after - before) <= 1


def test_where_an_image_goes_does_not_depend_on_its_place():
    names = images(40)
    for split in (lambda given: hold_out(given, 0.2, 5)[1], lambda given: folds(given, 0.2, 5)):
        place = dict(zip(names, split(names), strict=False))
        turned = dict(zip(names[::-1], split(names[::-1]), strict=False))
        if len(place) == len(names):  # folds: of each image
            groups = ({frozenset(n for n in own if own[n] == k) for k in own.values()} for own in (place, turned))
            assert next(groups) == next(groups)
        else:
            held = ({given[i] for i in split(given)} for given in (names, names[::-1]))
            assert next(held) == next(held)


@settings(max_examples=60)
@given(n=st.integers(1, 60), seed=seeds, share=st.sampled_from([0.001, 0.1, 0.2, 0.34, 0.5, 0.84]))
def test_every_fold_has_images_and_leaves_some(n, seed, share):
    found = folds(images(n), share, seed)
    if n == 1:
        assert found == []
        return
    assert len(found) == n
    assert sorted(set(found)) == list(range(max(found) + 1))
    assert max(found) + 1 >= 2 or n > 20  # by chance all of many in one: never seen
    assert max(found) + 1 <= max(10, min(n, 20))


def test_very_few_images_are_a_fold_each():
    assert folds(images(10), 0.2, 0) == list(range(10))
    assert folds(images(5), 0.0, 0) == []


def test_another_image_moves_no_image_to_another_fold():
    before, after = folds(images(60), 0.2, 3), folds(images(61), 0.2, 3)
    assert after[:60] == before


def test_folds_are_about_the_share():
    found = folds(images(2000), 0.2, 1)
    assert max(found) == 4
    assert [found.count(k) / 2000 for k in range(5)] == pytest.approx([0.2] * 5, abs=0.03)


def test_a_part_is_never_split():
    parts = [f"part {number // 7}" for number in range(140)]
    for seed in range(10):
        kept, held = hold_out(parts, 0.2, seed)
        assert not {parts[n] for n in kept} & {parts[n] for n in held}
        assert len(held) == 28
        found = folds(parts, 0.2, seed)
        assert all(len({found[n] for n in range(140) if parts[n] == part}) == 1 for part in parts)
    assert hold_out(["one"] * 5, 0.2, 0) == ([0, 1, 2, 3, 4], [])
    assert folds(["one"] * 5, 0.2, 0) == []


def test_images_of_one_part_are_counted_as_one():
    # Two parts of ten images, one of which scores high: an image in ten, but a part in two.
    scores = [1.0] * 10 + [1.0] * 9 + [5.0]
    alone = Calibration.fit(scores, scores, 0.1)
    assert alone.enough
    assert alone.threshold == pytest.approx(1.0001)
    together = Calibration.fit(scores, scores, 0.1, parts=["a"] * 10 + ["b"] * 10)
    assert together.units == 2
    assert not together.enough
    assert together.threshold == pytest.approx(5.0005)
    assert "from" not in together.summary()
    assert "only 20 held-out good images of 2 parts" in together.summary()
    assert "that needs at least 9 parts." in together.summary()


def test_another_rate_needs_no_new_scores():
    scores = [float(i) for i in range(1, 200)]
    calibration = Calibration.fit(scores, scores, 0.05, images=[f"{i}.png" for i in range(199)], crossed=True)
    looser = calibration.at_rate(0.1)
    assert looser == Calibration.fit(scores, scores, 0.1, images=calibration.images, crossed=True)
    assert looser.threshold == pytest.approx(180.018)  # ceil(200 * 0.9)
    sure = calibration.at_rate(0.05, 0.95)
    # Of 199 draws that are each below with probability 0.95, at most 193 are with a probability of 0.95 or more.
    below = [math.comb(199, k) * 0.95**k * 0.05 ** (199 - k) for k in range(200)]
    rank = next(k for k in range(1, 200) if sum(below[:k]) >= 0.95)
    assert sure.threshold == pytest.approx(rank * 1.0001)
    assert "false-reject rate 0.05 with 0.95 confidence." in sure.summary()
    for rate, confidence in ((0, None), (1.5, None), (0.1, 1.0)):
        with pytest.raises(UsageError, match="must be above 0 and below 1"):
            calibration.at_rate(rate, confidence)


def test_the_images_that_decide_are_named():
    scores = [1.0, 1.1, 1.2, 1.3, 9.0]
    calibration = Calibration.fit(scores, scores, 0.05, images=["a", "b", "c", "d", "odd"])
    first = calibration.deciding(2)
    assert [one.name for one in first] == ["odd", "d"]
    assert first[0].threshold_without == pytest.approx(1.3 * 1.0001)
    assert first[1].threshold_without == pytest.approx(9.0 * 1.0001)
    assert calibration.outlier().name == "odd"
    assert Calibration.fit(scores[:4], scores[:4], 0.05, images=["a", "b", "c", "d"]).outlier() is None
    assert Calibration.fit(scores, scores, 0.05).deciding() == []


def test_a_p_value_is_the_share_of_good_scores_that_are_as_high():
    calibration = Calibration.fit([1.0, 2.0, 3.0, 4.0], [0.0] * 4, 0.5)
    assert [calibration.p_value(score) for score in (0.0, 2.0, 2.5, 9.0)] == [1.0, 0.8, 0.6, 0.2]
    parts = Calibration.fit([1.0, 2.0, 3.0, 4.0], [0.0] * 4, 0.5, parts=["a", "a", "a", "b"])
    assert parts.p_value(2.5) == pytest.approx((1 + 1 / 3 + 1) / 3)


def test_what_is_known_of_the_scores_is_kept():
    whole = Calibration.fit(
        [1.0, 2.0], [3.0, 4.0], 0.2, confidence=0.9, images=["a", "\udcff"], parts=["p", "p"], crossed=True
    )
    assert Calibration.from_dict(whole.to_dict()) == whole
    bare = Calibration.fit([1.0, 2.0], [3.0, 4.0], 0.2)
    assert set(bare.to_dict()) == {
        "scores", "map_maxima", "false_reject_rate", "threshold", "pixel_threshold", "enough"
    }  # fmt: skip
    assert Calibration.from_dict(bare.to_dict()) == bare
