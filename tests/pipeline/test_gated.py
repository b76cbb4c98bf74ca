"""Images that do not show the part are not failed."""

from dataclasses import replace

import numpy as np
import pytest

from patchcore import Area, Detector, Recipe, Roi
from patchcore.model.store import StoreError

BLACK, NOISE = np.zeros((300, 300, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)


@pytest.fixture(scope="module")
def detector(hazelnut, small_recipe) -> Detector:
    """With a gate, which the tests' usual one has not, so that it can fail what shows no part."""
    return Detector(small_recipe.replace(gate="means")).fit(hazelnut / "train" / "good")


@pytest.fixture(scope="module")
def model_file(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("gated") / "nuts.patchcore"
    detector.save(path)
    return path


def test_another_image_is_not_this_part_and_a_defect_still_fails(detector, hazelnut):
    for image in (BLACK, BLACK + 255, NOISE):
        found = detector.predict(image)
        assert (found.decision, found.reason) == ("unsure", "not this part")
        assert found.foreign > 1
        assert not found.mask.any()
        assert "not this part" in found.told()
    defective = detector.predict(hazelnut / "test" / "colour" / "00.jpg")
    assert (defective.decision, defective.reason) == ("fail", None)
    assert 0 < defective.foreign < 1


def test_the_gate_is_the_same_in_a_file_and_scores_do_not_know_of_it(model_file, detector):
    loaded, again = Detector.load(model_file).predict(BLACK), detector.predict(BLACK)
    assert loaded.foreign == again.foreign
    assert loaded.score == again.score


def test_without_a_gate_and_in_files_that_have_none_a_foreign_image_is_scored(
    detector, hazelnut, small_recipe, tmp_path
):
    fitted = detector.fitted
    older = replace(fitted, gate_limit=None, album=replace(fitted.album, means=None))
    Detector.of(older).save(tmp_path / "older")
    off = Detector(small_recipe.replace(gate="none")).fit(hazelnut / "train" / "good", limit=4)
    assert off.fitted.album.means is None
    for one in (Detector.load(tmp_path / "older"), off):
        found = one.predict(BLACK)
        assert (found.foreign, found.reason, found.decision) == (None, None, "fail")


def test_a_file_with_a_limit_and_no_means_is_refused(detector, tmp_path):
    fitted = detector.fitted
    Detector.of(replace(fitted, album=replace(fitted.album, means=None))).save(tmp_path / "half")
    with pytest.raises(StoreError, match="a limit and no means"):
        Detector.load(tmp_path / "half")


def test_a_taught_image_passes_the_gate(detector):
    taught = detector.teach([BLACK]).predict(BLACK)
    assert (taught.foreign, taught.decision) == (pytest.approx(0, abs=1e-2), "pass")
    assert detector.teach([BLACK]).undo().predict(BLACK).reason == "not this part"


@pytest.mark.parametrize(
    "change",
    [
        {"members": [{"size": 96}, {"size": 128}]},
        {"size": 128, "tile": 64, "tile_stride": 32},
        {"size": 128, "roi": Roi(areas=(Area(include=(((0.2, 0.2), (0.8, 0.2), (0.5, 0.9)),)),))},
        {"size": 96, "value_range": (0, 255)},
    ],
    ids=["ensemble", "tiles", "region", "values"],
)
def test_there_is_a_gate_with(change, hazelnut):
    found = Detector(Recipe(**change)).fit(hazelnut / "train" / "good", limit=5)
    assert found.predict(BLACK).reason == "not this part"
    assert found.predict(hazelnut / "train" / "good" / "00.jpg").reason is None
