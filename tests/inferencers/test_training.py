"""Training by a configuration: what is written, what is measured, what is refused."""

import json
import math
import shutil

import pytest
import torch
import yaml
from PIL import Image

from patchcore.errors import UsageError
from patchcore.inferencers import TorchInferencer, train
from patchcore.inferencers.training import Trained
from patchcore.lightning.v0 import PatchcoreLightning


def test_a_training_leaves_three_files_and_nothing_half_written(trained):
    files = sorted(str(path.relative_to(trained.folder)) for path in trained.folder.rglob("*") if path.is_file())
    assert files == ["config.yaml", "meta_data.json", "weights/model.ckpt"]
    checkpoint = torch.load(trained.folder / "weights/model.ckpt", weights_only=True)
    n_images, held_out = 10, 2
    n_patches = (n_images - held_out) * 16 * 16
    assert checkpoint["state_dict"]["model.memory_bank"].shape == (int(0.1 * n_patches), 152)
    meta = json.loads((trained.folder / "meta_data.json").read_text())
    assert set(meta) == {"image_threshold", "pixel_threshold", "min", "max"}
    assert 0 < meta["min"] < meta["pixel_threshold"] <= 1.00011 * meta["max"]
    assert yaml.safe_load((trained.folder / "config.yaml").read_text())["project"]["seed"] == 42


def test_the_benchmark_line_has_the_three_figures(trained):
    assert trained.metrics["image_AUROC"] == 1
    assert trained.metrics["pixel_AUROC"] > 0.9
    figures = (1, trained.metrics["pixel_AUROC"], trained.metrics["image_F1Max"])
    assert trained.benchmark == "image AUROC {:.3f} | pixel AUROC {:.3f} | image F1 {:.3f}".format(*figures)
    assert Trained(trained.folder, {}).benchmark == "image AUROC - | pixel AUROC - | image F1 -"


def test_the_same_seed_gives_the_same_bank_and_another_one_another(hazelnut, trained, tmp_path, config_for):
    again, other = (train(config_for(hazelnut), output=tmp_path / str(seed), seed=seed) for seed in (42, 7))
    states = [
        torch.load(one.folder / "weights/model.ckpt", weights_only=True)["state_dict"]
        for one in (trained, again, other)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["model.memory_bank"], states[2]["model.memory_bank"])


def test_defective_test_images_do_not_change_what_is_written(hazelnut, trained, tmp_path, config_for):
    root = tmp_path / "parts"
    shutil.copytree(hazelnut / "train", root / "train")
    (root / "test" / "grey").mkdir(parents=True)
    Image.new("RGB", (200, 100), (90, 90, 90)).save(root / "test" / "grey" / "0.png")
    other = train(config_for(root), output=tmp_path / "out")
    assert (other.folder / "meta_data.json").read_text() == (trained.folder / "meta_data.json").read_text()
    assert "image_AUROC" not in other.metrics  # one class alone


def test_a_folder_of_good_images_is_enough_and_the_place_follows_from_the_data(
    hazelnut, tmp_path, monkeypatch, config_for
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hazelnut / "train" / "good", tmp_path / "nuts")
    done = train({**config_for(tmp_path, category="nuts"), "project": {"path": "results"}})
    assert str(done.folder) == "results/patchcore/nuts"
    assert done.metrics == {}
    overlay, _ = TorchInferencer(done.folder / "config.yaml", done.folder / "weights/model.ckpt").predict(
        hazelnut / "test/colour/00.jpg"
    )
    assert overlay.shape == (512, 512, 3)


def test_a_tiled_training_predicts_in_tiles(hazelnut, tmp_path, config_for):
    config = config_for(hazelnut, tiling={"apply": True, "tile_size": 64, "stride": 32})
    done = train(config, output=tmp_path)
    model = PatchcoreLightning.load_from_checkpoint(tmp_path / "weights/model.ckpt")
    assert (model.model.tile_size, model.model.tile_stride) == ((64, 64), (32, 32))
    assert TorchInferencer(tmp_path / "config.yaml", tmp_path / "weights/model.ckpt").model.model.apply_tiling
    assert math.isfinite(done.metrics["pixel_AUROC"])


def test_missing_data_and_wrong_names_say_what_to_do(hazelnut, tmp_path, config_for):
    with pytest.raises(UsageError, match=r"no dataset at .*bottle. Expected the MVTec AD layout.*--data PATH"):
        train(config_for(tmp_path, category="bottle"), output=tmp_path / "out")
    with pytest.raises(UsageError, match=r"names no data: give dataset.path, or --data"):
        train({"model": {}}, output=tmp_path / "out")
    with pytest.raises(UsageError, match=r"no key 'train_batchsize'. Did you mean 'train_batch_size'"):
        train(config_for(hazelnut, train_batchsize=2), output=tmp_path / "out")
    with pytest.raises(UsageError, match=r"'acelerator', which lightning.Trainer does not take. Did you mean 'acc"):
        train({**config_for(hazelnut), "trainer": {"acelerator": "cpu"}}, output=tmp_path / "out")
    with pytest.raises(UsageError, match="No good image is left to set the thresholds"):
        train(config_for(hazelnut, calibration_share=0), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
