"""Ensembles: several recipes, one Result, one file."""

import json
import logging
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from patchcore import DataError, Detector, ImageError, Reading, Recipe, RecipeError, UsageError
from patchcore.data.resolve import detect
from patchcore.maths.thresholds import fit_threshold
from patchcore.measure.evaluation import evaluate
from patchcore.model import store

A = {
    "backbone": "efficientnet_lite0",
    "size": 96,
    "resize": "stretch",
    "ratio": 0.05,
    "min_rows": 1,
    "image_score": "top_share",
}
B = {**A, "size": 64, "scaling": "none", "neighbours": 2, "distance": "squared_l2"}
HELD_OUT = {"calibration": "held_out", "calibration_share": 0.3, "seed": 3}
TWO = Recipe(members=(A, B), **HELD_OUT)


@pytest.fixture(scope="module")
def train(hazelnut):
    return sorted((hazelnut / "train/good").iterdir())


@pytest.fixture(scope="module")
def test(hazelnut):
    return sorted(hazelnut.glob("test/*/*.jpg"))


@pytest.fixture(scope="module")
def fitted(train):
    return Detector(TWO, threads=2).fit(train)


@pytest.fixture(scope="module")
def alone(train):
    """Each member as a detector of its own, fitted on the same images."""
    return [Detector(Recipe(**part), threads=2).fit(train) for part in ({**A, **HELD_OUT}, {**B, **HELD_OUT})]


