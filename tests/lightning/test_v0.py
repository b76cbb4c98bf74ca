"""anomalib v0's interface: values worked out in NumPy and SciPy, shapes, errors, and a stock Trainer."""

import copy
import pickle
from argparse import Namespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from lightning import Trainer
from omegaconf import OmegaConf
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.spatial.distance import cdist
from torch import nn
from torch.utils.data import DataLoader

from patchcore.backbones import build, registry, wrap
from patchcore.errors import BackboneError, NotFittedError, UsageError
from patchcore.lightning import AnomalyModule, DynamicBufferMixin, ImageDataModule
from patchcore.lightning.v0 import AnomalyMapGenerator, DynamicBufferModule, PatchcoreLightning, PatchcoreModel

LAYERS = ["blocks.2", "blocks.4"]  # strides 8 and 16
LITE = {"layers": LAYERS, "input_size": (64, 96), "backbone": "efficientnet_lite0"}

quiet = pytest.mark.filterwarnings(
    "ignore:.*module.s. in eval mode",
    "ignore:.*does not have many workers",
    "ignore:.*No `val_dataloader`",
    "ignore:.*number of training batches",
)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(3, 3, 64, 96)), (0, 0, 3, 3))
    return torch.from_numpy(smooth / smooth.std()).float()


@pytest.fixture
def model(images) -> PatchcoreModel:
    model = PatchcoreModel(**LITE)
    model.train()
    model.subsample_embedding(model(images[:2]), 0.25)
    return model.eval()


# AnomalyMapGenerator


def distances_of(n: int, k: int = 9, seed: int = 0) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).gamma(3.0, size=(n, k)), -1).astype(np.float32)


def map_in_scipy(scores: np.ndarray, cell: int, sigma: float) -> np.ndarray:
    """Scores (h, w) -> pixels: each repeated, then a Gaussian cut at 4 sigma, the border mirrored."""
    big = scores.astype(np.float64).repeat(cell, 0).repeat(cell, 1)
    return gaussian_filter(big, sigma, mode="mirror", truncate=4.0)


@pytest.mark.parametrize("sigma", [4, 2.5])
def test_a_map_repeats_cells_and_smooths_them(sigma):
    distances = distances_of(2 * 4 * 6)
    # Two images of 4 rows and 6 columns; the shape is (width, height).
    maps = AnomalyMapGenerator((32, 48), sigma).compute_anomaly_map(torch.from_numpy(distances), torch.Size((6, 4)))
    assert maps.shape == (2, 1, 32, 48)
    for one, values in zip(maps[:, 0], distances[:, 0].reshape(2, 4, 6), strict=True):
        np.testing.assert_allclose(one, map_in_scipy(values, 8, sigma), rtol=1e-4)


def test_scores_are_per_image():
    generator, distances = AnomalyMapGenerator((32, 48)), distances_of(3 * 24)
    maps, scores = generator(patch_scores=distances, feature_map_shape=(6, 4))
    assert scores.shape == (3,)
    for i, own in enumerate(distances.reshape(3, 24, 9)):
        top = own[own[:, 0].argmax()].astype(np.float64)
        weight = 1 - np.exp(top.max()) / np.exp(top).sum()
        assert float(scores[i]) == pytest.approx(weight * own[:, 0].max(), rel=1e-5)
        assert float(generator.compute_anomaly_score(own)) == pytest.approx(float(scores[i]), rel=1e-6)
        alone, score = generator(patch_scores=own, feature_map_shape=(6, 4))
        torch.testing.assert_close(alone[0], maps[i])
        torch.testing.assert_close(score[0], scores[i])


