"""`patchcore import-inspection`."""

import pickle

import faiss
import numpy as np
import pytest
import torch
from cli_helpers import lines

from patchcore import Detector
from patchcore.inspection import PatchCore, backbones
from patchcore.inspection.datasets.mvtec import DatasetSplit, MVTecDataset

KEYS = {
    "path", "backbone", "bank_rows", "neighbours", "threshold", "pixel_threshold", "calibration_images", "sha256",
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(backbones.load("resnet50", "random").state_dict(), path)
    return path


@pytest.fixture
def folder(tmp_path, hazelnut, weights):
    """A model as patchcore-inspection saves it, with patches of real images in it."""
    model = PatchCore("cpu")
    network = backbones.load("resnet50", str(weights), size=(64, 64))
    model.load(network, ["layer1", "layer2"], "cpu", (3, 64, 64), 48, 40)
    data = MVTecDataset(hazelnut.parent, "hazelnut", resize=73, imagesize=64)
    index = faiss.IndexFlatL2(40)
    index.add(np.stack(model.embed(torch.stack([data[0]["image"], data[1]["image"]]))))
    folder = tmp_path / "mvtec_hazelnut"
    folder.mkdir()
    faiss.write_index(index, str(folder / "nnscorer_search_index.faiss"))
    parameters = {
        "backbone.name": "resnet50",
        "layers_to_extract_from": ("layer1", "layer2"),
        "input_shape": (3, 64, 64),
        "pretrain_embed_dimension": 48,
        "target_embed_dimension": 40,
        "patchsize": 3,
        "patchstride": 1,
        "anomaly_scorer_num_nn": 1,
    }
    (folder / "patchcore_params.pkl").write_bytes(pickle.dumps(parameters, pickle.HIGHEST_PROTOCOL))
    return folder


def test_an_imported_model_predicts_with_the_scores_it_had(run, folder, weights, hazelnut, tmp_path):
    done = run("import-inspection", folder, "--weights", weights, "--json")
    assert done.exit_code == 0, done.stderr
    (row,) = lines(done.stdout)
    assert set(row) == KEYS
    assert row["path"] == str(tmp_path / "mvtec_hazelnut.patchcore")
    assert (row["bank_rows"], row["neighbours"]) == (2 * 16 * 16, 1)
    assert row["backbone"] == "torchvision:resnet50.IMAGENET1K_V1"
    assert row["threshold"] is None
    assert "every verdict will be 'unsure'" in done.stderr

    model = PatchCore("cpu")
    model.load_from_path(folder, "cpu", weights=str(weights))
    data = MVTecDataset(hazelnut.parent, "hazelnut", resize=73, imagesize=64, split=DatasetSplit.TEST)
    expected = dict(zip([item["image_path"] for item in data], model.predict(
        torch.stack([item["image"] for item in data]))[0], strict=True))  # fmt: skip
    done = run("predict", row["path"], hazelnut / "test", "--json")
    assert done.exit_code == 0, done.stderr
    found = {row["path"]: row for row in lines(done.stdout)}
    assert set(found) == set(expected)
    for path, score in expected.items():
        assert found[path]["score"] == pytest.approx(score, rel=1e-4)
        assert found[path]["decision"] == "unsure"


@pytest.mark.parametrize(("option", "moved"), [([], True), (["--no-training-pass"], False)])
def test_the_pass_in_training_mode_can_be_left_out(option, moved, run, folder, weights, tmp_path):
    assert run("import-inspection", folder, "-o", tmp_path / "m", "--weights", weights, *option).exit_code == 0
    state = Detector.load(tmp_path / "m").fitted.members[0].backbone.state
    assert state["bn1.running_mean"].any() == moved  # 0 as it is made


def test_the_kernel_of_the_resize_can_be_stated(run, folder, weights, tmp_path):
    for option, kernel in (([], "bilinear"), (["--interpolation", "bicubic"], "bicubic")):
        assert run("import-inspection", folder, "-o", tmp_path / kernel, "--weights", weights, *option).exit_code == 0
        assert Detector.load(tmp_path / kernel).recipe.interpolation == kernel


def test_good_images_set_the_threshold(run, folder, weights, hazelnut, tmp_path):
    done = run("import-inspection", folder, "-o", tmp_path / "m", "--weights", weights, "--resize", 70,
               "--calibration", hazelnut / "test/good", "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    (row,) = lines(done.stdout)
    assert row["calibration_images"] == 3
    detector = Detector.load(tmp_path / "m")
    assert detector.recipe.size == 70
    highest = max(result.score for result in detector.predict(hazelnut / "test/good"))
    assert row["threshold"] == pytest.approx(1.0001 * highest)
    assert "the largest score of only 3 held-out good images" in done.stderr
    assert run("info", tmp_path / "m").exit_code == 0


def test_what_cannot_be_imported_is_said_and_nothing_is_written(run, folder, weights, tmp_path):
    out = tmp_path / "m"
    done = run("import-inspection", folder, "-o", out, "--weights", weights, "--prepend", "Ensemble-1-3_")
    assert done.exit_code == 1
    assert "holds no Ensemble-1-3_patchcore_params.json and no Ensemble-1-3_patchcore_params.pkl" in done.stderr
    done = run("import-inspection", folder, "-o", tmp_path / "nowhere" / "m", "--weights", weights)
    assert done.exit_code == 2
    assert "nowhere does not exist" in done.stderr
    done = run("import-inspection", folder, "-o", out, "--weights", folder / "patchcore_params.pkl")
    assert done.exit_code == 1
    assert "The weights file patchcore_params.pkl cannot be read" in done.stderr
    (folder / "patchcore_params.pkl").write_bytes(pickle.dumps(print))
    done = run("import-inspection", folder, "-o", out, "--weights", weights)
    assert done.exit_code == 1
    assert "refused: it asks for builtins.print" in done.stderr
    assert not out.exists()
