"""One list of what a user expects, over `Detector` and both of the other systems' interfaces."""

import math

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image
from torch import Tensor

from patchcore import DataError, Detector, NotFittedError, PatchcoreError, Recipe
from patchcore.backbones import build
from patchcore.inspection import GreedyCoresetSampler, PatchCore
from patchcore.lightning import Patchcore

SIDE = 128
LAYERS = ("blocks.2", "blocks.4")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:.*across ranks is zero"),
]


def tensors(images: list[np.ndarray]) -> Tensor:
    """(N, 3, H, W), normalised as Lite0 wants it; grey images keep their one channel."""
    values = [torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1) / 255 for image in images]
    return (torch.stack(values) - 0.5) / 0.5 if values else torch.empty(0, 3, SIDE, SIDE)


class OfDetector:
    def __init__(self) -> None:
        recipe = Recipe(
            size=SIDE, resize="stretch", ratio=0.05, min_rows=1, calibration_share=0, image_score="max", seed=3
        )
        self.model = Detector(recipe)

    def fit(self, images: list[np.ndarray]) -> None:
        self.model.fit(images)

    def scores(self, images: list[np.ndarray]) -> list[float]:
        return [result.score for result in self.model.predict(images)]

    def maps(self, images: list[np.ndarray]) -> list[np.ndarray]:
        return [result.map for result in self.model.predict(images)]

    def bank(self) -> Tensor:
        return self.model.fitted.members[0].bank.rows

    def moved(self, folder):
        self.model.save(folder / "a.patchcore")
        self.model = Detector.load(folder / "a.patchcore")


class OfLightning:
    def __init__(self) -> None:
        self.model = Patchcore("efficientnet_lite0", LAYERS, coreset_sampling_ratio=0.05)

    def trainer(self, **options) -> Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **options)

    def fit(self, images: list[np.ndarray]) -> None:
        loader = torch.utils.data.DataLoader(list(tensors(images)), batch_size=4)
        self.last = self.trainer(**self.model.trainer_arguments)
        self.last.fit(self.model.train(), loader)

    def predicted(self, images: list[np.ndarray]) -> dict[str, Tensor]:
        self.model.eval()
        with torch.no_grad():
            return self.model(tensors(images))

    def scores(self, images: list[np.ndarray]) -> list[float]:
        return self.predicted(images)["pred_score"].tolist() if images else []

    def maps(self, images: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.predicted(images)["anomaly_map"][:, 0].numpy())

    def bank(self) -> Tensor:
        return self.model.model.memory_bank

    def moved(self, folder):
        self.last.save_checkpoint(folder / "a.ckpt")
        self.model = Patchcore.load_from_checkpoint(folder / "a.ckpt")


class OfInspection:
    def __init__(self) -> None:
        self.network = build("efficientnet_lite0", "pretrained", LAYERS, (SIDE, SIDE)).extractor.model
        self.model = PatchCore("cpu")
        self.model.load(
            self.network, LAYERS, "cpu", (3, SIDE, SIDE), 64, 64, featuresampler=GreedyCoresetSampler(0.05, "cpu")
        )

    def loader(self, images: list[np.ndarray]) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(list(tensors(images)), batch_size=4)

    def fit(self, images: list[np.ndarray]) -> None:
        self.model.fit(self.loader(images))

    def scores(self, images: list[np.ndarray]) -> list[float]:
        return [float(score) for score in self.model.predict(self.loader(images))[0]]

    def maps(self, images: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.model.predict(tensors(images))[1])

    def bank(self) -> Tensor:
        return torch.as_tensor(self.model.anomaly_scorer.nn_method.rows())

    def moved(self, folder):
        self.model.save_to_path(folder)
        self.model = PatchCore("cpu")
        self.model.load_from_path(folder, "cpu", backbone=self.network)


INTERFACES = {"Detector": OfDetector, "lightning": OfLightning, "inspection": OfInspection}