def test_arrays_tensors_tuples_and_omegaconf_are_the_same():
    distances = distances_of(24)
    first = AnomalyMapGenerator((32, 48))(patch_scores=distances, feature_map_shape=(6, 4))
    listed = AnomalyMapGenerator(OmegaConf.create([32, 48]), sigma=4)
    second = listed(patch_scores=torch.from_numpy(distances).double(), feature_map_shape=torch.Size((6, 4)))
    assert listed.input_size == (32, 48)
    for one, other in zip(first, second, strict=True):
        assert isinstance(one, torch.Tensor)
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_the_call_names_what_is_missing_or_unknown():
    generator = AnomalyMapGenerator((32, 48))
    with pytest.raises(ValueError, match=r"Expected the keyword 'patch_scores'; got feature_map_shape"):
        generator(feature_map_shape=(6, 4))
    with pytest.raises(ValueError, match="Expected the keyword 'feature_map_shape'"):
        generator(patch_scores=distances_of(24))
    with pytest.raises(ValueError, match=r"no 'patch_score'. Did you mean 'patch_scores'"):
        generator(patch_score=distances_of(24), feature_map_shape=(6, 4))
    with pytest.raises(UsageError, match=r"no argument 'sgima'. Did you mean 'sigma'"):
        AnomalyMapGenerator((32, 48), sgima=3)


def test_shapes_that_do_not_fit_are_errors():
    generator = AnomalyMapGenerator((32, 48))
    with pytest.raises(UsageError, match=r"\(23, 9\); expected .* a multiple of 6 \* 4"):
        generator(patch_scores=distances_of(23), feature_map_shape=(6, 4))
    with pytest.raises(UsageError, match=r"expected .patches, neighbours"):
        generator.compute_anomaly_score(np.ones(5))
    with pytest.raises(UsageError, match=r"input_size is 32; expected \(height, width\)"):
        AnomalyMapGenerator(32)
    with pytest.warns(UserWarning, match="Is it the other way round"):
        generator(patch_scores=distances_of(24), feature_map_shape=(4, 6))


# PatchcoreModel


def test_the_embedding_is_pooled_aligned_to_the_nearest_cell_and_stacked(model, images):
    with torch.no_grad():
        taps = [
            tap.numpy() for tap in build("efficientnet_lite0", "pretrained", tuple(LAYERS), (64, 96)).extractor(images)
        ]
    # The mean over 3 x 3 cells counts zeros at the border; each cell of the deeper layer stands for 2 x 2.
    first, second = (uniform_filter(tap, (0, 0, 3, 3), mode="constant") for tap in taps)
    expected = np.concatenate([first, second.repeat(2, 2).repeat(2, 3)], 1)
    assert expected.shape == (3, 152, 8, 12)
    np.testing.assert_allclose(model.embed(images), expected, rtol=1e-3, atol=1e-4)


def test_generate_embedding_takes_features_by_name_in_the_order_of_the_layers(model):
    features = {
        "blocks.4": torch.ones(1, 3, 2, 3),
        "blocks.2": torch.arange(2.0).reshape(1, 2, 1, 1).expand(1, 2, 4, 6),
    }
    embedding = model.generate_embedding(features)
    assert embedding.shape == (1, 5, 4, 6)
    assert embedding[0, :, 0, 0].tolist() == [0, 1, 1, 1, 1]


def test_patches_go_image_by_image_and_row_by_row():
    embedding = torch.arange(2 * 3 * 2 * 4).reshape(2, 3, 2, 4)
    patches = PatchcoreModel.reshape_embedding(embedding)
    assert patches.shape == (16, 3)
    assert patches[0].tolist() == [0, 8, 16]
    assert patches[4].tolist() == [4, 12, 20]
    assert patches[8].tolist() == [24, 32, 40]


def test_nearest_neighbours_are_those_of_brute_force(model, images):
    patches = model.train()(images)
    found = model.nearest_neighbors(patches)
    assert found.shape == (3 * 96, 9)
    expected = np.sort(cdist(patches.double(), model.memory_bank.double()), 1)
    np.testing.assert_allclose(found, expected[:, :9], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.nearest_neighbors(patches, n_neighbors=1), expected[:, :1], rtol=1e-4, atol=1e-4)
    assert model.nearest_neighbors(model.memory_bank, 1).max() == 0  # exact near 0


