"""TorchInferencer: from a checkpoint to overlays and scores."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms
from torchvision.transforms.v2 import RandomCrop

from patchcore.backbones import registry
from patchcore.errors import DataError, ImageError, NotFittedError, StoreError, UsageError
from patchcore.inferencers import (
    Inferencer,
    PreProcessor,
    TorchInferencer,
    add_label,
    anomaly_map_to_color_map,
    get_model,
    get_model_metadata,
    read_config,
    superimpose_anomaly_map,
)
from patchcore.lightning.v0 import PatchcoreLightning
from patchcore.verdict import draw

META = {"image_threshold": 4.0, "pixel_threshold": 5.0, "min": 1.0, "max": 6.0}


@pytest.fixture(scope="module")
def inferencer(trained) -> TorchInferencer:
    return TorchInferencer(trained.folder / "config.yaml", trained.folder / "weights" / "model.ckpt")


@pytest.fixture(scope="module")
def defect(hazelnut):
    return hazelnut / "test" / "colour" / "00.jpg"


@pytest.fixture(scope="module")
def wide(defect, tmp_path_factory):
    """An image that is no square, and whose size is no multiple of anything."""
    path = tmp_path_factory.mktemp("wide") / "wide.png"
    Image.open(defect).resize((331, 207)).save(path)
    return path


def test_a_prediction_has_the_image_s_own_size(inferencer, wide):
    overlay, score = inferencer.predict(wide)
    assert overlay.shape == (207, 331, 3)
    assert overlay.dtype == np.uint8
    assert overlay.flags.writeable
    assert isinstance(score, float)
    anomaly_map, same = inferencer.predict(str(wide), superimpose=False)
    assert anomaly_map.shape == (207, 331)
    assert same == score
    assert anomaly_map.min() >= 0
    assert anomaly_map.max() <= 1
    assert np.array_equal(overlay, superimpose_anomaly_map(anomaly_map, np.asarray(Image.open(wide))))


def test_defects_score_over_a_half_and_good_parts_below(inferencer, hazelnut):
    bad = [inferencer.predict(path)[1] for path in sorted((hazelnut / "test" / "colour").iterdir())]
    good = [inferencer.predict(path)[1] for path in sorted((hazelnut / "test" / "good").iterdir())]
    assert max(good) < 0.5 < min(bad)


def test_the_flow_step_by_step(inferencer, wide):
    """pre_process, forward and post_process, each worked out with torchvision's and torch's own functions."""
    pixels = np.array(Image.open(wide))
    tensor = inferencer.pre_process(pixels)
    resized = F.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, (128, 128), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(tensor, (resized - 0.5) / 0.5, rtol=1e-4, atol=1e-4)  # the weights' mean and std
    raw_map, raw_score = inferencer.forward(tensor)
    assert raw_map.shape == (1, 1, 128, 128)
    assert raw_score.shape == (1,)
    meta = get_model_metadata(inferencer.model)
    anomaly_map, score = inferencer.post_process((raw_map, raw_score), {**meta, "image_shape": (207, 331)})
    unit = meta["max"] - meta["min"]
    assert score == pytest.approx((float(raw_score) - meta["image_threshold"]) / unit + 0.5, rel=1e-5)
    large = F.interpolate(raw_map, (207, 331), mode="bilinear")[0, 0]
    expected = ((large - meta["pixel_threshold"]) / unit + 0.5).clamp(0, 1)
    np.testing.assert_allclose(anomaly_map, expected, atol=1e-4)
    assert inferencer.predict(wide)[1] == pytest.approx(score)


def test_arrays_paths_pil_images_and_calls_are_the_same(inferencer, wide):
    overlay, score = inferencer.predict(wide)
    for image in (str(wide), Image.open(wide), np.asarray(Image.open(wide))):
        other, same = inferencer(image)
        assert same == score
        assert np.array_equal(other, overlay)


def test_grey_and_16_bit_images_are_taken(inferencer, wide):
    grey = np.asarray(Image.open(wide).convert("L"))
    _, score = inferencer.predict(np.repeat(grey[..., None], 3, -1))
    for image in (grey, grey.astype(np.uint16) * 257, grey / np.float32(255)):
        overlay, same = inferencer.predict(image)
        assert overlay.shape == (207, 331, 3)
        assert same == pytest.approx(score, rel=1e-4)


def test_meta_data_come_from_the_model_a_file_or_the_call(trained, inferencer, tmp_path, wide):
    assert set(inferencer.meta_data) == {"image_threshold", "pixel_threshold", "min", "max"}
    written = json.loads((trained.folder / "meta_data.json").read_text())
    assert written == inferencer.meta_data
    (tmp_path / "meta.json").write_text(json.dumps(META))
    other = TorchInferencer(inferencer.config, inferencer.model, tmp_path / "meta.json")
    assert other.meta_data == META
    raw = float(other.forward(other.pre_process(wide))[1])
    assert other.predict(wide)[1] == pytest.approx((raw - 4) / 5 + 0.5, rel=1e-4)
    assert inferencer.predict(wide, meta_data=META)[1] == other.predict(wide)[1]
    assert META.keys() == other.meta_data.keys()  # no image's size stays behind


def test_a_state_dict_in_safetensors_is_taken(inferencer, tmp_path, wide):
    save_file(inferencer.model.state_dict(), tmp_path / "model.safetensors")
    other = TorchInferencer(OmegaConf.create(inferencer.config), tmp_path / "model.safetensors")
    assert other.predict(wide)[1] == inferencer.predict(wide)[1]


def test_no_weights_are_fetched_for_a_file(trained, monkeypatch):
    monkeypatch.setattr(registry, "pretrained_state", lambda name, model: pytest.fail("weights were fetched"))
    TorchInferencer(trained.folder / "config.yaml", str(trained.folder / "weights" / "model.ckpt"))


def test_what_cannot_be_loaded_says_so(inferencer, trained, tmp_path):
    checkpoint, config = trained.folder / "weights" / "model.ckpt", inferencer.config
    with pytest.raises(StoreError, match="there is no such file"):
        TorchInferencer(config, tmp_path / "gone.ckpt")
    (tmp_path / "bad.ckpt").write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(StoreError, match=r"bad\.ckpt: cannot be read"):
        TorchInferencer(config, tmp_path / "bad.ckpt")
    torch.save({"state_dict": {"a": PreProcessor(image_size=8)}}, tmp_path / "objects.pt")
    with pytest.raises(StoreError, match="Expected a checkpoint or state dict with tensors only"):
        TorchInferencer(config, tmp_path / "objects.pt")
    deeper = {**config, "model": {**config["model"], "backbone": "resnet18", "layers": ["layer1"]}}
    with pytest.raises(StoreError, match="its weights are not those of the model that the configuration describes"):
        TorchInferencer(deeper, checkpoint)
    with pytest.raises(UsageError, match="model_source is a int"):
        TorchInferencer(config, 3)
    with pytest.raises(NotFittedError, match="has no memory bank"):
        TorchInferencer(config, get_model(config))
    with pytest.raises(UsageError, match="Did you mean 'meta_data_path'"):
        TorchInferencer(config, checkpoint, meta_data_pth="x")
    (tmp_path / "meta.json").write_text(json.dumps({"min": 1}))
    with pytest.raises(
        DataError, match=r"json: there is no 'image_threshold'[\s\S]* Expected JSON with image_threshold, pixel"
    ):
        TorchInferencer(config, checkpoint, tmp_path / "meta.json")
    with pytest.raises(ImageError, match="no such file"):
        inferencer.predict(tmp_path / "gone.png")


# Inferencer


class Doubled(Inferencer):
    """The smallest inferencer: a model that gives each pixel's mean."""

    def __init__(self, meta_data) -> None:
        self.model, self.meta_data = self.load_model(None), meta_data

    def load_model(self, path):
        return lambda pixels: pixels.mean(-1)

    def pre_process(self, image):
        return np.asarray(image, np.float32)

    def forward(self, image):
        return self.model(image)

    def post_process(self, predictions, meta_data=None):
        assert meta_data["image_shape"] == predictions.shape
        return self._normalize(predictions, float(predictions.max()), meta_data)