@pytest.fixture(scope="module")
def good(hazelnut) -> list[np.ndarray]:
    return [read(path) for path in sorted((hazelnut / "train/good").iterdir())[:5]]


@pytest.fixture(scope="module")
def new(hazelnut) -> list[np.ndarray]:
    return [read(hazelnut / "test/good/04.jpg"), read(hazelnut / "test/colour/00.jpg")]


def read(path) -> np.ndarray:
    return np.array(Image.open(path).resize((SIDE, SIDE)))


@pytest.fixture(params=INTERFACES)
def empty(request):
    return INTERFACES[request.param]()


@pytest.fixture(scope="module", params=INTERFACES)
def fitted(request, good):
    one = INTERFACES[request.param]()
    one.fit(good)
    return one


def test_a_defect_scores_higher_than_a_good_part_and_the_map_shows_it(fitted, new):
    scores = fitted.scores(new)
    assert scores[1] > scores[0] > 0
    calm, loud = fitted.maps(new)
    assert calm.shape == loud.shape == (SIDE, SIDE)
    assert loud.max() > calm.max()


def test_an_image_that_was_learned_scores_less_than_a_new_one(fitted, good, new):
    assert max(fitted.scores(good)) < fitted.scores(new)[1]


def test_a_batch_gives_what_its_images_give_alone(fitted, good, new):
    images = [*new, *good]
    alone = [fitted.scores([image])[0] for image in images]
    assert fitted.scores(images) == pytest.approx(alone, rel=1e-5, abs=1e-5)


def test_no_images_give_no_results(fitted):
    assert fitted.scores([]) == []


def test_predicting_leaves_the_bank_alone(fitted, new):
    before = fitted.bank().clone()
    fitted.scores(new)
    assert torch.equal(fitted.bank(), before)


def test_predicting_before_fitting_says_what_to_do(empty, new):
    with pytest.raises(NotFittedError, match=r"[Ff]it"):
        empty.scores(new)


def test_fitting_on_nothing_says_what_to_do(empty):
    with pytest.raises((DataError, NotFittedError), match=r"good images|training images"):
        empty.fit([])


def test_one_image_is_enough_to_fit(empty, good, new):
    empty.fit(good[:1])
    assert len(empty.bank()) >= 1
    assert all(score > 0 and math.isfinite(score) for score in empty.scores(new))


def test_a_second_fit_forgets_the_first(empty, good, new):
    empty.fit(good[:3])
    first, scores = empty.bank().clone(), empty.scores(new)
    empty.fit(good[3:])
    assert not torch.equal(empty.bank(), first)
    empty.fit(good[:3])
    assert torch.equal(empty.bank(), first)
    assert empty.scores(new) == scores


def test_saved_and_loaded_it_gives_the_same_scores(empty, good, new, tmp_path):
    empty.fit(good)
    scores, maps = empty.scores(new), empty.maps(new)
    empty.moved(tmp_path)
    assert empty.scores(new) == pytest.approx(scores, rel=1e-6)
    np.testing.assert_allclose(empty.maps(new), maps, rtol=1e-5, atol=1e-6)


def test_grey_images_count_as_images_with_three_equal_channels(fitted, new):
    grey = [image.mean(2).astype(np.uint8) for image in new]
    three = [np.stack([image] * 3, 2) for image in grey]
    assert fitted.scores(grey) == pytest.approx(fitted.scores(three), rel=1e-6)


def test_an_image_of_another_size_is_scored_or_refused_by_name(fitted, new):
    larger = [np.array(Image.fromarray(image).resize((192, 160))) for image in new]
    if isinstance(fitted, OfInspection):  # whose maps have the one size that it was told of
        with pytest.raises(PatchcoreError, match=rf"160.*192.*{SIDE}"):
            fitted.scores(larger)
    else:
        scores = fitted.scores(larger)
        assert scores[1] > scores[0] > 0
