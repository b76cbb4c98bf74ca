"""Fitting on a cluster: the file of one machine, whatever is lost on the way."""

import shutil

import pytest
import torch

from patchcore import Detector, Recipe, UsageError
from patchcore.maths.coreset import k_center_greedy

cluster = pytest.importorskip("patchcore.cluster")
SMALL = Recipe(backbone="efficientnet_lite0", taps=(8, 16), size=64, resize="stretch", crop=None, ratio=0.1, min_rows=1)


def test_every_way_to_choose_gives_the_file_of_one_machine_byte_for_byte(ray, hazelnut, tmp_path):
    members = [
        {"scaling": "taps"},
        {"scaling": "channel", "augment": ("flip_h",), "pool": "mean"},
        {"projection": "dense", "projection_dims": 8, "projection_from": 1, "start": "mean_of_ten"},
        {"projection": "sparse", "projection_from": 1, "start": "random"},
        {"coreset": "random"},
        {"coreset": "identity"},
    ]
    recipe = Recipe.ensemble(*(SMALL.replace(**fields) for fields in members))
    images = hazelnut / "train" / "good"
    Detector(recipe).fit(images).save(tmp_path / "one")
    cluster.fit(recipe, images, workers=2).save(tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


@pytest.fixture(scope="module")
def good(hazelnut, tmp_path_factory):
    """Good images, one of them twice, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("good")
    for path in (hazelnut / "train" / "good").iterdir():
        shutil.copy(path, folder)
    shutil.copy(path, folder / "again.jpg")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_a_worker_that_is_lost_changes_nothing_and_a_later_run_goes_on_from_checkpoints(ray, good, tmp_path):
    from patchcore import Reading
    from patchcore.cluster import crew

    def lose(self, call):
        if call.method in ("offers", "calibrate") and call.worker == 1 and call.method not in lost:
            lost.append(call.method)
            ray.kill(self._actors[1])
        send(self, call)

    bad, lost, send = [], [], crew.Crew._send
    recipe = SMALL.replace(calibration="folds")
    Detector(recipe).fit(good, reading=Reading(on_bad=lambda _: None)).save(tmp_path / "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew.Crew, "_send", lose)
        found = cluster.fit(
            recipe, good, workers=2, checkpoints=tmp_path / "kept", memory="600MB", reading=Reading(on_bad=bad.append)
        )
    assert lost == ["offers", "calibrate"]
    assert {error.name for error in bad} == {"broken.png"}
    found.save(tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()
    assert len(list((tmp_path / "kept").glob("*.pt"))) == 1  # of the batch without a broken image


def test_a_merged_bank_is_that_of_the_workers_own_selections_and_keeps_its_bound(ray, hazelnut):
    images, recipe = hazelnut / "train" / "good", SMALL.replace(pool="mean", scaling="none", calibration_share=0)
    every = Detector(recipe.replace(coreset="identity")).fit(images).fitted.members[0].bank.rows
    bank = cluster.fit(recipe, images, workers=2, way="merge").fitted.members[0].bank.rows
    n_picks, per_image = len(every) // 10, len(every) // 10
    own = [part[k_center_greedy(part, n_picks)] for part in (every[: 8 * per_image], every[8 * per_image :])]
    union = torch.cat(own)  # eight images with the first worker, two with the second
    assert torch.equal(bank, union[k_center_greedy(union, n_picks)])

    def radius(rows):
        return float(torch.cdist(every.double(), rows.double()).min(1).values.max())

    assert radius(bank) <= 4 * radius(every[k_center_greedy(every, n_picks)])  # no smaller than the smallest radius


def test_more_workers_than_cores_and_other_ways_are_refused(ray, good):
    with pytest.raises(UsageError, match="workers is 3; the cluster has 2 cores"):
        cluster.fit(SMALL, good, workers=3)
    with pytest.raises(UsageError, match="way is 'fast'; expected 'exact' or 'merge'"):
        cluster.fit(SMALL, good, way="fast")


def test_each_category_has_a_model_and_one_that_fails_does_not_stop_the_others(ray, category, tmp_path):
    root = tmp_path / "nuts"
    for name in ("a", "b"):
        category(root / name)
    (root / "b" / "train" / "good" / "broken.png").write_bytes(b"no image")
    made = cluster.fit_each(SMALL, root, tmp_path / "models", workers=1)
    assert [one.category.category for one in made] == ["a", "b"]
    assert "broken.png: not an image" in made[1].error
    assert [path.name for path in (tmp_path / "models").glob("*.patchcore")] == ["nuts-a.patchcore"]
    digest = Detector(SMALL).fit(root / "a").save(tmp_path / "alone")
    assert made[0].sha256 == digest