def test_the_bank_is_a_share_of_the_patches_and_some_of_them(model, images):
    patches = model.train()(images[:2])
    assert patches.shape == (2 * 96, 152)
    model.subsample_embedding(patches.numpy(), 0.1)
    assert model.memory_bank.shape == (19, 152)
    assert cdist(model.memory_bank, patches).min(1).max() < 1e-4


def test_out_of_training_it_gives_a_tuple_for_each_image(model, images):
    maps, scores = model(images)
    assert maps.shape == (3, 1, 64, 96)
    assert scores.shape == (3,)
    assert scores[2] > scores[:2].max()  # the third is not in the bank
    for i in range(3):
        one_map, one_score = model(images[i : i + 1])
        torch.testing.assert_close(one_map[0], maps[i], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one_score[0], scores[i], rtol=1e-4, atol=1e-4)
    # The same, from its parts: nine distances, (width, height).
    distances = model.nearest_neighbors(PatchcoreModel.reshape_embedding(model.embed(images)))
    parts = AnomalyMapGenerator((64, 96))(patch_scores=distances, feature_map_shape=torch.Size((12, 8)))
    torch.testing.assert_close((maps, scores), parts)


def test_a_model_keeps_its_bank_in_its_state_and_in_copies(model, images):
    expected = model(images)
    fresh = PatchcoreModel(**LITE, pre_trained=False).eval()
    with pytest.raises(NotFittedError, match="memory bank is empty"):
        fresh(images)
    fresh.load_state_dict(model.state_dict())
    for other in (fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(images), expected)
    assert isinstance(model, DynamicBufferModule)
    assert isinstance(model, DynamicBufferMixin)
    assert model.get_tensor_attribute("memory_bank") is model.memory_bank


def test_wrong_arguments_say_what_was_meant():
    with pytest.raises(UsageError, match=r"no argument 'tilesize'. Did you mean 'tile_size'"):
        PatchcoreModel(**LITE, tilesize=64)
    with pytest.raises(UsageError, match="apply_tiling is set, but there is no tile_size"):
        PatchcoreModel(**LITE, apply_tiling=True)
    with pytest.raises(UsageError, match="expected a stride from 1 to the tile's side"):
        PatchcoreModel(**LITE, apply_tiling=True, tile_size=32, tile_stride=48)
    with pytest.raises(UsageError, match="not all multiples of 16"):
        PatchcoreModel(**LITE, apply_tiling=True, tile_size=40)
    with pytest.raises(BackboneError, match="layer9"):
        PatchcoreModel(["layer9"], (64, 64), "resnet18", pre_trained=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", "resnet18.tv_in1k"),
        ("wide_resnet50_2", "wide_resnet50_2.tv_in1k"),
        ("wide_resnet50_2.racm_in1k", "wide_resnet50_2.racm_in1k"),
        ("efficientnet_lite0", "efficientnet_lite0"),
        ("torchvision:resnet18", "torchvision:resnet18"),
    ],
)
def test_a_name_without_a_tag_means_torchvision_s_first_weights(name, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "pretrained_state", lambda name, model: asked.append(name) or {})
    with pytest.raises(BackboneError):  # no weights came
        PatchcoreModel(LAYERS if "lite" in name else ["layer1"], (64, 64), name)
    assert asked == [expected]


# Tiling


class Means(nn.Module):
    """A network that shows its input: the means of 8 x 8 and of 16 x 16 pixels, where no tile matters."""

    seen: ClassVar[list[tuple[int, ...]]] = []  # the shapes of what it was given; shared, as networks may be copied

    def __init__(self) -> None:
        super().__init__()
        self.still = nn.Parameter(torch.zeros(()))
        self.fine, self.coarse = nn.AvgPool2d(8), nn.AvgPool2d(2)

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return self.coarse(self.fine(x))


def of_means(size, **tiling) -> PatchcoreModel:
    """A model whose network is `Means`."""
    model = PatchcoreModel(LAYERS, size, "efficientnet_lite0", pre_trained=False, **tiling)
    model.built = wrap(Means(), ("fine", "coarse"), (32, 32))
    model.feature_extractor = model.built.extractor
    return model.eval()