def test_a_subclass_brings_its_own_steps():
    image = np.zeros((4, 6, 3), np.uint8)
    image[1, 2] = 6
    overlay, score = Doubled(META).predict(image)
    assert overlay.shape == (4, 6, 3)
    assert score == pytest.approx((6 - 4) / 5 + 0.5)
    values, _ = Doubled(META).predict(image, superimpose=False)
    assert values[1, 2] == pytest.approx((6 - 5) / 5 + 0.5)
    assert values[0, 0] == 0  # -0.5, clipped: a map is there to be drawn
    with pytest.raises(TypeError, match="abstract"):
        Inferencer()


def test_a_score_is_not_clipped_so_that_defects_keep_their_order():
    scores = [Inferencer._normalize(np.zeros((1, 1)), raw, META)[1] for raw in (1.0, 4.0, 9.0, 90.0)]
    assert scores == pytest.approx([-0.1, 0.5, 1.5, 17.7])


@pytest.mark.parametrize("meta", [{}, {**META, "image_threshold": math.nan}, {k: META[k] for k in ("min", "max")}])
def test_incomplete_meta_data_are_an_error_and_not_an_image_without_meaning(meta):
    with pytest.raises(UsageError, match=r"have no .*image_threshold.*Validate the model on good images"):
        Doubled(meta).predict(np.zeros((4, 6, 3), np.uint8))