@pytest.fixture(scope="module")
def file(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("ensemble") / "nuts.patchcore"
    fitted.save(path)
    return path


def held_out(detector, paths):
    """The images that are in no bank row's image list of a detector whose bank keeps rows of all others."""
    used = set(detector.fitted.members[0].bank.origins[:, 0].tolist())
    return [path for number, path in enumerate(paths) if number not in used]


def test_every_member_remembers_what_it_would_alone(fitted, alone):
    for bank, other in zip([m.bank for m in fitted.fitted.members], alone, strict=True):
        assert torch.equal(bank.rows, other.fitted.members[0].bank.rows)
        assert torch.equal(bank.origins, other.fitted.members[0].bank.origins)
    assert fitted.fitted.images == alone[0].fitted.images
    assert fitted.fitted.fingerprint == alone[0].fitted.fingerprint


def test_each_member_remembers_the_augmented_copies_that_it_asks_for(train):
    images, fields = train[:3], HELD_OUT
    parts = ({**A, "augment": ("flip_h",)}, B)
    fitted = Detector(Recipe(members=parts, **fields), threads=2).fit(images)
    for bank, part in zip([m.bank for m in fitted.fitted.members], parts, strict=True):
        alone = Detector(Recipe(**part, **fields), threads=2).fit(images)
        assert torch.equal(bank.rows, alone.fitted.members[0].bank.rows)
        assert torch.equal(bank.origins, alone.fitted.members[0].bank.origins)
    assert [bank.origins.shape[1] for bank in [m.bank for m in fitted.fitted.members]] == [4, 3]


def test_scores_are_the_mean_of_the_members_in_their_units_on_the_first_ones_grid(fitted, alone, train, test):
    out = held_out(alone[0], train)
    assert len(out) == 3  # of ten; every other image has rows in a bank of this size
    units = [np.concatenate([r.patch_scores.numpy().ravel() for r in one.predict(out)]).std() for one in alone]
    np.testing.assert_allclose(
        [m.unit for m in fitted.fitted.members], units, rtol=1e-4
    )  # they are set from half precision
    for result, first, second in zip(fitted.predict(test), *(one.predict(test) for one in alone), strict=True):
        onto = torch.nn.functional.interpolate(
            second.patch_scores[None, None], first.patch_scores.shape, mode="bilinear"
        )[0, 0]
        expected = (first.patch_scores / fitted.fitted.members[0].unit + onto / fitted.fitted.members[1].unit) / 2
        torch.testing.assert_close(result.patch_scores, expected, rtol=1e-4, atol=1e-5)
        top = np.sort(expected.numpy().ravel())[-max(1, round(0.01 * expected.numel())) :]
        assert result.score == pytest.approx(top.mean(), rel=1e-4)
        assert torch.equal(result.nearest_rows, first.nearest_rows)
        assert result.frame == first.frame
        assert result.map.shape == first.map.shape


def test_the_threshold_comes_from_the_joined_scores_of_images_held_out(fitted, alone, train):
    results = fitted.predict(held_out(alone[0], train))
    np.testing.assert_allclose([r.score for r in results], fitted.fitted.calibration.scores, rtol=1e-4)
    np.testing.assert_allclose([r.map.max() for r in results], fitted.fitted.calibration.map_maxima, rtol=1e-4)
    threshold, enough = fit_threshold(fitted.fitted.calibration.scores, TWO.false_reject_rate)
    assert fitted.fitted.calibration.threshold == pytest.approx(1.0001 * threshold)
    assert fitted.fitted.calibration.enough is enough


def test_defects_are_found_and_evaluated(fitted, hazelnut):
    evaluation = evaluate(fitted, detect(hazelnut).test)
    assert evaluation.metrics["image_auroc"] == 1
    assert evaluation.metrics["pixel_auroc"] > 0.9
    evaluation.results[0][1].overlay()


def test_a_loaded_ensemble_is_the_same(fitted, file, test, tmp_path):
    loaded = Detector.load(file)
    assert loaded.recipe == fitted.fitted.recipe
    assert [m.unit for m in loaded.fitted.members] == [m.unit for m in fitted.fitted.members]
    for one, other in zip(loaded.predict(test), fitted.predict(test), strict=True):
        assert one.score == other.score
        assert one.threshold == other.threshold
        assert np.array_equal(one.map, other.map)
    assert loaded.save(tmp_path / "again") == store.read(file)[1]["sha256"]


def test_members_with_one_network_share_its_weights_in_the_file(fitted, file, tmp_path):
    names = list(store.read(file)[0])
    assert any(name.startswith("members.0.weights.") for name in names)
    assert not any(name.startswith("members.1.weights.") for name in names)
    fitted.save(tmp_path / "small", weights=False)
    assert not any("weights" in name for name in store.read(tmp_path / "small")[0])
    assert [m.unit for m in Detector.load(tmp_path / "small").fitted.members] == [m.unit for m in fitted.fitted.members]


def test_members_with_different_networks_have_each_their_own_weights(train, test, tmp_path):
    other = {**B, "backbone": "resnet18", "weights": "random"}
    detector = Detector(Recipe(members=(A, other))).fit(train[:4])
    detector.save(tmp_path / "two")
    assert [r.score for r in Detector.load(tmp_path / "two").predict(test[:2])] == [
        r.score for r in detector.predict(test[:2])
    ]
    rows = detector.fitted.rows  # of both
    assert repr(detector) == f"Detector(backbone='efficientnet_lite0 + resnet18', device='cpu', {rows} bank rows)"


def test_neither_threads_nor_batches_nor_memory_change_anything(fitted, file, train, test, tmp_path):
    other = Detector(TWO, threads=1).fit((path for path in train), memory="500MB")
    assert other.save(tmp_path / "one") == store.read(file)[1]["sha256"]
    expected = [r.score for r in fitted.predict(test)]
    np.testing.assert_allclose([r.score for r in other.predict(test, reading=Reading(batch=3))], expected, rtol=1e-4)
    np.testing.assert_allclose([r.score for r in fitted.predict(iter(test))], expected, rtol=1e-4)
    assert fitted.predict(test[0]).score == pytest.approx(expected[0], rel=1e-4)


def test_what_does_not_fit_into_memory_goes_to_files_and_makes_the_same_banks(fitted, train, monkeypatch):
    monkeypatch.setattr("patchcore.detector.spill_limit", lambda memory: 1000)
    other = Detector(TWO).fit(train)
    for one, two in zip([m.bank for m in other.fitted.members], [m.bank for m in fitted.fitted.members], strict=True):
        assert torch.equal(one.rows, two.rows)
    assert other.fitted.calibration == fitted.fitted.calibration


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed: patchcore[openvino]")
def test_every_member_runs_on_the_engine(fitted, file, test):
    detector = Detector.load(file, engine="openvino")
    for one, other in zip(detector.predict(test[:2]), fitted.predict(test[:2]), strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-4)


def test_calibration_images_set_units_and_threshold(train):
    detector = Detector(TWO).fit(train[:7], calibration=train[7:])
    assert len(detector.fitted.calibration.scores) == len(train) - 7
    results = detector.predict(train[7:])
    np.testing.assert_allclose(detector.fitted.calibration.scores, [r.score for r in results], rtol=1e-4)
    with pytest.raises(DataError, match="among the training images too"):
        Detector(TWO).fit(train[:7], calibration=train[6:])


def test_without_held_out_images_scores_are_joined_by_the_spread_of_the_banks(train, test, caplog):
    with caplog.at_level(logging.WARNING, "patchcore"):
        detector = Detector(TWO.replace(calibration_share=0)).fit(train[:4])
    assert "joined by how far their bank rows spread" in caplog.text
    rows = detector.fitted.members[0].bank.rows.double()
    assert detector.fitted.members[0].unit == pytest.approx(
        float((rows - rows.mean(0)).square().sum(1).mean().sqrt()), rel=1e-4
    )
    result = detector.predict(test[0])
    assert math.isnan(result.threshold)
    assert result.score > 0
    assert result.decision == "unsure"


def test_the_first_member_says_how_image_score_and_map_are_made(train, test):
    kinds = {}
    for kind in ("max", "reweighted"):
        recipe = TWO.replace(
            members=(
                {**A, "pool": "mean", "scaling": "channel", "image_score": kind, "sigma": 0, "upsample": "nearest"},
                B,
            )
        )
        kinds[kind] = Detector(recipe).fit(train).predict(test[0])
    highest = float(kinds["max"].patch_scores.max())
    assert kinds["max"].score == highest
    assert 0.5 * highest < kinds["reweighted"].score < highest
    assert kinds["max"].map.max() == pytest.approx(highest, rel=1e-5)  # not smoothed


def test_a_bad_image_is_reported_once(tmp_path, train, fitted):
    (tmp_path / "bad.jpg").write_text("no image")
    errors = []
    detector = Detector(TWO).fit([*train, tmp_path / "bad.jpg"], reading=Reading(on_bad=errors.append))
    assert [error.name for error in errors] == [str(tmp_path / "bad.jpg")]
    assert torch.equal(detector.fitted.members[0].bank.rows, fitted.fitted.members[0].bank.rows)
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        fitted.predict([tmp_path / "bad.jpg"])


def test_tiles_and_crops_may_be_members(train, test):
    tiled = {**A, "size": 128, "tile": 64, "tile_stride": 32}
    crop = {**B, "resize": "short_side", "size": 80, "crop": 64}
    results = Detector(Recipe(members=(tiled, crop))).fit(train[:5]).predict(test[:2])
    assert all(np.isfinite(r.map).all() and r.coverage == 1 for r in results)


def test_a_second_fit_forgets_the_first(train, fitted):
    detector = Detector(TWO).fit(train[:3])
    detector.fit(train)
    assert torch.equal(detector.fitted.members[0].bank.rows, fitted.fitted.members[0].bank.rows)
    assert detector.fitted.calibration == fitted.fitted.calibration


def test_no_images_is_an_error_and_leaves_the_detector_as_it_was():
    detector = Detector(TWO)
    with pytest.raises(DataError, match="no good images to learn from"):
        detector.fit([])
    assert "not fitted" in repr(detector)


def test_a_network_of_ones_own_cannot_be_a_member(file):
    network = torch.nn.Conv2d(3, 4, 3)
    with pytest.raises(RecipeError, match="member 1 has backbone='module'"):
        Detector(TWO, backbone=network)
    with pytest.raises(UsageError, match="members have their own backbones"):
        Detector.load(file, backbone=network)


def test_the_file_says_what_the_members_are(fitted, file):
    header = store.read(file)[1]
    assert [member["backbone"]["source"]["architecture"] for member in header["members"]] == [
        "timm:tf_efficientnet_lite0"
    ] * 2
    assert header["bank"]["rows"] == sum(member["bank"]["rows"] for member in header["members"])
    assert Recipe(**json.loads(json.dumps(header["recipe"]))) == fitted.fitted.recipe