@pytest.mark.parametrize(
    ("size", "tile", "stride"),
    [
        ((64, 96), 32, None),  # tiles touch
        ((64, 96), (32, 48), 16),  # they overlap
        ((80, 112), 64, 48),  # the last ones are moved back to the border
        ((48, 96), (64, 64), 32),  # a tile is higher than the image: as high as that
    ],
)
def test_a_tiled_map_is_the_untiled_one_on_the_same_features(size, tile, stride):
    plain, tiled = of_means(size), of_means(size, apply_tiling=True, tile_size=tile, tile_stride=stride)
    images = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, *size))).float()
    plain.memory_bank = tiled.memory_bank = plain.train()(images * 0.5)
    expected = plain.eval()(images)
    Means.seen.clear()
    found = tiled(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found[0].shape == (2, 1, *size)
    # One tile at a time is in the network, whatever the size of the images.
    sides = (tile, tile) if isinstance(tile, int) else tile
    assert set(Means.seen) == {(1, 3, min(sides[0], size[0]), min(sides[1], size[1]))}


def test_tiles_are_saved_with_the_model_and_honoured_when_it_comes_back(images):
    tiled = PatchcoreModel(**LITE, apply_tiling=True, tile_size=(32, 64), tile_stride=32).train()
    tiled.subsample_embedding(tiled(images[:2]), 0.25)
    expected = tiled.eval()(images)
    plain = PatchcoreModel(**LITE, pre_trained=False)
    assert not plain.apply_tiling
    plain.load_state_dict(tiled.state_dict())
    for other in (plain.eval(), copy.deepcopy(tiled)):
        assert (other.apply_tiling, other.tile_size, other.tile_stride) == (True, (32, 64), (32, 32))
        torch.testing.assert_close(other(images), expected)
    whole = PatchcoreModel(**LITE).eval()
    whole.memory_bank = tiled.memory_bank
    assert (whole(images)[1] != expected[1]).any()  # so that the above says something


# PatchcoreLightning


def nested(**tiling) -> dict:
    """The sections of a file of anomalib v0, with what other tools read of it."""
    tiling = {"apply": False, "remove_border_count": 0, **tiling}
    return {
        "dataset": {"name": "mvtec", "image_size": [64, 96], "tiling": tiling},
        "model": {"name": "patchcore", "backbone": "efficientnet_lite0", "layers": LAYERS, "num_neighbors": 5,
                  "coreset_sampling_ratio": 0.2, "metric": "auc", "normalization_method": "min_max"},
        "project": {"seed": 7, "path": "./results"},
        "trainer": {"accelerator": "auto"},
    }  # fmt: skip


def choices(model: PatchcoreLightning) -> tuple:
    m = model.model
    return (m.backbone, m.layers, m.input_size, m.tile_size, m.tile_stride, m.num_neighbors,
            model.coreset_sampling_ratio, model.seed)  # fmt: skip


FLAT = {**LITE, "apply_tiling": True, "tile_size": 32, "num_neighbors": 5, "coreset_sampling_ratio": 0.2, "seed": 7}


@pytest.mark.parametrize(
    "hparams",
    [
        FLAT,
        Namespace(**FLAT),
        nested(apply=True, tile_size=32, stride=None),
        OmegaConf.create(nested(apply=True, tile_size=32, stride=None)),
        Namespace(**{**nested(apply=True, tile_size=[32, 32]), "model": Namespace(**nested()["model"])}),
    ],
    ids=["flat", "Namespace", "sections", "OmegaConf", "nested Namespace"],
)
def test_hyperparameters_may_be_flat_or_in_sections_and_of_any_kind(hparams):
    model = PatchcoreLightning(hparams)
    expected = ("efficientnet_lite0", tuple(LAYERS), (64, 96), (32, 32), (32, 32), 5, 0.2, 7)
    assert choices(model) == expected
    assert isinstance(model, AnomalyModule)


def test_defaults_of_the_hyperparameters():
    model = PatchcoreLightning({"layers": ["layer2"], "input_size": 64, "pre_trained": False})
    assert choices(model) == ("resnet18", ("layer2",), (64, 64), None, None, 9, 0.1, 0)
    assert model.configure_optimizers() is None


@pytest.mark.parametrize(
    ("hparams", "text"),
    [
        ({**LITE, "bakbone": "x"}, "Hyperparameters: there is no key 'bakbone'. Did you mean 'backbone'"),
        ({"layers": LAYERS}, "have no input_size"),
        ({"model": {"backbone": "resnet18"}}, "have no layers and no input_size"),
        (
            {"model": {**LITE, "num_neighbours": 3}},
            "Section model: there is no key 'num_neighbours'. Did you mean 'num_n",
        ),
        (nested(aply=True), "Section dataset.tiling: there is no key 'aply'. Did you mean 'apply'"),
        (nested(use_random_tiling=True), "Section dataset.tiling: use_random_tiling got True: Input should be False"),
        (
            {"model": {**LITE, "normalization_method": "cdf"}},
            "Section model: normalization_method got 'cdf': Input should be 'min_max'",
        ),
        ({**LITE, "coreset_sampling_ratio": 0}, "coreset_sampling_ratio is 0.0; it must be above 0"),
        (
            {**LITE, "num_neighbors": "many"},
            "Hyperparameters: num_neighbors got 'many': Input should be a whole number",
        ),
        ({"model": "patchcore"}, "Section model: got 'patchcore'. Expected a dict"),
        (
            {**nested(), "dataset": {"image_size": "big"}},
            "Section dataset: image_size got 'big': Input should be a whole number",
        ),
    ],
)
def test_wrong_hyperparameters_say_what_was_meant(hparams, text):
    with pytest.raises(UsageError, match=text):
        PatchcoreLightning(hparams)


@pytest.fixture(scope="module")
def data(hazelnut) -> ImageDataModule:
    return ImageDataModule(hazelnut, train_batch_size=3, eval_batch_size=2, num_workers=0, seed=42)


@pytest.fixture(scope="module")
def fitted(data) -> tuple[PatchcoreLightning, Trainer]:
    hparams = {"layers": LAYERS, "input_size": (128, 128), "backbone": "efficientnet_lite0"}
    model = PatchcoreLightning({**hparams, "apply_tiling": True, "tile_size": 96, "tile_stride": 32})
    options = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(**model.trainer_arguments, **options)
    trainer.fit(model, data)
    return model, trainer


@quiet
def test_a_stock_trainer_fits_and_tests_it(fitted, data):
    model, trainer = fitted
    assert model.model.memory_bank.shape == (int(0.1 * len(data.train) * 256), 152)
    (metrics,) = trainer.test(model, data, verbose=False)
    assert metrics["image_AUROC"] == 1
    assert metrics["pixel_AUROC"] > 0.9


@quiet
def test_predictions_carry_maps_scores_and_verdicts(fitted, data):
    model, trainer = fitted
    batches = trainer.predict(model, data)
    assert {"image", "image_path", "label", "mask", "anomaly_maps", "pred_scores", "pred_labels", "pred_masks"} <= set(
        batches[0]
    )
    scores = torch.cat([batch["pred_scores"] for batch in batches])
    labels = torch.cat([batch["pred_labels"] for batch in batches])
    assert torch.equal(labels, scores > model.image_threshold)
    assert batches[0]["anomaly_maps"].shape == (2, 1, 128, 128)


def test_the_meta_data_come_from_good_calibration_images(fitted, data, hazelnut):
    model, _ = fitted
    transform = model.configure_transforms()
    samples = ImageDataModule(
        hazelnut, transform=transform, calibration_share=0.2, seed=42, eval_batch_size=8, num_workers=0
    )
    (batch,) = samples.val_dataloader()
    assert batch["label"].sum() == 0
    maps, scores = model.eval()(batch["image"])
    found = model.meta_data
    # Fewer good images than the false-reject rate needs: the thresholds are the largest values.
    assert found["image_threshold"] == pytest.approx(1.0001 * float(scores.max()), rel=1e-5)
    assert found["pixel_threshold"] == pytest.approx(1.0001 * float(maps.max()), rel=1e-5)
    assert found["min"] == pytest.approx(float(maps.min()), rel=1e-5)
    assert found["max"] == pytest.approx(float(maps.max()), rel=1e-5)


@quiet
def test_defective_images_do_not_change_the_meta_data(fitted, data):
    model, _ = fitted
    other = PatchcoreLightning(dict(model.hparams))
    other.load_state_dict(model.state_dict())
    images = [*data.val_dataloader().dataset, *data.test_dataloader().dataset]
    images = [{"image": one["image"], "label": one["label"]} for one in images]
    good = [one for one in images if one["label"] == 0]
    assert 2 < len(good) < len(images)
    trainer = Trainer(logger=False, enable_progress_bar=False)
    trainer.validate(other, DataLoader(images, batch_size=2), verbose=False)
    with_defects = other.meta_data
    trainer.validate(other, DataLoader(good, batch_size=2), verbose=False)
    assert other.meta_data == pytest.approx(with_defects, rel=1e-5)
    assert other.meta_data != pytest.approx(model.meta_data, rel=1e-5)


@quiet
def test_a_checkpoint_comes_back_whole_and_fetches_nothing(fitted, tmp_path, monkeypatch):
    model, trainer = fitted
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    monkeypatch.setattr(registry, "pretrained_state", lambda name, model: pytest.fail("weights were fetched"))
    stored = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert torch.equal(stored["state_dict"]["model.memory_bank"], model.model.memory_bank)
    other = PatchcoreLightning.load_from_checkpoint(tmp_path / "model.ckpt").eval()
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(image), model.eval()(image))
    assert other.meta_data == model.meta_data
    assert other.model.tile_size == (96, 96)


