"""Known defects, and the miss rate that they allow."""

import math

import numpy as np
import pytest

from patchcore.errors import UsageError
from patchcore.maths.thresholds import decide
from patchcore.verdict.calibration import Calibration
from patchcore.verdict.defects import Defects


def test_the_threshold_is_the_mirrored_order_statistic():
    scores = [float(i) for i in range(1, 20)]
    found = Defects.fit(scores[::-1], 0.1)
    assert found.threshold == pytest.approx(2 * (1 - 1e-4))  # floor(20 * 0.1) = the 2nd from below
    assert (found.enough, found.missing) == (True, 0)
    few = Defects.fit(scores, 0.01)
    assert few.threshold == pytest.approx(1 - 1e-4)
    assert (few.enough, few.missing) == (False, 80)  # 99 are needed
    assert "you need 80 more defective parts" in few.summary()
    assert Defects.fit(scores, 0.05, confidence=0.95).missing == 40  # 59 are needed
    for rate, confidence in ((0, None), (1.0, None), (0.1, 0.0)):
        with pytest.raises(UsageError, match="must be above 0 and below 1"):
            Defects.fit(scores, rate, confidence=confidence)
    with pytest.raises(UsageError, match="no defective image"):
        Defects.fit([], 0.1)


@pytest.mark.parametrize(("m", "rate"), [(99, 0.01), (40, 0.1), (19, 0.05)])
def test_new_defects_pass_no_more_often_than_promised(m, rate):
    trials = 4000
    drawn = (10 + np.random.default_rng(0).normal(size=(trials, m + 1))).tolist()
    missed = sum(new <= Defects.fit(scores, rate).threshold for *scores, new in drawn)
    assert missed / trials <= rate + 3 * math.sqrt(rate * (1 - rate) / trials)
    # Not by letting nothing pass: the true rate lies within 1 / (m + 1), and what the margin takes, below it.
    assert missed / trials >= rate - 1 / (m + 1) - 3 * math.sqrt(rate * (1 - rate) / trials)


def test_with_a_confidence_few_sets_of_defects_break_the_promise():
    trials, rate = 2000, 0.1
    drawn = (1 + np.random.default_rng(1).random((trials, 60))).tolist()
    broken = sum(Defects.fit(scores, rate, confidence=0.9).threshold > 1 + rate for scores in drawn)
    assert broken / trials <= 0.1 + 3 * math.sqrt(0.09 / trials)


def test_the_interval_is_mirrored_too():
    scores = [float(i) for i in range(1, 101)]
    good = Calibration.fit([101 - s for s in scores], scores, 0.1).interval(0.9)
    low, high = Defects.fit(scores, 0.1).interval(0.9)
    assert 101 - low / (1 - 1e-4) == pytest.approx(good[1] / (1 + 1e-4))
    assert 101 - high / (1 - 1e-4) == pytest.approx(good[0] / (1 + 1e-4))
    assert Defects.fit(scores[:3], 0.01).interval(0.9)[0] == 0


def test_between_both_thresholds_a_score_is_unsure_and_both_promises_are_kept():
    rng, trials = np.random.default_rng(2), 1500
    good, bad = (10 + 2 * k + rng.normal(size=(trials, n)) for k, n in ((0, 61), (1, 51)))
    verdicts: dict[str, list[str]] = {"good": [], "defective": []}
    for (*own, new), (*others, defect) in zip(good.tolist(), bad.tolist(), strict=True):
        found = Calibration.fit(own, own, 0.05).with_defects(Defects.fit(others, 0.05))
        for kind, score in (("good", new), ("defective", defect)):
            verdicts[kind].append(decide(score, found.threshold, found.lower_threshold))
    slack = 3 * math.sqrt(0.05 * 0.95 / trials)
    assert verdicts["good"].count("fail") / trials <= 0.05 + slack
    assert verdicts["defective"].count("pass") / trials <= 0.05 + slack
    assert verdicts["defective"].count("unsure") > 0.05 * trials  # the price, as the two kinds overlap


def test_where_one_threshold_keeps_both_rates_nothing_is_unsure():
    good = Calibration.fit([float(i) for i in range(1, 41)], [1.0] * 40, 0.05)
    both = good.with_defects(Defects.fit([100.0 + i for i in range(40)], 0.05))
    assert both.lower_threshold == both.threshold == good.threshold
    assert "No score is unsure: one threshold keeps both rates." in both.summary()
    assert both.with_defects(None) == good
    overlapping = good.with_defects(Defects.fit([30.0 + i for i in range(40)], 0.05))
    assert overlapping.lower_threshold == pytest.approx(31 * (1 - 1e-4))  # floor(41 * 0.05) = the 2nd
    assert overlapping.threshold == good.threshold
    assert "A score above 30.9969, up to 39.0039, is unsure." in overlapping.summary()
    assert overlapping.at_rate(0.1).defects == overlapping.defects
    assert Calibration.from_dict(overlapping.to_dict()) == overlapping


def test_inside_its_own_interval_a_threshold_is_unsure():
    scores = [float(i) for i in range(1, 201)]
    plain = Calibration.fit(scores, scores, 0.1)
    banded = plain.with_unsure(0.9)
    assert (banded.lower_threshold, banded.threshold) == plain.interval(0.9)
    assert banded.lower_threshold < plain.threshold < banded.threshold
    assert banded.pixel_threshold == plain.pixel_threshold
    assert banded.with_unsure(None) == plain
    assert Calibration.from_dict(banded.to_dict()) == banded
    few = Calibration.fit(scores[:10], scores[:10], 0.1, unsure=0.9)  # no upper end: the highest score
    assert few.threshold == pytest.approx(10.001)
    assert few.lower_threshold < few.threshold
    with pytest.raises(UsageError, match="unsure is 1"):
        plain.with_unsure(1)
