"""PreProcessor, and what else version 2 gives to a Patchcore."""

import warnings

import pytest
import torch
from torchvision.transforms.v2 import CenterCrop, Compose, Grayscale, Normalize, Resize

from patchcore import UsageError
from patchcore.lightning import Engine, Patchcore, detector_of
from patchcore.lightning.data import MVTecAD
from patchcore.lightning.pre_processing import PreProcessor, given, kept

NETWORK = {"backbone": "efficientnet_lite0", "layers": ("blocks.2", "blocks.4"), "coreset_sampling_ratio": 0.01}
IMAGE = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))


def test_their_transform_has_no_crop_unless_it_is_asked_for():
    (resize, normalise) = Patchcore.configure_pre_processor().transform.transforms
    assert (resize.size, resize.antialias, normalise.mean) == ([256, 256], True, [0.485, 0.456, 0.406])
    cropped = Patchcore.configure_pre_processor((64, 48), center_crop_size=(32, 40))
    assert cropped(IMAGE).shape == (3, 32, 40)
    assert cropped.export_transform is cropped.transform
    with pytest.raises(UsageError, match=r"center_crop_size is \(65, 40\); it must be at most image_size, \(64, 48\)"):
        Patchcore.configure_pre_processor((64, 48), (65, 40))


def test_a_model_reads_images_as_its_pre_processor_says_also_from_a_checkpoint(hazelnut, tmp_path):
    own = Compose([Resize((64, 64), antialias=True), Normalize([0.4] * 3, [0.3] * 3)])
    model = Patchcore(**NETWORK, pre_processor=PreProcessor(transform=own))
    assert model.configure_transforms() is model.pre_processor.transform is own
    assert model.configure_transforms((80, 96)).transforms[0].size == [80, 96]  # as of PredictDataset: before it
    data = MVTecAD(hazelnut.parent, "hazelnut", num_workers=0)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    engine = Engine(default_root_dir=tmp_path, **quiet)
    engine.fit(model, datamodule=data)
    assert data.eval_transform is own
    again = Patchcore.load_from_checkpoint(engine.best_model_path)
    torch.testing.assert_close(again.configure_transforms()(IMAGE), own(IMAGE))
    recipe = detector_of(again).fitted.recipe
    assert (recipe.size, recipe.crop, detector_of(again).fitted.members[0].backbone.source.mean) == (
        (64, 64), None, (0.4, 0.4, 0.4),
    )  # fmt: skip


def test_a_checkpoint_says_of_another_transform_that_it_is_needed_again():
    for transform in (Resize((64, 48), interpolation=3), Compose([Resize(64, antialias=True), CenterCrop(32)])):
        torch.testing.assert_close(given(kept(transform))(IMAGE), transform(IMAGE))
    described = kept(Compose([Grayscale(3), Resize((64, 64))]))
    with pytest.raises(UsageError, match=r"a transform that is not kept, Compose\((.|\n)*Give it again: load_from"):
        Patchcore(**NETWORK, pre_processor=described)


def test_what_version_2_gives_a_model_is_honoured_or_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Patchcore(**NETWORK, precision="float32", pre_processor=True, post_processor=True, evaluator=True)
    assert set(model.hparams) == {"backbone", "layers", "pre_trained", "coreset_sampling_ratio", "num_neighbors"}
    for name, value, message in (
        ("precision", "float16", "precision is 'float16'; a model computes in float32"),
        ("post_processor", False, r"post_processor is not supported: thresholds come from .*Engine\(normalization"),
        ("pre_processor", False, "pre_processor is False; expected True, for the model's own transform"),
        ("pre_processor", object(), "pre_processor is <object object"),
    ):
        with pytest.raises(UsageError, match=message):
            Patchcore(**NETWORK, **{name: value})
    for name, message in (
        ("evaluator", r"evaluator has no effect: Engine\(image_metrics=, pixel_metrics=\) chooses"),
        ("visualizer", "visualizer has no effect: testing and predicting draw nothing"),
    ):
        with pytest.warns(UserWarning, match=message):
            Patchcore(**NETWORK, **{name: object()})
    with pytest.raises(UsageError, match="transform is a str; expected a transform of torchvision"):
        PreProcessor("resize")
