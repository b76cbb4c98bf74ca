"""PatchcoreModel, against NumPy and SciPy straight from the paper and from what anomalib is known to compute."""

import copy
import inspect

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter
from scipy.spatial.distance import cdist

from patchcore import BackboneError, NotFittedError, UsageError, WeightsError
from patchcore.backbones.registry import network
from patchcore.lightning import PatchcoreModel

LAYERS = ("blocks.2", "blocks.4")


@pytest.fixture(scope="module")
def model() -> PatchcoreModel:
    return PatchcoreModel(LAYERS, "efficientnet_lite0")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 96, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def taps(images) -> list[np.ndarray]:
    """The two layers, read from the network by its own hooks."""
    lite0, found = network("efficientnet_lite0", "pretrained", (96, 64))[0].eval(), {}
    for name in LAYERS:
        lite0.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: found.__setitem__(name, o))
    with torch.no_grad():
        lite0(images)
    return [found[name].double().numpy() for name in LAYERS]


def bilinear(tap: np.ndarray, height: int, width: int) -> np.ndarray:
    """(C, h, w) -> (C, height, width), pixel centres at half integers."""
    rows, columns = (
        (np.arange(n) + 0.5) * old / n - 0.5 for n, old in zip((height, width), tap.shape[1:], strict=True)
    )
    where = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([map_coordinates(plane, where, order=1, mode="nearest") for plane in tap])


def pooled(tap: np.ndarray) -> np.ndarray:
    """The mean over 3 x 3 cells, zeros around the border counted."""
    return uniform_filter(tap, (0, 0, 3, 3), mode="constant")


@pytest.fixture(scope="module")
def embedding(taps) -> np.ndarray:
    """(B, D, h, w)"""
    first, second = (pooled(tap) for tap in taps)
    return np.concatenate([first, np.stack([bilinear(one, *first.shape[2:]) for one in second])], 1)


def eq_7(patches: np.ndarray, bank: np.ndarray, b: int) -> float:
    """The image score of one image's patches."""
    distances = cdist(patches, bank)
    p = distances.min(1).argmax()
    m = distances[p].argmin()
    around = cdist(bank[m : m + 1], bank)[0].argsort()[:b]
    weights = np.exp(distances[p, around]) / np.exp(distances[p, around]).sum()
    return float((1 - weights[0]) * distances[p, m])


def test_the_signature_is_the_documented_one():
    parameters = inspect.signature(PatchcoreModel).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "layers": inspect.Parameter.empty,
        "backbone": "wide_resnet50_2",
        "pre_trained": True,
        "num_neighbors": 9,
    }


def test_in_training_an_image_becomes_its_patches(model, images, embedding):
    patches = model.train()(images)
    expected = embedding.transpose(0, 2, 3, 1).reshape(-1, 152)
    assert patches.shape == (3 * 12 * 8, 152)
    np.testing.assert_allclose(patches, expected, rtol=1e-3, atol=1e-4)


def test_generate_embedding_aligns_and_stacks_pooled_layers(model, taps):
    features = {name: torch.from_numpy(pooled(tap)).float() for name, tap in zip(LAYERS, taps, strict=True)}
    made = model.generate_embedding(features)
    assert made.shape == (3, 40 + 112, 12, 8)
    torch.testing.assert_close(made[:, :40], features["blocks.2"])
    expected = bilinear(features["blocks.4"][1].double().numpy(), 12, 8)
    np.testing.assert_allclose(made[1, 40:], expected, rtol=1e-4, atol=1e-5)


def test_reshape_embedding_goes_image_by_image_and_row_by_row():
    values = torch.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    rows = PatchcoreModel.reshape_embedding(values)
    assert rows.tolist()[:3] == [[0, 4, 8], [1, 5, 9], [2, 6, 10]]
    assert rows.tolist()[4] == [12, 16, 20]


@pytest.mark.parametrize("b", [9, 3, 1])
def test_otherwise_it_becomes_a_score_and_a_map(model, images, embedding, b):
    rows = embedding.transpose(0, 2, 3, 1).reshape(3, -1, 152)
    bank = rows[0]
    fitted = copy.deepcopy(model).eval()
    fitted.num_neighbors, fitted.memory_bank = b, torch.from_numpy(bank).float()
    found = fitted(images[1:])
    assert found.keys() == {"anomaly_map", "pred_score"}
    assert found["pred_score"].shape == (2,)
    assert found["anomaly_map"].shape == (2, 1, 96, 64)
    for i in (0, 1):
        distances = cdist(rows[i + 1], bank).min(1)
        expected = distances.max() if b == 1 else eq_7(rows[i + 1], bank, b)
        assert float(found["pred_score"][i]) == pytest.approx(expected, rel=1e-3)
        upsampled = distances.reshape(12, 8).repeat(8, 0).repeat(8, 1)
        smoothed = gaussian_filter(upsampled, 4, mode="mirror", truncate=4)
        np.testing.assert_allclose(found["anomaly_map"][i, 0], smoothed, rtol=1e-3)


