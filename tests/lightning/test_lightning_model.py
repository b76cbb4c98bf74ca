"""Patchcore with a stock Trainer, on real images and a real network."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as vision

from patchcore import Detector, NotFittedError, Recipe, UsageError
from patchcore.lightning import ImageDataModule, LearningType, Patchcore
from patchcore.lightning import lightning_model as module

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
]
NETWORK = {"backbone": "efficientnet_lite0", "layers": ("blocks.2", "blocks.4")}


def trainer(**options) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", **{**quiet, "enable_checkpointing": False, **options})


@pytest.fixture(scope="module")
def squares(hazelnut, tmp_path_factory):
    """The images at 256 x 256, a size that neither side has to resize."""
    root = tmp_path_factory.mktemp("squares")
    for path in sorted(hazelnut.rglob("*.*")):
        target = (root / path.relative_to(hazelnut)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        kind = Image.Resampling.NEAREST if "ground_truth" in path.parts else Image.Resampling.BOX
        Image.open(path).resize((256, 256), kind).save(target)
    return root


@pytest.fixture(scope="module")
def data(squares):
    return ImageDataModule(squares, train_batch_size=4, eval_batch_size=4)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A fitted model, its trainer, and the checkpoint that the trainer wrote of itself."""
    model = Patchcore(**NETWORK)
    saves = ModelCheckpoint(tmp_path_factory.mktemp("checkpoints"))
    fitting = trainer(**model.trainer_arguments, enable_checkpointing=True, callbacks=[saves])
    fitting.fit(model, datamodule=data)
    return model, fitting, saves.best_model_path


@pytest.fixture(scope="module")
def predictions(run, data):
    model, fitting, _ = run
    batches = fitting.predict(model, datamodule=data)
    return {
        key: [one for batch in batches for one in batch[key]]
        for key in ("image_path", "label", "mask", "pred_scores", "anomaly_maps", "pred_labels", "pred_masks")
    }


# What the documents say


def test_signatures_and_properties_are_the_documented_ones():
    assert {name: p.default for name, p in inspect.signature(Patchcore).parameters.items()} == {
        "backbone": "wide_resnet50_2",
        "layers": ("layer2", "layer3"),
        "pre_trained": True,
        "coreset_sampling_ratio": 0.1,
        "num_neighbors": 9,
        "precision": "float32",
        "pre_processor": True,
        "post_processor": True,
        "evaluator": True,
        "visualizer": False,
    }
    model = Patchcore(**NETWORK)
    assert model.learning_type is LearningType.ONE_CLASS
    assert model.trainer_arguments == {"max_epochs": 1, "num_sanity_val_steps": 0, "gradient_clip_val": 0}
    assert model.configure_optimizers() is None
    for step in (Patchcore.training_step, Patchcore.validation_step):
        assert [p.kind.name for p in inspect.signature(step).parameters.values()][2:] == [
            "VAR_POSITIONAL",
            "VAR_KEYWORD",
        ]


def test_the_transforms_resize_crop_and_normalise():
    transforms = Patchcore(**NETWORK).configure_transforms
    image = torch.rand(3, 300, 500)
    resized = vision.resize(image, [256, 256], antialias=True)[:, 16:240, 16:240]
    torch.testing.assert_close(transforms()(image), (resized - 0.5) / 0.5)  # the mean and deviation of Lite0
    assert transforms(image_size=(128, 96))(image).shape == (3, 112, 84)


def test_unknown_arguments_are_answered_with_the_nearest_name():
    with pytest.raises(UsageError, match=r"Patchcore has no argument 'num_neighbours'. Did you mean 'num_neighbors'\?"):
        Patchcore(num_neighbours=3)
    with pytest.raises(UsageError, match="coreset_sampling_ratio is 10; it must be above 0 and at most 1"):
        Patchcore(**NETWORK, coreset_sampling_ratio=10)


# A run


def test_fitting_fills_the_bank_and_sets_the_thresholds(run, data):
    model, fitting, _ = run
    assert fitting.current_epoch == 1
    assert (len(data.train), len(data.calibration)) == (8, 2)
    assert model.model.memory_bank.shape == (int(8 * 28 * 28 * 0.1), 152)
    assert model.image_threshold > 0
    assert model.pixel_threshold > 0
    assert "image_AUROC" not in fitting.callback_metrics  # good images alone give none


