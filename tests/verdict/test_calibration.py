import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcore.verdict.calibration import Calibration, hold_out

shares = st.floats(0.01, 0.99)
seeds = st.integers(0, 10_000)


@settings(max_examples=150)
@given(n=st.integers(1, 200), share=st.floats(0, 0.999), seed=seeds)
def test_every_image_is_either_in_the_bank_or_held_out(n, share, seed):
    kept, held = hold_out(n, share, seed)
    assert sorted(kept + held) == list(range(n))
    assert kept == sorted(kept)
    assert held == sorted(held)
    assert kept, "the bank is never empty"


@settings(max_examples=100)
@given(n=st.integers(2, 200), share=shares, seed=seeds)
def test_from_two_images_on_at_least_one_is_held_out(n, share, seed):
    assert hold_out(n, share, seed)[1]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.999])
def test_a_single_image_is_in_the_bank(share):
    for seed in range(20):
        assert hold_out(1, share, seed) == ([0], [])


@settings(max_examples=20)
@given(n=st.integers(1, 100), seed=seeds)
def test_a_share_of_nothing_holds_nothing_out(n, seed):
    assert hold_out(n, 0.0, seed) == (list(range(n)), [])


@pytest.mark.parametrize(("n", "expected"), [(2, 1), (3, 1), (10, 2), (13, 3), (28, 6), (100, 20)])
def test_the_share_is_held_out_whatever_the_seed(n, expected):
    assert {len(hold_out(n, 0.2, seed)[1]) for seed in range(50)} == {expected}


def test_every_image_is_as_likely_to_be_held_out():
    # 2000 seeds: the standard deviation of each image's share is 0.009.
    counts = [0] * 10
    for seed in range(2000):
        for index in hold_out(10, 0.2, seed)[1]:
            counts[index] += 1
    assert [count / 2000 for count in counts] == pytest.approx([0.2] * 10, abs=0.04)


def test_the_seed_decides_which_are_held_out():
    assert hold_out(50, 0.2, 3) == hold_out(50, 0.2, 3)
    assert len({tuple(hold_out(50, 0.2, seed)[1]) for seed in range(20)}) == 20


def test_where_the_share_alone_holds_nothing_out_the_seed_still_decides():
    assert {hold_out(5, 0.001, seed)[1][0] for seed in range(60)} == set(range(5))
    assert {hold_out(5, 0.999, seed)[0][0] for seed in range(60)} == set(range(5))


def test_thresholds_are_set_from_scores_and_from_maps_apart():
    scores = [float(i) for i in range(1, 20)]
    calibration = Calibration.fit(scores, [10 * score for score in scores], 0.1)
    # ceil(20 * 0.9) = the 18th, and 1e-4 of it above
    assert calibration.threshold == pytest.approx(18.0018)
    assert calibration.pixel_threshold == pytest.approx(180.018)
    assert calibration.enough
    assert calibration.summary() == "Threshold 18.0018, from 19 held-out good images; false-reject rate 0.1."


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
