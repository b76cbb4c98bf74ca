"""What is taken, and what is said about it."""

import numpy as np
import pytest

from patchcore import Recipe
from patchcore.tuning import Candidate, Images, Limits, Measured, choose

MANY = {"n": 1000, "m": 1000}


@pytest.fixture
def compared():
    """Makes candidates: names with milliseconds and how much noise their scores have, over the same images."""

    def make(n=60, m=40, gap=2.0, rejected=0.0, **recipes):
        random = np.random.default_rng(0)
        good, defective = random.normal(size=n), random.normal(gap, size=m)
        measured = []
        for name, (milliseconds, noise) in recipes.items():
            measured.append(
                Measured(
                    Candidate(name, Recipe(), {}),
                    np.zeros(n, int),
                    good + noise * random.normal(size=n),
                    (defective + noise * random.normal(size=m))[None],
                    np.arange(n) < rejected * n,
                    np.zeros((1, m), bool),
                    [1.0],
                    [milliseconds],
                    [3.0],
                    [19],
                )
            )
        return measured, Images([None] * n, list(range(n)), [None] * m, list(range(m)))

    return make


def test_the_fastest_of_those_that_are_as_good_is_taken(compared):
    measured, images = compared(default=(20, 0.0), slow=(40, 0.01), fast=(9, 0.02), blind=(1, 50.0), **MANY)
    choice = choose(measured, images, "default")
    assert (choice.name, choice.supported, choice.needed) == ("fast", True, None)
    assert choice.why.startswith("Took 'fast', the fastest of those that are shown to be at most 0.01 below the best")
    assert choice.losses["blind"].low > 0.2
    assert any("partly the luckiest" in note for note in choice.notes)


def test_a_recipe_that_is_better_is_taken_whatever_it_costs(compared):
    measured, images = compared(default=(20, 2.0), slow=(40, 0.0), **MANY)
    choice = choose(measured, images, "default")
    assert (choice.name, choice.best, choice.supported) == ("slow", "slow", True)
    assert "which is better than every other recipe: 'default' is 0.1" in choice.why


def test_what_the_data_cannot_tell_apart_is_said_and_nothing_is_changed(compared):
    measured, images = compared(default=(20, 0.5), slow=(40, 0.4), fast=(9, 0.6))
    choice = choose(measured, images, "default")
    assert (choice.name, choice.supported) == ("default", False)
    assert choice.why.startswith("The data cannot tell these apart: ")
    assert "Kept 'default'. With 40 defective parts and 60 good ones, " in choice.why
    loss = max(choice.losses.values(), key=lambda one: one.high)
    assert loss.low <= 0 < 0.01 < loss.high
    assert choice.needed[0] > 40
    assert choice.needed[1] > 60
    assert f"telling them apart would take roughly {choice.needed[0]} and {choice.needed[1]}." in choice.why


def test_what_is_shown_to_be_worse_is_not_kept(compared):
    measured, images = compared(default=(20, 50.0), slow=(40, 0.5), fast=(9, 0.6))
    choice = choose(measured, images, "default")
    assert choice.losses["default"].low > 0
    assert choice.name in ("slow", "fast")
    assert not choice.supported
    assert f"Took {choice.best!r}" in choice.why


def test_defects_that_everybody_finds_tell_nothing(compared):
    measured, images = compared(m=12, gap=30.0, default=(20, 0.1), fast=(9, 0.2))
    choice = choose(measured, images, "default")
    assert (choice.name, choice.supported) == ("default", False)
    assert "Each of them ranks all of 12 defective parts and 60 good ones correctly" in choice.why
    assert "defects that are harder to find" in choice.why


def test_a_tolerance_that_the_data_can_show_is_enough(compared):
    measured, images = compared(default=(20, 0.5), slow=(40, 0.4), fast=(9, 0.6))
    choice = choose(measured, images, "default", Limits(tolerance=0.3))
    assert (choice.name, choice.supported) == ("fast", True)


def test_limits_leave_out_what_costs_too_much(compared):
    measured, images = compared(default=(20, 0.0), fast=(9, 0.02), **MANY)
    choice = choose(measured, images, "default", Limits(milliseconds=10))
    assert choice.name == "fast"
    assert "the only recipe within the limits" in choice.why
    assert choice.losses == {}
    for limits, said in (
        (Limits(milliseconds=5), "9.0 ms an image, more than 5"),
        (Limits(model_mb=1), "3.0 MB, more"),
    ):
        choice = choose(measured, images, "default", limits)
        assert choice.name is None
        assert not choice.supported
        assert f"No recipe is within the limits. The fastest, 'fast': {said}" in choice.why


def test_without_defects_nothing_is_said_of_accuracy(compared):
    measured, images = compared(m=0, default=(20, 0.0), fast=(9, 0.0))
    choice = choose(measured, images, "default")
    assert (choice.name, choice.supported, choice.best) == ("default", False, None)
    assert choice.why.startswith("Kept 'default'. Good images alone show what a recipe costs")
    choice = choose(measured, images, "default", Limits(milliseconds=10))
    assert choice.why.startswith("Took 'fast', the fastest that is within the limits: 'default' breaks a limit.")


def test_without_defects_a_recipe_that_rejects_too_much_is_not_kept(compared):
    bad, images = compared(m=0, rejected=0.5, default=(20, 0.0))
    steady, _ = compared(m=0, fast=(9, 0.0))
    choice = choose([*bad, *steady], images, "default")
    assert choice.name == "fast"
    assert "'default' rejects more good images than asked" in choice.why
    choice = choose(bad, images, "default")  # nothing else is there
    assert choice.name == "default"
    assert "'default' rejects 50.0% of the held-out good images" in choice.notes[0]
    assert "calibrate on other parts" in choice.notes[0]


def test_a_threshold_from_too_few_images_is_said(compared):
    measured, images = compared(default=(20, 0.0))
    measured[0].calibration_images[:] = [4]
    assert choose(measured, images, "default").notes == (
        "Within a fold, 4 images set the threshold; a false-reject rate of 5.0% needs at least 19. "
        "Expect more false rejects.",
    )