def test_meta_data_of_a_file_or_none(tmp_path):
    assert Doubled(META)._load_meta_data() == {}
    (tmp_path / "meta.json").write_text(json.dumps(META))
    assert Doubled(META)._load_meta_data(tmp_path / "meta.json") == META
    for content in ("[" * 1000, '{"min": ' + "[" * 1000 + "]" * 1000 + "}", "[]"):
        (tmp_path / "meta.json").write_text(content)
        with pytest.raises(DataError, match=r"meta\.json: .* Expected JSON with image_threshold, pixel"):
            Doubled(META)._load_meta_data(tmp_path / "meta.json")


# get_model


def test_a_configuration_is_read_from_a_file_a_dict_or_omegaconf(trained, inferencer):
    found = read_config(trained.folder / "config.yaml")
    assert found == read_config(found) == read_config(OmegaConf.create(found))
    model = get_model(trained.folder / "config.yaml")
    assert isinstance(model, PatchcoreLightning)
    assert model.model.input_size == (128, 128)
    assert all(math.isnan(value) for value in get_model_metadata(model).values())


def test_a_wrong_configuration_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"no model 'patchcor'. Did you mean 'patchcore'"):
        get_model({"model": {"name": "patchcor"}})
    with pytest.raises(UsageError, match="cannot be read"):
        get_model(tmp_path / "gone.yaml")
    (tmp_path / "list.yaml").write_text("- model\n")
    with pytest.raises(UsageError, match="holds a list; expected sections"):
        get_model(tmp_path / "list.yaml")


# PreProcessor


def test_an_image_is_resized_with_antialiasing_and_normalised(defect):
    pixels = np.array(Image.open(defect))
    done = PreProcessor(image_size=(96, 64))(image=pixels)["image"]
    x = F.interpolate(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, (96, 64), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(done, ((x - mean) / std)[0], rtol=1e-4, atol=1e-4)
    array = PreProcessor(image_size=(96, 64), to_tensor=False)(image=defect)["image"]
    np.testing.assert_allclose(array, done.permute(1, 2, 0), rtol=1e-5)
    assert PreProcessor(image_size=32)(image=pixels)["image"].shape == (3, 32, 32)


def test_a_mask_goes_with_its_image():
    mask = np.zeros((40, 60), bool)
    mask[:20] = True
    done = PreProcessor(image_size=(20, 30))(image=np.zeros((40, 60, 3), np.uint8), mask=mask)
    assert done["mask"].shape == (20, 30)
    assert done["mask"][:10].all()
    assert not done["mask"][10:].any()


def test_a_pre_processor_takes_a_size_or_a_transform(inferencer, defect):
    own = PreProcessor(inferencer.model.configure_transforms())
    assert torch.equal(own(image=defect)["image"][None], inferencer.pre_process(defect))
    with pytest.raises(UsageError, match=r"either a transform \(config=\) or image_size="):
        PreProcessor()
    with pytest.raises(UsageError, match="Did you mean 'image_size'"):
        PreProcessor(imagesize=224)


def turned(image, mask=None):
    raise TypeError("takes OpenCV's arrays")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("transforms.yaml", "config is 'transforms.yaml'. Expected a torchvision transform"),
        ({"resize": 3}, r"config is {'resize': 3}. Expected a torchvision transform .* albumentations"),
        (turned, "config is a function that fails on an image: TypeError: takes OpenCV's arrays. Expected"),
        (lambda *, image: {"image": image}, "fails on an image: TypeError: .*positional"),
        (lambda image: {"image": image}, "config is a function that makes a dict of an image"),
        (lambda image: image[0], r"makes a Tensor \(1024, 1280\), torch.float32 of an image"),
        (lambda image: (image * 255).byte(), "makes a Tensor .*torch.uint8 of an image"),
        (transforms.Compose([transforms.ToTensor()]), "config is a Compose that fails on an image: TypeError: "),
    ],
)
def test_a_transform_that_cannot_be_used_is_refused_when_it_is_given(config, message):
    with pytest.raises(UsageError, match=message):
        PreProcessor(config)


