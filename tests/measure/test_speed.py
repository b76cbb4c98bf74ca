"""Speed: what is measured of a model on this machine, and what is said of it. Never how long it takes."""

import re
from dataclasses import replace

import numpy as np
import pytest

from patchcore import DataError, Detector
from patchcore.backbones.engines import with_openvino, with_torch
from patchcore.errors import MissingExtraError
from patchcore.measure.speed import Speed, Timing, made_up, settings, speed


@pytest.fixture(scope="module")
def measured(detector) -> Speed:
    return speed(detector.fitted, threads=1, seconds=0.0)


def timing(engine, whole, difference=0.0):
    return Timing(engine, "fp32", whole / 2, whole / 4, whole, difference, 3)


def test_every_setting_of_this_machine_is_measured_the_default_first(measured):
    found = [(one.engine, one.precision) for one in measured.timings]
    assert found[0] == ("torch", "fp32")
    assert set(found) | {tuple(name.split()) for name in measured.left_out} == set(settings("cpu"))
    for one in measured.timings:
        assert one.network > 0
        assert one.search > 0
        assert one.rounds >= 3
    assert (measured.images, measured.made_up, measured.threads) == (4, True, 1)


def test_engines_in_fp32_agree_and_the_difference_is_that_of_the_scores(measured, detector):
    pytest.importorskip("openvino")
    (openvino,) = (one for one in measured.timings if (one.engine, one.precision) == ("openvino", "fp32"))
    assert measured.timings[0].difference == 0
    images = [sample.image for sample in made_up(detector.recipe)]
    other = Detector.of(detector.fitted, threads=1, engine="openvino")
    pairs = [(other.predict(image).score, detector.predict(image).score) for image in images]
    assert openvino.difference == pytest.approx(max(abs(a - b) / b for a, b in pairs), rel=1e-6, abs=1e-9)
    assert openvino.difference < 1e-4


def test_the_setting_that_is_named_has_the_least_time_and_none_is_if_that_is_the_default():
    slow = Speed((timing("torch", 0.2), timing("openvino", 0.3)), {}, 4, True, 1)
    assert slow.faster is None
    assert slow.to_dict()["faster"] is None
    assert slow.advice() == "Nothing is faster here than the default, torch in fp32."
    fast = Speed((timing("torch", 0.3), timing("openvino", 0.2, 2e-6)), {}, 4, True, 1)
    assert fast.faster is fast.timings[1]
    assert fast.to_dict()["faster"] == {"engine": "openvino", "precision": "fp32", "ratio": pytest.approx(1.5)}
    assert re.match(r"--engine openvino --precision fp32 is 1\.50 times as fast here, and .*2\.0e-06", fast.advice())


def test_what_is_named_is_the_fastest_of_what_was_measured(measured):
    least = min(measured.timings, key=lambda one: one.whole)
    assert (measured.faster or measured.timings[0]) is least
    assert measured.ratio == measured.timings[0].whole / least.whole >= 1


def test_bf16_is_tried_only_where_the_processor_has_units_for_it(monkeypatch):
    for has in (True, False):
        monkeypatch.setattr("patchcore.measure.speed.has_bf16", lambda has=has: has)
        assert (("torch", "bf16") in set(settings("cpu"))) is has
    assert isinstance(with_torch.has_bf16(), bool)


def test_an_engine_that_is_not_installed_is_left_out_with_the_reason(detector, monkeypatch):
    def missing():
        raise MissingExtraError("openvino", "openvino", "engine='openvino'")

    monkeypatch.setattr(with_openvino, "_openvino", missing)
    found = speed(detector.fitted, threads=1, seconds=0.0)
    assert {one.engine for one in found.timings} == {"torch"}
    assert "patchcore[openvino]" in found.left_out["openvino fp32"]


def test_images_of_your_own_are_measured(detector, hazelnut):
    found = speed(detector.fitted, hazelnut / "test" / "colour", threads=1, seconds=0.0)
    assert (found.images, found.made_up) == (4, False)
    with pytest.raises(DataError):
        speed(detector.fitted, [], threads=1, seconds=0.0)


def test_made_up_images_are_always_the_same_and_in_the_recipe_s_range(small_recipe):
    for recipe in (small_recipe, small_recipe.replace(value_range=(0, 4095))):
        first, again = ([sample.image for sample in made_up(recipe)] for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert {image.shape for image in first} == {(128, 128, 3)}
        low, high = recipe.value_range or (0, 255)
        assert all(low <= image.min() < image.max() <= high for image in first)
        assert first[0].dtype == (np.float32 if recipe.value_range else np.uint8)


def test_figures_are_plain_json_values(measured):
    whole = replace(measured, left_out={"openvino bf16": "why"}).to_dict()
    assert set(whole) == {"timings", "faster", "left_out", "images", "made_up", "threads"}
    assert set(whole["timings"][0]) == {
        "engine", "precision", "network", "search", "whole", "difference", "rounds",
    }  # fmt: skip