def test_a_batch_scores_as_its_images_do(model, images):
    fitted = copy.deepcopy(model)
    fitted.subsample_embedding(fitted.train()(images[:1]), 0.5)
    fitted.eval()
    singles = torch.cat([fitted(one[None])["pred_score"] for one in images])
    torch.testing.assert_close(fitted(images)["pred_score"], singles, rtol=1e-4, atol=1e-4)


def small(b: int = 2) -> PatchcoreModel:
    """Three bank rows on a line, whose scores can be worked out by hand."""
    model = PatchcoreModel(("blocks.0",), "efficientnet_lite0", pre_trained=False, num_neighbors=b)
    model.memory_bank = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0]])
    return model


def test_neighbours_and_scores_worked_out_by_hand():
    model = small()
    patches = torch.tensor([[3.0, 0.0], [1.0, 0.5], [10.0, 1.0], [-1.0, 0.0]])
    distances, rows = model.nearest_neighbors(patches, 1)
    assert distances.tolist() == [2, 0.5, 1, 1]
    assert rows.tolist() == [1, 1, 2, 0]
    distances, rows = model.nearest_neighbors(patches[:2], n_neighbors=2)
    torch.testing.assert_close(distances, torch.tensor([[2, 3], [0.5, 1.25**0.5]]))
    assert rows.tolist() == [[1, 0], [1, 0]]
    # Two images of two patches. (3, 0) is 2 from (1, 0), whose nearest rows are itself and (0, 0), 3
    # away. (10, 1) is 1 from (10, 0), whose nearest others is (1, 0), sqrt(82) away; (-1, 0) ties with it,
    # and the first counts.
    scores = model.compute_anomaly_score(torch.tensor([[2, 0.5], [1, 1]]), torch.tensor([[1, 1], [2, 0]]), patches)
    e = np.e
    expected = [2 * (1 - e**2 / (e**2 + e**3)), 1 - e / (e + e ** (82**0.5))]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_with_one_neighbour_the_score_is_the_highest_patch_score():
    scores = small(1).compute_anomaly_score(
        torch.tensor([[2, 0.5], [1, 4]]), torch.zeros(2, 2).long(), torch.rand(4, 2)
    )
    assert scores.tolist() == [2, 4]


def test_more_neighbours_than_rows_are_all_rows():
    distances, rows = small(9).nearest_neighbors(torch.zeros(1, 2), 9)
    assert distances.tolist() == [[0, 1, 10]]
    assert rows.tolist() == [[0, 1, 2]]


def test_euclidean_dist_is_exact_where_the_product_formula_is_not():
    x = torch.randn(40, 152, generator=torch.Generator().manual_seed(0)) * 3 + 2
    near = x + 1e-4
    found = PatchcoreModel.euclidean_dist(x, near)
    assert found.shape == (40, 40)
    np.testing.assert_allclose(found, cdist(x.double(), near.double()), rtol=1e-5)
    assert float(PatchcoreModel.euclidean_dist(x, x).diagonal().abs().max()) == 0


def test_subsample_embedding_keeps_a_covering_share():
    model, rows = small(), np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    model.subsample_embedding(rows, 0.2)
    assert model.memory_bank.shape == (10, 4)
    distances = cdist(rows, model.memory_bank)
    assert (distances.min(0) == 0).all()  # they are rows of the embedding
    assert len(np.unique(distances.argmin(0))) == 10
    # Ten random rows do not cover the others as well.
    chance = [cdist(rows, rows[np.random.default_rng(i).permutation(50)[:10]]).min(1).max() for i in range(20)]
    assert distances.min(1).max() < np.mean(chance)
    model.subsample_embedding(torch.from_numpy(rows), 1.0)
    assert torch.equal(model.memory_bank, torch.from_numpy(rows))


def test_a_bank_that_is_assigned_or_changed_is_the_one_that_is_searched():
    model, patch = small(), torch.tensor([[3.0, 0.0]])
    assert model.nearest_neighbors(patch, 1)[0].item() == 2
    model.memory_bank = torch.tensor([[3.0, 1.0]])
    assert model.nearest_neighbors(patch, 1)[0].item() == 1
    model.memory_bank += 1
    assert model.nearest_neighbors(patch, 1)[0].item() == pytest.approx(5**0.5)


