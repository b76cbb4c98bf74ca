"""Verdicts of parts from the results of their images."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY, Tiny, noise

from patchcore import Detector, Sample, UsageError, parts
from patchcore.maths.thresholds import decide
from patchcore.measure.evaluation import evaluate
from patchcore.measure.parts import Part
from patchcore.verdict.calibration import Calibration, by_part


def samples(count, each, seed=0, kind="good"):
    images = noise(count * each, seed=seed)
    return [Sample(f"{seed}-{n}", images[n], kind, part=f"{seed} {n // each}") for n in range(count * each)]


@pytest.fixture(scope="module")
def fitted():
    return Detector(TINY.replace(calibration="folds", false_reject_rate=0.2), backbone=Tiny()).fit(samples(8, 3))


def test_a_part_scores_as_its_worst_image_or_their_mean(fitted):
    new = samples(2, 3, seed=1)
    results = fitted.predict(new)
    for rule, combine in (("worst", max), ("mean", np.mean)):
        found = parts(fitted, results, rule)
        assert [one.name for one in found] == ["1 0", "1 1"]
        for number, one in enumerate(found):
            assert one.score == pytest.approx(combine([r.score for r in results[3 * number : 3 * number + 3]]))
            assert one.results == tuple(results[3 * number : 3 * number + 3])
            good = [combine(fitted.fitted.calibration.scores[3 * n : 3 * n + 3]) for n in range(8)]
            # ceil(9 * 0.8) = the 8th of eight
            assert one.threshold == pytest.approx(sorted(good)[7] * (1 + 1e-4))
            assert one.p_value == (1 + sum(score >= one.score for score in good)) / 9
            assert one.decision == decide(one.score, one.threshold)
            assert one.warnings == ()
    assert parts(fitted, results[:1])[0].warnings == (
        "it is seen in 1 images; good parts that set the threshold are seen in 3.",
    )


def test_without_parts_in_the_calibration_several_images_have_no_verdict():
    images = [replace(one, part=None) for one in samples(8, 1)]
    detector = Detector(TINY, backbone=Tiny()).fit(images)
    found = parts(detector, detector.predict(images))
    assert [(one.name, one.score) for one in found] == [(r.name, r.score) for r in detector.predict(images)]
    assert found[0].threshold == detector.fitted.calibration.threshold
    with pytest.raises(UsageError, match=r"The part '1 0' is seen in 3 images.*Fit with --part REGEX"):
        parts(detector, detector.predict(samples(2, 3, seed=1)))
    with pytest.raises(UsageError, match="rule is 'best'; expected 'worst' or 'mean'"):
        parts(detector, [], "best")


def test_an_evaluation_counts_parts_beside_images(fitted):
    found = evaluate(fitted, [*samples(3, 3, seed=2), *samples(2, 3, seed=3, kind="scratch")])
    table = found.part_confusion()
    assert sum(table["good"].values()) == 3
    assert sum(table["defective"].values()) == 2
    figures = found.figures()
    assert figures["parts"] == 5
    assert figures["part_miss_rate"] == table["defective"]["pass"] / 2
    assert figures["part_false_reject_rate"] == table["good"]["fail"] / 3
    assert "parts" not in evaluate(fitted, [replace(one, part=None) for one in samples(2, 1, seed=4)]).figures()


@pytest.mark.parametrize("rule", ["worst", "mean"])
def test_good_parts_fail_no_more_often_than_promised_though_more_of_their_images_do(rule):
    rng, trials, rate, count, each = np.random.default_rng(0), 1500, 0.1, 40, 6
    failed = image_wise = 0
    for own in rng.gamma(2.0, size=(trials, count + 1)):
        scores = own[:, None] + 0.5 * rng.random((count + 1, each))
        names = [str(n) for n in range(count) for _ in range(each)]
        found = Calibration.fit(scores[:-1].ravel().tolist(), scores[:-1].ravel().tolist(), rate, parts=names)
        (new,) = by_part(["new"] * each, scores[-1].tolist(), rule).values()
        failed += new > found.of_parts(rule).threshold
        image_wise += max(scores[-1]) > found.threshold
    assert failed / trials <= rate + 3 * math.sqrt(rate * (1 - rate) / trials)
    assert failed / trials >= rate - 1 / (count + 1) - 3 * math.sqrt(rate * (1 - rate) / trials)
    assert image_wise > failed


def test_a_part_of_which_an_image_cannot_be_judged_is_unsure_unless_another_fails(fitted):
    result = fitted.predict(samples(1, 3, seed=5))[0]
    limits = {
        "threshold": 2.0,
        "lower_threshold": None,
        "p_value": 0.5,
        "results": (result,),
        "reason": "part not found",
    }
    verdicts = {
        (score, rule): Part("a", rule, score, **limits).decision for score in (1.0, 3.0) for rule in ("worst", "mean")
    }
    assert verdicts == {
        (1.0, "worst"): "unsure",
        (1.0, "mean"): "unsure",
        (3.0, "worst"): "fail",
        (3.0, "mean"): "unsure",
    }
    assert Part("a", "worst", math.nan, **limits).to_dict()["score"] is None