def test_the_steps_without_a_trainer(images):
    model = PatchcoreLightning({**LITE, "coreset_sampling_ratio": 1.0}).train()
    step = model.training_step({"image": images[:2]}, 0)
    assert step["embedding"].shape == (192, 152)
    assert step["loss"] == 0
    assert step["loss"].requires_grad
    model.fit()
    assert model.model.memory_bank.shape == (192, 152)
    batch = {"image": images, "image_path": ["a", "b", "c"], "label": torch.tensor([0, 0, 1])}
    done = model.eval().validation_step(batch, 0)
    assert set(batch) < set(done)
    assert done["anomaly_maps"].shape == (3, 1, 64, 96)
    assert done["pred_scores"].argmax() == 2
    assert "pred_labels" not in done  # there are no thresholds yet


def test_the_shapes_of_the_documentation():
    """ResNet-18 at 512 px: [b, 384, 64, 64], 32 images make [131072, 384], 10 % of which are [13107, 384]."""
    model = PatchcoreLightning({"layers": ["layer2", "layer3"], "input_size": (512, 512), "pre_trained": False})
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(1, 3, 512, 512)), (0, 0, 4, 4))
    images = torch.from_numpy(smooth / smooth.std()).float()
    assert model.model.embed(images[:1]).shape == (1, 384, 64, 64)
    model.train()
    with torch.no_grad():
        taps = model.model.taps(images)
    assert [tuple(tap.shape) for tap in taps] == [(1, 128, 64, 64), (1, 256, 32, 32)]
    model.model.taps = lambda images: taps  # the same image 32 times: only counts are of interest
    for _ in range(32):
        assert model.training_step({"image": images}, 0)["embedding"].shape == (64 * 64, 384)
    assert sum(h * w for h, w in model._seen.grids) == 131072
    model.fit()
    assert model.model.memory_bank.shape == (13107, 384)


def test_one_neighbour_makes_every_score_zero_which_is_warned_of():
    with pytest.warns(UserWarning, match="num_neighbors is 1: .* every image score is 0"):
        model = PatchcoreModel(LAYERS, (64, 64), "efficientnet_lite0", pre_trained=False, num_neighbors=1)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.train().subsample_embedding(model(images), 0.1)
    _, scores = model.eval()(images + 1)
    assert scores.tolist() == [0, 0]
