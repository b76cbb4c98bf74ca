"""How well a bank stands for good images that it has not seen."""

import numpy as np
from tiny import TINY, Tiny

from patchcore import Detector
from patchcore.pipeline.coverage import Coverage


def test_it_says_what_is_wrong_and_what_to_do():
    assert Coverage(1.1, 1.0, 1.0).doubts() == ""
    few = Coverage(2.0, 1.0, 2.0).doubts()
    assert "2 times as far from it as those of its own images" in few
    assert "calibration_share" in few
    assert "of which it holds nearly all" in Coverage(2.0, 0.0, 2.0).doubts()
    coarse = Coverage(3.0, 3.0, 1.2).doubts()
    assert "2.5 times as far from it as good images are from all patches of each other" in coarse
    assert "Keep more patches (ratio" in coarse


def test_a_fit_warns_of_a_bank_that_is_starved_or_coarse(caplog):
    # Images of one design, with noise: patches at one place are near each other, and far from all others.
    rng = np.random.default_rng(0)
    design = np.kron(rng.integers(40, 200, (8, 8, 3)), np.ones((8, 8, 1)))
    images = [(design + rng.integers(-12, 13, design.shape)).astype(np.uint8) for _ in range(24)]
    recipe = TINY.replace(size=64)

    def warned(**fields):
        caplog.clear()
        Detector(recipe.replace(**fields), backbone=Tiny()).fit(images)
        return [text for text in caplog.messages if text.startswith("The bank")]

    assert warned() == []
    assert "stands badly for new good parts" in warned(calibration_share=0.9, min_rows=100_000)[0]
    assert "The bank is coarse" in warned(ratio=0.001)[0]


def test_a_fit_warns_if_more_images_are_held_out_than_learned(caplog):
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    Detector(TINY.replace(calibration_share=0.75), backbone=Tiny()).fit(images)
    assert any("9 of 12 good images are held out" in text and "folds" in text for text in caplog.messages)
    caplog.clear()
    Detector(TINY.replace(calibration_share=0.5), backbone=Tiny()).fit(images)
    assert not any("are held out" in text for text in caplog.messages)