def test_weights_that_are_changed_are_the_ones_that_run(model, images):
    changed = copy.deepcopy(model).train()
    before = changed(images[:1])
    torch.testing.assert_close(before, model.train()(images[:1]))
    random = PatchcoreModel(LAYERS, "efficientnet_lite0", pre_trained=False)
    changed.feature_extractor.load_state_dict(random.feature_extractor.state_dict())
    torch.testing.assert_close(changed(images[:1]), random.train()(images[:1]))
    assert (changed(images[:1]) - before).abs().max() > 0.1


def test_a_state_dict_brings_the_bank_and_the_weights(model, images):
    fitted = copy.deepcopy(model)
    fitted.subsample_embedding(fitted.train()(images[:2]), 0.1)
    assert fitted.memory_bank.shape == (19, 152)
    other = PatchcoreModel(LAYERS, "efficientnet_lite0", pre_trained=False)
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other.memory_bank, fitted.memory_bank)
    for name, tensor in fitted.eval()(images).items():
        torch.testing.assert_close(other.eval()(images)[name], tensor)
    for name, tensor in copy.deepcopy(other)(images).items():
        torch.testing.assert_close(other(images)[name], tensor)


def test_what_comes_after_the_deepest_layer_is_not_kept(model):
    names = {name.split(".")[1] for name in model.feature_extractor.state_dict()}
    assert "conv_stem" in names
    assert not names & {"conv_head", "bn2", "classifier"}
    kept = {".".join(name.split(".")[:3]) for name in model.feature_extractor.state_dict()}
    assert "model.blocks.4" in kept
    assert "model.blocks.5" not in kept


def test_strides_stand_for_layers_and_pre_trained_may_be_a_file(model, images, tmp_path):
    save_file(network("efficientnet_lite0", "pretrained", (64, 64))[0].state_dict(), tmp_path / "lite0.safetensors")
    local = PatchcoreModel((8, 16), "tf_efficientnet_lite0", pre_trained=str(tmp_path / "lite0.safetensors"))
    torch.testing.assert_close(local.train()(images[:1]), model.train()(images[:1]))
    assert local.source.mean == (0.5, 0.5, 0.5)


def test_the_network_never_trains(model, images):
    before = copy.deepcopy(model.feature_extractor.state_dict())
    assert not model.train()(images).requires_grad
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for name, tensor in model.feature_extractor.state_dict().items():
        assert torch.equal(tensor, before[name])  # neither do batch statistics move


def test_images_in_bfloat16_are_scored_in_single_precision(model, images):
    fitted = copy.deepcopy(model)
    fitted.subsample_embedding(fitted.train()(images[:1]), 0.2)
    exact = fitted.eval()(images)["pred_score"]
    with torch.autocast("cpu", torch.bfloat16):
        found = fitted(images)
    assert found["pred_score"].dtype == found["anomaly_map"].dtype == torch.float32
    torch.testing.assert_close(found["pred_score"], exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.float16])
@pytest.mark.parametrize("training", [True, False])
def test_images_of_another_type_than_the_network_are_refused(model, images, dtype, training):
    with pytest.raises(UsageError, match=rf"Images of {dtype}; expected torch\.float32, normalised: \(pixels / 255"):
        copy.deepcopy(model).train(training)(images.to(dtype))
    patches = copy.deepcopy(model).double().train()(images.double())
    torch.testing.assert_close(patches, model.train()(images), rtol=1e-3, atol=1e-3)


def test_errors_say_what_to_do():
    with pytest.raises(UsageError, match="Did you mean 'backbone'"):
        PatchcoreModel(LAYERS, backbon="resnet18")
    with pytest.raises(UsageError, match="num_neighbors is 0"):
        PatchcoreModel(LAYERS, "efficientnet_lite0", num_neighbors=0)
    with pytest.raises(BackboneError, match=r"'blocks\.77' is not a module"):
        PatchcoreModel(("blocks.77",), "efficientnet_lite0", pre_trained=False)
    with pytest.raises(WeightsError, match=r"none\.pt cannot be read"):
        PatchcoreModel(LAYERS, "efficientnet_lite0", pre_trained="none.pt")
    empty = PatchcoreModel(("blocks.0",), "efficientnet_lite0", pre_trained=False).eval()
    with pytest.raises(NotFittedError, match=r"The memory bank is empty\. Fit the model"):
        empty(torch.zeros(1, 3, 64, 64))