def test_it_computes_what_the_engine_does_with_the_recipe_lightning(run, squares, data, predictions):
    model, _, _ = run
    recipe = Recipe.named("lightning").replace(backbone="efficientnet_lite0", taps=NETWORK["layers"])
    detector = Detector(recipe.replace(calibration="held_out")).fit(squares / "train" / "good")
    torch.testing.assert_close(model.model.memory_bank, detector.fitted.members[0].bank.rows, rtol=2**-9, atol=1e-3)
    assert float(model.image_threshold) == pytest.approx(detector.fitted.calibration.threshold, rel=1e-3)
    results = detector.predict([sample.image for sample in data.test])
    for i, result in enumerate(results):
        assert predictions["image_path"][i] == result.name
        assert float(predictions["pred_scores"][i]) == pytest.approx(result.score, rel=1e-3)
        assert bool(predictions["pred_labels"][i]) == (result.decision == "fail")
        np.testing.assert_allclose(predictions["anomaly_maps"][i][0], result.map[16:240, 16:240], rtol=2e-3)


def test_testing_logs_the_metrics(run, data, predictions):
    model, fitting, _ = run
    (logged,) = fitting.test(model, datamodule=data, verbose=False)
    of_images, of_pixels = {"AUROC", "AP", "F1Max", "F1Score"}, {"AUROC", "AUPRO", "F1Max", "F1Score"}
    assert set(logged) == {f"image_{name}" for name in of_images} | {f"pixel_{name}" for name in of_pixels}
    labels = [int(label) for label in predictions["label"]]
    assert labels == [1, 1, 1, 1, 0, 0, 0]
    assert logged["image_AUROC"] == pytest.approx(roc_auc_score(labels, [float(s) for s in predictions["pred_scores"]]))
    masks, maps = torch.stack(predictions["mask"]), torch.stack(predictions["anomaly_maps"])
    assert masks.shape == (7, 224, 224)
    assert masks.any((1, 2)).tolist() == [bool(label) for label in labels]
    assert logged["pixel_AUROC"] == pytest.approx(roc_auc_score(masks.flatten(), maps.flatten()), abs=1e-6)
    assert logged["pixel_AUROC"] > 0.9


def test_validating_logs_the_metrics_of_what_it_is_given(run, data):
    model, fitting, _ = run
    other = copy.deepcopy(model)
    (logged,) = fitting.validate(other, dataloaders=fitting.test_dataloaders or data.test_dataloader(), verbose=False)
    assert {"image_AUROC", "pixel_AUROC"} <= set(logged)


def test_verdicts_follow_the_thresholds(run, predictions):
    model = run[0]
    for score, label in zip(predictions["pred_scores"], predictions["pred_labels"], strict=True):
        assert bool(label) == (float(score) > float(model.image_threshold))
    maps, masks = torch.stack(predictions["anomaly_maps"]), torch.stack(predictions["pred_masks"])
    assert torch.equal(masks, maps > model.pixel_threshold)


def test_a_checkpoint_holds_tensors_and_plain_values_and_brings_everything_back(run, data, predictions, monkeypatch):
    model, fitting, path = run
    held = torch.load(path, weights_only=True)
    assert held["hyper_parameters"]["layers"] == NETWORK["layers"]

    def unreachable(*_):
        raise AssertionError("the weights are in the checkpoint")

    monkeypatch.setattr("patchcore.backbones.registry.pretrained_state", unreachable)
    loaded = Patchcore.load_from_checkpoint(path)
    for (name, a), (_, b) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert loaded.hparams["pre_trained"] is True
    batches = fitting.predict(loaded, datamodule=data)
    assert torch.equal(torch.cat([b["pred_scores"] for b in batches]), torch.stack(predictions["pred_scores"]))
    fresh = Patchcore(**NETWORK, pre_trained=False)
    fitting.test(fresh, datamodule=data, ckpt_path=path, weights_only=True, verbose=False)
    assert torch.equal(fresh.model.memory_bank, model.model.memory_bank)


def test_a_checkpoint_is_loaded_with_other_arguments_but_no_unknown_ones(run):
    assert Patchcore.load_from_checkpoint(run[2], num_neighbors=1).model.num_neighbors == 1
    with pytest.raises(UsageError, match="Did you mean 'num_neighbors'"):
        Patchcore.load_from_checkpoint(run[2], num_neighbour=1)


def test_copies_and_pickles_score_the_same(run):
    model, images = run[0].eval(), torch.randn(2, 3, 224, 224)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(images)["pred_score"], model(images)["pred_score"])


# Loops


@pytest.fixture
def images():
    return torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def expected_bank():
    """What six images give, two at a time."""
    seen = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = Patchcore(**NETWORK)
    for batch in seen.split(2):
        model.training_step(batch)
    model.fit()
    return model.model.memory_bank