def test_a_transform_of_either_version_of_torchvision_is_tried_without_a_trace(defect):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    steps = [transforms.Resize((64, 96), antialias=True), transforms.RandomHorizontalFlip(0.5)]
    one = PreProcessor(transforms.Compose(steps))
    assert torch.equal(torch.get_rng_state(), before)
    assert one(image=defect)["image"].shape == (3, 64, 96)
    assert PreProcessor(RandomCrop(1000)).transforms.size == (1000, 1000)


@pytest.mark.parametrize("size", [0, (224,), (224, -1), (1, 2, 3), "224", 22.5, (2.0, 3)])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(UsageError, match=r"image_size is .*; expected a side or \(height, width\) in pixels"):
        PreProcessor(image_size=size)


# Overlays and labels


def test_colours_are_on_one_scale_for_all_images():
    calm, wild = np.full((60, 80), 0.2), np.full((60, 80), 0.2)
    calm[20:30, 20:30] = wild[20:30, 20:30] = 0.45
    wild[40:55, 50:70] = 1.0
    first, second = anomaly_map_to_color_map(calm), anomaly_map_to_color_map(wild)
    assert first.shape == (60, 80, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first[:35], second[:35])
    assert (first[0, 0] == first[0, 0, 0]).all()  # grey: nothing to see
    assert np.ptp(second[45, 60].astype(int)) > 80


def test_an_overlay_is_that_of_the_detector_at_the_same_share_of_the_threshold():
    image, values = np.full((60, 80, 3), 120, np.uint8), np.zeros((60, 80))
    values[20:40, 30:50] = 0.7
    ours = superimpose_anomaly_map(values[None], image)
    assert np.array_equal(ours, draw.overlay(image, values * 2, 1.0))


def test_an_overlay_has_the_colours_of_the_colour_map(monkeypatch):
    image, values = np.full((60, 80, 3), 120, np.uint8), np.zeros((60, 80))
    values[20:40, 30:50] = 0.7
    assert np.array_equal(superimpose_anomaly_map(values, image)[25:35, 35:45],
                          anomaly_map_to_color_map(values, image=image)[25:35, 35:45])  # fmt: skip
    blue = np.full((60, 80, 3), (0, 0, 255), np.uint8)
    monkeypatch.setattr("patchcore.inferencers.visuals.anomaly_map_to_color_map", lambda values, image: blue)
    overlay = superimpose_anomaly_map(values, image)
    assert np.array_equal(overlay[25:35, 35:45], blue[25:35, 35:45])
    assert (overlay[20, 35:45] == 0).all()  # the outline


def test_a_label_says_score_and_verdict():
    image = np.full((200, 300, 3), 120, np.uint8)
    labelled = add_label(image, 0.87)
    assert labelled.shape == image.shape
    assert (image == 120).all()  # a copy
    changed = (labelled != image).any(-1)
    assert changed[:12, :60].mean() > 0.98  # on white; letters have a few greys as light as the image
    assert not changed[40:].any()
    assert not np.array_equal(labelled, add_label(image, 0.88))
    tiny = add_label(image[:24, :24].copy(), 0.87)
    assert tiny.shape == (24, 24, 3)


def test_files_of_a_training_can_be_moved(trained, inferencer, tmp_path, wide):
    shutil.copytree(trained.folder, tmp_path / "moved")
    moved = TorchInferencer(
        tmp_path / "moved/config.yaml", tmp_path / "moved/weights/model.ckpt", tmp_path / "moved/meta_data.json"
    )
    assert moved.predict(wide)[1] == inferencer.predict(wide)[1]
