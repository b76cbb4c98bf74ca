"""Scripts of anomalib's documentation, with the prefix of their imports changed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from sklearn.metrics import f1_score, roc_auc_score
from torch.utils.data import DataLoader

from patchcore import UsageError
from patchcore.lightning import Engine, Patchcore, TaskType
from patchcore.lightning import engine as module
from patchcore.lightning.data import Folder, MVTec, PredictDataset
from patchcore.lightning.deploy import ExportType
from patchcore.lightning.models import UnknownModelError, get_available_models, get_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
]
NETWORK = {"backbone": "efficientnet_lite0", "layers": ("blocks.2", "blocks.4"), "coreset_sampling_ratio": 0.01}
QUIET = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture(scope="module")
def data(hazelnut):
    few = {"train_batch_size": 4, "eval_batch_size": 4, "num_workers": 0, "image_size": (128, 128)}
    return MVTec(root=hazelnut.parent, category="hazelnut", **few)


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    """What the first script of their pages makes: a model, its engine, and what training returned."""
    engine = Engine(default_root_dir=tmp_path_factory.mktemp("results"), **QUIET)
    model = Patchcore(**NETWORK)
    return model, engine, engine.train(datamodule=data, model=model)


@pytest.fixture(scope="module")
def predictions(fitted, data):
    model, engine, _ = fitted
    return engine.predict(model=model, datamodule=data, ckpt_path=engine.best_model_path)


def scores_of(batches):
    return {path: float(s) for batch in batches for path, s in zip(batch.image_path, batch.pred_score, strict=True)}


def raw(fitted, data):
    """What the Trainer itself gives."""
    return fitted[1].trainer.predict(fitted[0], datamodule=data)


def joined(batches, key):
    return torch.cat([batch[key] for batch in batches])


def test_train_returns_their_metrics_by_their_names(fitted, data):
    (found,) = fitted[2]
    of_image, of_pixel = {"image_AUROC", "image_F1Score"}, {"pixel_AUROC", "pixel_F1Score"}
    assert of_image | of_pixel <= set(found)
    batches = raw(fitted, data)
    labels, masks = joined(batches, "label"), joined(batches, "mask").flatten()
    assert found["image_AUROC"] == pytest.approx(roc_auc_score(labels, joined(batches, "pred_scores")))
    assert found["image_F1Score"] == pytest.approx(f1_score(labels, joined(batches, "pred_labels")))
    maps = joined(batches, "anomaly_maps").flatten()
    assert found["pixel_AUROC"] == pytest.approx(roc_auc_score(masks, maps), abs=1e-6)
    assert found["pixel_F1Score"] == pytest.approx(f1_score(masks, joined(batches, "pred_masks").flatten()), abs=1e-6)


def test_a_checkpoint_lies_where_theirs_lies_and_gives_the_same_results(fitted, data):
    model, engine, (before,) = fitted
    path = Path(engine.best_model_path)
    assert path.parts[-7:] == ("Patchcore", "MVTec", "hazelnut", "v0", "weights", "lightning", "model.ckpt")
    assert path.samefile(path.parents[3] / "latest" / "weights" / "lightning" / "model.ckpt")
    assert engine.model is model
    assert engine.trainer.lightning_module is model
    again = Engine(default_root_dir=path.parents[6], **QUIET)
    (after,) = again.test(model=Patchcore(**NETWORK), datamodule=data, ckpt_path=path, verbose=False)
    assert after == pytest.approx(before)


def test_batches_have_the_keys_of_version_1_and_the_attributes_of_version_2(predictions, hazelnut):
    batch = predictions[0]
    assert batch.image_path == batch["image_path"]
    assert batch.image_path[0] == str(hazelnut / "test" / "colour" / "00.jpg")
    assert batch.image.shape == (4, 3, 112, 112)
    assert len(batch.pred_score) == 4
    assert batch.pred_score is batch["pred_scores"]
    assert batch.pred_label is batch["pred_labels"]
    assert batch.gt_label is batch["label"]
    assert batch.anomaly_map.shape == batch.pred_mask.shape == batch.gt_mask.shape == (4, 112, 112)
    assert batch["anomaly_maps"].shape == batch["pred_masks"].shape == (4, 1, 112, 112)
    assert batch.pred_mask.dtype == batch.pred_label.dtype == torch.bool
    with pytest.raises(AttributeError, match="pred_boxes: the batch has image"):
        _ = batch.pred_boxes


def test_scores_and_maps_are_scaled_to_a_half_at_the_threshold_and_keep_their_order(fitted, data, predictions):
    model = fitted[0]
    scores, distances = joined(predictions, "pred_scores"), joined(raw(fitted, data), "pred_scores")
    assert ((scores > 0.5) == (distances > model.image_threshold)).all()
    assert (scores.argsort() == distances.argsort()).all()
    expected = (distances - model.image_threshold) / (model.map_max - model.map_min) + 0.5
    torch.testing.assert_close(scores, expected)
    assert ((joined(predictions, "anomaly_maps") > 0.5) == joined(predictions, "pred_masks")).all()


def test_images_are_predicted_alike_from_a_path_a_dataset_and_loaders(fitted, predictions, hazelnut):
    model, engine, _ = fitted
    folder = hazelnut / "test" / "colour"
    expected = {path: score for path, score in scores_of(predictions).items() if "colour" in path}
    loader = DataLoader(PredictDataset(folder), batch_size=3)
    ways = (
        engine.predict(model=model, data_path=folder),
        engine.predict(model=model, dataset=PredictDataset(path=folder, image_size=(128, 128))),
        engine.predict(dataloaders=[loader]),
        engine.predict(dataloaders=loader),
    )
    for found in ways:
        assert scores_of(found) == pytest.approx(
            {str(path): expected[str(path)] for path in sorted(folder.iterdir())}, rel=1e-4
        )
        assert all("label" not in batch for batch in found)
    one = PredictDataset(folder / "00.jpg", transform=model.configure_transforms((64, 64)))
    assert engine.predict(dataset=one)[0].image.shape == (1, 3, 56, 56)
    assert engine.predict(dataset=one, return_predictions=False) is None
    two = engine.predict(dataloaders=[loader, loader])
    assert [len(one) for one in two] == [len(ways[2])] * 2


def test_without_normalization_scores_are_distances(fitted, data):
    model = fitted[0]
    found = Engine(normalization="none", logger=False, **QUIET).predict(model, datamodule=data)
    torch.testing.assert_close(joined(found, "pred_scores"), joined(raw(fitted, data), "pred_scores"))


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_without_held_out_images_there_are_scores_but_no_verdicts(hazelnut, tmp_path):
    data = Folder(
        "nuts", "train/good", root=hazelnut, test_split_mode="none", val_split_mode="none", num_workers=0, image_size=64
    )
    engine, model = Engine(default_root_dir=tmp_path, **QUIET), Patchcore(**NETWORK)
    engine.fit(model, datamodule=data)
    assert "Patchcore/nuts/v0" in Path(engine.best_model_path).as_posix()
    with pytest.warns(UserWarning, match="No threshold has been set, so scores are distances"):
        (batch,) = engine.predict(model, data_path=hazelnut / "test" / "colour" / "00.jpg")
    assert batch.pred_score > 0
    with pytest.raises(AttributeError, match="pred_label: there are no thresholds"):
        _ = batch.pred_label


def test_validate_sets_thresholds_from_good_images_alone(fitted, data):
    model, engine, _ = fitted
    before = model.image_threshold.clone()
    assert engine.validate(model, datamodule=data, verbose=False) == [{}]  # good images alone give no metric
    torch.testing.assert_close(model.image_threshold, before)


def test_a_second_fit_has_its_own_folder_and_replaces_the_first(fitted, data):
    model, engine, _ = fitted
    first, bank = Path(engine.best_model_path), model.model.memory_bank.clone()
    another = Engine(default_root_dir=first.parents[6], max_epochs=1, **QUIET)
    for version in (1, 2):
        another.fit(model=model, datamodule=data)
        assert Path(another.best_model_path).parents[2].name == f"v{version}"
        assert first.exists()
        assert torch.equal(model.model.memory_bank, bank)


def test_all_processes_of_a_fit_have_one_folder(tmp_path, monkeypatch):
    first = module._next_version(tmp_path)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert module._next_version(tmp_path) == first
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["latest", "v0"]


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_fit_goes_on_from_a_checkpoint_that_has_its_bank(fitted, data, tmp_path):
    model = Patchcore(**NETWORK)
    Engine(default_root_dir=tmp_path, **QUIET).fit(model, datamodule=data, ckpt_path=fitted[1].best_model_path)
    assert torch.equal(model.model.memory_bank, fitted[0].model.memory_bank)


def test_metrics_are_those_that_were_asked_for(fitted, data):
    model = fitted[0]
    few = Engine(image_metrics=["AUROC"], pixel_metrics="AUPRO", **QUIET)
    assert set(few.test(model, datamodule=data, verbose=False)[0]) == {"image_AUROC", "pixel_AUPRO"}
    images = Engine(task=TaskType.CLASSIFICATION, **QUIET).test(model, datamodule=data, verbose=False)
    assert {name.partition("_")[0] for name in images[0]} == {"image"}


def test_what_has_no_effect_is_said():
    with pytest.raises(UsageError, match=r"Engine has no argument 'max_epoch'. Did you mean 'max_epochs'"):
        Engine(max_epoch=3)
    with pytest.raises(UsageError, match=r"image_metrics has 'AUROCK'. Did you mean 'AUROC'"):
        Engine(image_metrics=["AUROCK"])
    with pytest.raises(UsageError, match="normalization is 'cdf'; it must be min_max or none"):
        Engine(normalization="cdf")
    with pytest.raises(UsageError, match="task is 'guess'; it must be one of classification, detection, segmentation"):
        Engine(task="guess")
    with pytest.warns(UserWarning, match="threshold='F1AdaptiveThreshold' has no effect: thresholds come from"):
        Engine(threshold="F1AdaptiveThreshold")
    with pytest.warns(UserWarning, match="pixel_metrics have no effect: the task is classification"):
        Engine(task="classification", pixel_metrics=["AUROC"])
    engine = Engine(**QUIET)
    assert engine.best_model_path is None
    for used in (lambda: engine.trainer, lambda: engine.model, engine.test, engine.predict):
        with pytest.raises(UsageError, match=r"There is no (trainer|model) yet"):
            used()
    model = Patchcore(**NETWORK)
    with pytest.raises(UsageError, match=r"nothing to predict. Give dataloaders, datamodule, dataset or data_path"):
        engine.predict(model)
    with pytest.warns(UserWarning, match="max_epochs=10 has no effect: Patchcore needs 1"):
        Engine(max_epochs=10, **QUIET)._made_trainer(model, Path("unused"))


def test_own_callbacks_are_used(fitted, data, tmp_path):
    saves = ModelCheckpoint(tmp_path / "own", "mine")
    engine = Engine(callbacks=[saves], default_root_dir=tmp_path / "results", **QUIET)
    engine.fit(fitted[0], datamodule=data)
    assert engine.best_model_path == str(tmp_path / "own" / "mine.ckpt")
    none = Engine(enable_checkpointing=False, default_root_dir=tmp_path / "results", **QUIET)
    none.fit(fitted[0], datamodule=data)
    assert none.best_model_path is None


class Written(Patchcore):
    """Says what it was asked to write."""

    def to_onnx(self, export_root, input_size=None, transform=None, *, model_file_name="model"):
        asked = {"input_size": input_size, "transform": str(transform), "rows": len(self.model.memory_bank)}
        path = Path(export_root) / f"{model_file_name}.json"
        path.write_text(json.dumps(asked), "utf-8")
        return str(path)


def test_export_calls_what_the_model_has_for_a_format(fitted, data, tmp_path):
    _, engine, _ = fitted
    rows = len(fitted[0].model.memory_bank)
    of_checkpoint = engine.export(
        Written(**NETWORK),
        ExportType.ONNX,
        tmp_path,
        model_file_name="nuts",
        input_size=(128, 128),
        ckpt_path=engine.best_model_path,
    )
    assert of_checkpoint == tmp_path / "nuts.json"
    assert json.loads(of_checkpoint.read_text()) == {"input_size": [128, 128], "transform": "None", "rows": rows}
    model = Written(**NETWORK)
    model.load_state_dict(fitted[0].state_dict())
    of_model = engine.export(model, "onnx")
    assert of_model.parent == Path(engine.trainer.default_root_dir)
    assert "Resize(size=[128, 128]" in json.loads(of_model.read_text())["transform"]
    with pytest.raises(UsageError, match="compression_type has no effect on an export to onnx"):
        engine.export(model, "onnx", compression_type="fp16")
    with pytest.raises(UsageError, match=r"Engine.export has no argument 'ov_args'"):
        engine.export(model, "openvino", ov_args={})
    with pytest.raises(ValueError, match="'savedmodel' is not a valid ExportType"):
        engine.export(model, "savedmodel")


def test_models_are_found_by_name_and_by_configuration():
    assert get_available_models() == {"patchcore"}
    for given in ("Patchcore", "patchcore", {"class_path": "anomalib.models.Patchcore"}):
        assert isinstance(get_model(given, **NETWORK), Patchcore)
    model = get_model({"class_path": "Patchcore", "init_args": {**NETWORK, "num_neighbors": 3}}, num_neighbors=4)
    assert model.model.num_neighbors == 4
    with pytest.raises(UnknownModelError, match="There is no model 'Padim'; there is Patchcore"):
        get_model("Padim")
    with pytest.raises(TypeError, match="a model of list; expected a name"):
        get_model([1])


def test_longer_paths_of_theirs_lead_to_the_same_classes():
    lines = (  # in a new interpreter, where the first one loads the package
        "from patchcore.lightning.models.image.patchcore.torch_model import PatchcoreModel",
        "from patchcore.lightning.models.image.patchcore.lightning_model import Patchcore",
        "from patchcore.lightning.models.image.patchcore.anomaly_map import AnomalyMapGenerator",
        "from patchcore.lightning.models.image.patchcore import Patchcore as again",
        "from patchcore.lightning.models.components import KCenterGreedy, MemoryBankMixin",
        "from patchcore.lightning.models.components.base.dynamic_buffer import DynamicBufferMixin",
        "from patchcore.lightning.models.components.sampling.k_center_greedy import KCenterGreedy as k_center",
        "from patchcore.lightning.data.utils import TestSplitMode, ValSplitMode",
        "from patchcore.lightning import LearningType, TaskType, lightning_model, models, torch_model",
        "import patchcore.lightning as ours",
        "assert PatchcoreModel is torch_model.PatchcoreModel is ours.PatchcoreModel",
        "assert Patchcore is again is models.Patchcore is ours.Patchcore",
        "assert DynamicBufferMixin is ours.DynamicBufferMixin and k_center is KCenterGreedy is ours.KCenterGreedy",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
