"""What fit decides from the good images."""

import logging

import numpy as np
import pytest

from patchcore import Detector, Reading, Recipe
from patchcore.errors import UsageError
from patchcore.pipeline.embed import Embedder

SMALL = Recipe(size=96, resize="stretch", ratio=0.05, min_rows=1)


def parts(n=16, seed=0, light=0.0):
    """Images of a printed part: the same bars and disc, a little shifted, under light that varies by so much."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    images = []
    for _ in range(n):
        dy, dx = generator.integers(-3, 4, 2)
        scene = 0.3 + 0.4 * ((x + dx) % 24 < 8) + 0.2 * ((x + dx - 60) ** 2 + (y + dy - 30) ** 2 < 300)
        scene = (scene + 0.01 * generator.normal(size=scene.shape)) * (1 + light * generator.normal())
        images.append((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    return images


def rough(n=16, seed=0):
    """Images of a surface on which nothing repeats."""
    generator = np.random.default_rng(seed)
    return [generator.integers(60, 200, (96, 96), np.uint8) for _ in range(n)]


def choices(detector):
    recipe = detector.fitted.recipe
    return recipe.exposure, recipe.pool, recipe.scaling


def test_printed_parts_keep_their_light_and_their_arrangement(caplog):
    with caplog.at_level(logging.INFO, "patchcore"):
        detector = Detector(SMALL).fit(parts())
    assert choices(detector) == ("as_is", "quarters", "taps")
    assert "Chosen from the good images: exposure=as_is, pool=quarters, scaling=taps." in caplog.text
    assert detector.fitted.measured.light < 1
    assert detector.fitted.measured.arrangement < 1
    bank = detector.fitted.members[0].bank
    first, second = bank.scales[: 4 * 40].unique(), bank.scales[4 * 40 :].unique()
    assert len(first) == len(second) == 1
    assert float(first * second) == pytest.approx(1, rel=1e-4)


def test_light_that_changes_is_evened():
    assert choices(Detector(SMALL).fit(parts(light=0.2)))[0] == "even"


def test_what_lies_anyhow_on_rough_surfaces_is_averaged():
    detector = Detector(SMALL).fit(rough())
    assert choices(detector)[1:] == ("mean", "channel")
    assert detector.fitted.measured.arrangement > 1


def test_rough_surfaces_are_read_smaller_unless_what_the_network_sees_is_stated(tmp_path):
    def size(images, **fields):
        recipe = SMALL.replace(**{"size": "auto", "ratio": 0.001, "gate": "none", **fields})
        detector = Detector(recipe).fit(images)
        return detector, [one.size for one in detector.fitted.recipe.each]

    detector, found = size(rough(6))
    assert found == [256]
    assert detector.embedders[0].backbone.extractor.size == (256, 256)
    path = detector.save(tmp_path / "m.patchcore") and tmp_path / "m.patchcore"
    assert Detector.load(path).predict(rough(1)[0]).score == detector.predict(rough(1)[0]).score
    assert size(parts(6))[1] == size(parts(1))[1] == [320]
    assert size(rough(6), tile=160)[1] == [320]
    assert size(rough(6), size=96)[1] == [96]
    members = [{"size": "auto", "ratio": 0.001}, {"size": 256, "ratio": 0.001}]
    ensemble = Detector(Recipe(members=members, gate="none")).fit(rough(6))
    assert [one.size for one in ensemble.fitted.recipe.each] == [320, 256]


def test_what_is_stated_stays():
    recipe = SMALL.replace(exposure="even", pool="mean", scaling="none")
    detector = Detector(recipe).fit(parts())
    assert detector.fitted.recipe == recipe
    assert detector.fitted.measured == (None, None)
    partly = Detector(SMALL.replace(pool="mean", exposure="even")).fit(parts())
    assert choices(partly) == ("even", "mean", "taps")
    assert partly.fitted.measured.light is None


def test_the_detector_s_own_recipe_stays_and_decides_anew():
    detector = Detector(SMALL)
    assert choices(detector.fit(parts(light=0.2)))[0] == "even"
    assert choices(detector.fit(parts()))[0] == "as_is"
    assert detector.recipe == SMALL


def test_the_file_has_choices_and_measures(tmp_path):
    detector = Detector(SMALL).fit(parts())
    detector.save(tmp_path / "m")
    loaded = Detector.load(tmp_path / "m")
    assert loaded.fitted.recipe == loaded.recipe == detector.fitted.recipe
    assert loaded.fitted.measured == detector.fitted.measured
    image = parts(1, seed=5)[0]
    assert loaded.predict(image).score == detector.predict(image).score


def test_a_generator_is_gone_through_once_and_gives_the_same():
    images = parts()
    asked = []

    def given():
        for number, image in enumerate(images):
            asked.append(number)
            yield image

    one, other = Detector(SMALL).fit(given()).fitted, Detector(SMALL).fit(images).fitted
    assert asked == list(range(len(images)))
    assert one.measured == other.measured
    assert one.members[0].bank.rows.equal(other.members[0].bank.rows)


def test_copies_count_once():
    images = parts(12)
    fitted = Detector(SMALL).fit([one for one in images for _ in range(2)]).fitted
    assert fitted.measured.light == pytest.approx(Detector(SMALL).fit(images).fitted.measured.light)


def test_a_bad_image_is_said_once(tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    errors = []
    detector = Detector(SMALL).fit([*parts(), str(tmp_path / "bad.png")], reading=Reading(on_bad=errors.append))
    assert [error.name for error in errors] == [str(tmp_path / "bad.png")]
    assert len(detector.fitted.images) == 16


def test_one_image_is_enough_though_nothing_can_be_measured_of_it(caplog):
    caplog.set_level("INFO")
    detector = Detector(SMALL).fit(parts(1))
    assert choices(detector) == ("even", "quarters", "taps")
    assert (detector.fitted.measured.light, detector.fitted.measured.arrangement) == (None, None)
    assert "Taken, as one image tells nothing: exposure=even, pool=quarters, scaling=taps." in caplog.text


def test_all_members_of_an_ensemble_take_the_same_choices():
    recipe = Recipe(members=[SMALL, SMALL.replace(size=64), SMALL.replace(size=128, pool="mean")])
    fitted = Detector(recipe).fit(parts()).fitted
    assert [(m.recipe.exposure, m.recipe.pool) for m in fitted.members] == [
        ("as_is", "quarters"),
        ("as_is", "quarters"),
        ("as_is", "mean"),
    ]
    assert fitted.recipe.each == tuple(m.recipe for m in fitted.members)


def test_an_embedder_wants_choices():
    with pytest.raises(UsageError, match="`auto`, which fit decides; state both"):
        Embedder(SMALL, Detector(SMALL).fit(parts(4)).embedders[0].backbone, Detector(SMALL).device)


def test_of_taps_that_are_mixed_none_is_weighed():
    detector = Detector(SMALL.replace(pool="bins", merge="bins", tap_bins=24, bins=20)).fit(parts())
    assert choices(detector)[1:] == ("bins", "taps")
    assert detector.fitted.measured.arrangement < 1
    assert detector.fitted.members[0].bank.scales.unique().tolist() == [1]  # nothing tells the taps apart any more