def test_without_a_trainer_steps_and_fit_do_the_same(images, expected_bank):
    model = Patchcore(**NETWORK)
    with pytest.raises(NotFittedError, match="No training images have been seen"):
        model.fit()
    given = model.training_step({"image": images, "image_path": ["a"] * 6}, 0)
    assert given["loss"].item() == 0
    assert given["loss"].requires_grad
    assert given["embedding"].shape == (6 * 64, 152)
    model.fit()
    torch.testing.assert_close(model.model.memory_bank, expected_bank)
    assert len(expected_bank) == 38
    model.fit()
    torch.testing.assert_close(model.model.memory_bank, expected_bank)


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 1, "num_sanity_val_steps": 2},
        {"max_epochs": 1, "val_check_interval": 1},  # before all images have been seen
        {"max_epochs": 4, "min_epochs": 2, "limit_val_batches": 0},
        {"max_epochs": 1, "accumulate_grad_batches": 2},
    ],
)
def test_other_settings_give_the_same_bank(options, images, expected_bank):
    model = Patchcore(**NETWORK)
    validation = [{"image": images[:2], "label": torch.tensor([0, 0])}]
    trainer(**options).fit(model, DataLoader(images, batch_size=2), DataLoader(validation, batch_size=None))
    torch.testing.assert_close(model.model.memory_bank, expected_bank)
    assert model.image_threshold.isnan() == ("limit_val_batches" in options)


def test_epochs_without_end_are_one(images, expected_bank):
    model = Patchcore(**NETWORK)
    fitting = trainer(max_epochs=-1)
    fitting.fit(model, DataLoader(images, batch_size=2))
    assert fitting.current_epoch == 1
    torch.testing.assert_close(model.model.memory_bank, expected_bank)


def test_a_second_fit_forgets_the_first(images, expected_bank):
    model = Patchcore(**NETWORK)
    trainer(max_epochs=1).fit(model, DataLoader(images[:1] + 1, batch_size=1))
    trainer(max_epochs=1).fit(model, DataLoader(images, batch_size=2))
    torch.testing.assert_close(model.model.memory_bank, expected_bank)


class Stop(Callback):
    def on_train_batch_end(self, *_, **__):
        raise RuntimeError("the light went out")


def test_a_fit_that_is_interrupted_leaves_what_there_was(images, expected_bank):
    model = Patchcore(**NETWORK)
    for fitted in (False, True):
        with pytest.raises(RuntimeError, match="the light went out"):
            trainer(max_epochs=1, callbacks=[Stop()]).fit(model, DataLoader(images + 1, batch_size=2))
        if fitted:
            trainer().validate(model, DataLoader(images, batch_size=2), verbose=False)
            torch.testing.assert_close(model.model.memory_bank, expected_bank)
        else:
            with pytest.raises(NotFittedError, match="No training images have been seen"):
                trainer().validate(model, DataLoader(images, batch_size=2), verbose=False)
            trainer(max_epochs=1).fit(model.train(), DataLoader(images, batch_size=2))


def test_after_a_trainer_steps_and_fit_still_work(images, expected_bank):
    model = Patchcore(**NETWORK)
    trainer(max_epochs=1).fit(model, DataLoader(images + 1, batch_size=2))
    model.train().training_step(images)
    model.fit()
    torch.testing.assert_close(model.model.memory_bank, expected_bank)


def test_patches_in_a_file_give_the_same_bank(images, expected_bank, monkeypatch):
    monkeypatch.setattr(module, "spill_limit", lambda memory: 10_000)
    model = Patchcore(**NETWORK)
    model.training_step(images)
    assert model._seen.spilled
    model.fit()
    torch.testing.assert_close(model.model.memory_bank, expected_bank)


@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You.re resuming from a checkpoint that ended before")
def test_a_fit_that_resumes_within_an_epoch_is_refused(images, tmp_path):
    saves = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1)
    model, options = Patchcore(**NETWORK), {"max_epochs": 1, "enable_checkpointing": True}
    trainer(**options, callbacks=[saves], limit_train_batches=3).fit(model, DataLoader(images, batch_size=2))
    first = min(tmp_path.iterdir(), key=lambda path: path.name)
    with pytest.raises(UsageError, match="resumes at batch 1 of an epoch"):
        trainer(**options, callbacks=[saves]).fit(
            Patchcore(**NETWORK), DataLoader(images, batch_size=2), ckpt_path=first, weights_only=True
        )


def test_before_a_fit_nothing_is_predicted(images):
    with pytest.raises(NotFittedError, match="The memory bank is empty"):
        trainer().predict(Patchcore(**NETWORK), DataLoader(images, batch_size=2))
    with pytest.raises(NotFittedError, match="No training images have been seen"):
        trainer().validate(Patchcore(**NETWORK), DataLoader(images, batch_size=2), verbose=False)


def test_batches_are_tensors_tuples_or_dicts(run, images):
    model = run[0].eval()
    scores = model(images)["pred_score"]
    for batch in (images, (images, torch.zeros(6)), [images], {"image": images, "name": "x"}):
        assert torch.equal(model.predict_step(batch, 0)["pred_scores"], scores)
    assert model.test_step({"image": images, "name": "x"})["name"] == "x"
    for batch, said in (({"img": images}, "keys img"), ("x", "str"), ([], "list")):
        with pytest.raises(UsageError, match=f"a batch of {said}; expected"):
            model.validation_step(batch)
