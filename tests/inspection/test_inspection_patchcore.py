import inspect
import weakref

import inspection_golden as golden
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from patchcore import DataError, Detector, NotFittedError, Recipe, UsageError, WeightsError
from patchcore.inspection import (
    Aggregator,
    ApproximateGreedyCoresetSampler,
    ExactNN,
    FaissNN,
    IdentitySampler,
    NearestNeighbourScorer,
    NetworkFeatureAggregator,
    PatchCore,
    PatchMaker,
    Preprocessing,
    RescaleSegmentor,
)

GRID = (10, 12)  # of the layer `low` for images of 40 x 48


def half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).astype(np.float32)


def loader(images: torch.Tensor, masks: torch.Tensor | None = None, batch_size: int = 2) -> DataLoader:
    """Batches of dicts, as a dataset of patchcore-inspection gives them."""
    items = [{"image": image, "is_anomaly": i % 2} for i, image in enumerate(images)]
    for i, item in enumerate(items):
        item["mask"] = torch.full((1, 40, 48), float(i)) if masks is None else masks[i]
    return DataLoader(items, batch_size=batch_size)


# The whole, against NumPy


@pytest.mark.parametrize(("patchsize", "patchstride"), [(3, 1), (5, 1), (1, 1), (3, 2), (2, 1)])
@pytest.mark.parametrize("layers", [["low", "high"], ["high", "low"], ["high"]])
def test_embeddings_are_those_of_the_documents(patchsize, patchstride, layers, make, network, new):
    model = make(patchsize=patchsize, patchstride=patchstride, layers_to_extract_from=layers)
    taps = dict(zip(("low", "high"), network.taps(new), strict=True))
    expected = golden.patches([taps[name] for name in layers], patchsize, patchstride, 32, 24)
    rows = model.embed(new)
    assert isinstance(rows, list)
    np.testing.assert_allclose(np.stack(rows), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("search", [ExactNN, FaissNN])
def test_scores_and_masks_are_those_of_the_documents(k, search, make, network, good, new):
    model = make(anomaly_score_num_nn=k, nn_method=search())
    model.fit([good])
    bank = half(golden.patches(network.taps(good), 3, 1, 32, 24))
    patches = golden.patches(network.taps(new), 3, 1, 32, 24)
    nearest = np.sort(golden.squared_distances(patches, bank), 1)[:, :k].mean(1).reshape(2, *GRID)
    scores, masks = model.predict(new)
    np.testing.assert_allclose(scores, nearest.max((1, 2)), rtol=1e-3)
    for mask, one in zip(masks, nearest, strict=True):
        assert (mask.shape, mask.dtype) == ((40, 48), np.float32)
        np.testing.assert_allclose(mask, golden.segmentation(one, (40, 48)), rtol=2e-3, atol=1e-6)
    # The score is that of the grid; the map is smoothed, and its highest value another one.
    assert scores[0] > masks[0].max()


def test_the_coreset_is_that_of_the_sampler(make, good):
    torch.manual_seed(5)
    model = make(featuresampler=ApproximateGreedyCoresetSampler(0.2, "cpu"))
    model.fit([good])
    every = half(np.stack(model.embed(good)))
    np.testing.assert_array_equal(
        model.anomaly_scorer.nn_method.rows(), ApproximateGreedyCoresetSampler(0.2, "cpu").run(every)
    )


def test_modules_of_the_caller_s_own_take_part(make, network, good, new):
    class Doubling(Aggregator):
        def forward(self, features):
            return 2 * super().forward(features)

    model = make()
    plain = np.stack(model.embed(new))
    model.forward_modules["preadapt_aggregator"] = Doubling(24)
    np.testing.assert_allclose(np.stack(model.embed(new)), 2 * plain, rtol=1e-4, atol=1e-5)


# The recipe `inspection` through Detector


@pytest.mark.parametrize("k", [1, 2])
def test_a_detector_with_the_recipe_inspection_is_the_same(k, network, hazelnut):
    from PIL import Image

    def pixels(folder):
        paths = sorted((hazelnut / folder).iterdir())[:3]
        return [np.asarray(Image.open(path).resize((64, 64))) for path in paths]

    good, new = pixels("train/good"), pixels("test/colour")
    recipe = Recipe.named("inspection").replace(
        taps=("low", "high"), size=64, crop=56, tap_bins=32, bins=24, neighbours=k, calibration_share=0, seed=4
    )
    detector = Detector(recipe, backbone=network).fit(good)

    def tensor(images):
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[..., 4:60, 4:60] / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)

    torch.manual_seed(4)
    model = PatchCore("cpu")
    sampler = ApproximateGreedyCoresetSampler(0.1, "cpu")
    model.load(network, ["low", "high"], "cpu", (3, 56, 56), 32, 24, anomaly_score_num_nn=k, featuresampler=sampler)
    model.fit([tensor(good)])
    np.testing.assert_array_equal(model.anomaly_scorer.nn_method.rows(), detector.fitted.members[0].bank.rows)
    scores, masks = model.predict(tensor(new))
    for score, mask, result in zip(scores, masks, detector.predict(new), strict=True):
        assert score == pytest.approx(result.score, rel=1e-5)
        np.testing.assert_allclose(mask, result.map[4:60, 4:60], rtol=1e-4, atol=1e-6)


# Shapes, names and defaults


def test_a_loaded_model_has_the_documented_parts(make, network):
    model = make()
    assert list(model.forward_modules) == ["feature_aggregator", "preprocessing", "preadapt_aggregator"]
    kinds = [NetworkFeatureAggregator, Preprocessing, Aggregator]
    assert [type(module) for module in model.forward_modules.values()] == kinds
    assert isinstance(model.forward_modules, nn.ModuleDict)
    assert model.forward_modules["preprocessing"].output_dim == 32
    assert model.forward_modules["preadapt_aggregator"].target_dim == 24
    assert isinstance(model.patch_maker, PatchMaker)
    assert (model.patch_maker.patchsize, model.patch_maker.stride) == (3, 1)
    assert isinstance(model.anomaly_scorer, NearestNeighbourScorer)
    assert model.anomaly_scorer.n_nearest_neighbours == 1
    assert isinstance(model.anomaly_segmentor, RescaleSegmentor)
    assert model.anomaly_segmentor.target_size == (40, 48)
    assert isinstance(model.featuresampler, IdentitySampler)
    assert model.backbone is network
    assert model.layers_to_extract_from == ["low", "high"]
    assert model.input_shape == (3, 40, 48)
    assert model.device == torch.device("cpu")
    assert isinstance(model, nn.Module)


def test_defaults_are_made_per_call_and_never_shared(make):
    one, two = make(), make()
    assert one.anomaly_scorer.nn_method is not two.anomaly_scorer.nn_method
    assert one.featuresampler is not two.featuresampler


def test_loaders_give_labels_and_masks_too(fitted, new):
    masks = torch.zeros(2, 1, 40, 48)
    masks[1, 0, 3, 4] = 1
    scores, maps, labels_gt, masks_gt = fitted.predict(loader(new, masks))
    alone, maps_alone = fitted.predict(new)
    np.testing.assert_allclose(scores, alone, rtol=1e-5)
    np.testing.assert_allclose(maps, maps_alone, rtol=1e-4, atol=1e-6)
    assert labels_gt == [0, 1]
    np.testing.assert_array_equal(np.array(masks_gt), masks)


def test_loaders_of_plain_tensors_and_of_pairs_have_no_labels(fitted, new):
    for batches in ([new], [(new, torch.tensor([0, 1]))], [[new[:1], 0], [new[1:], 1]]):
        scores, maps, labels_gt, masks_gt = fitted.predict(batches)
        assert (len(scores), len(maps), labels_gt, masks_gt) == (2, 2, [], [])


def test_embed_gives_rows_of_a_tensor_and_lists_of_a_loader(make, new):
    model = make()
    rows = model.embed(new)
    assert (len(rows), rows[0].shape) == (2 * 120, (24,))
    batches = model.embed(loader(new, batch_size=1))
    assert [len(batch) for batch in batches] == [120, 120]
    np.testing.assert_allclose(np.stack([*batches[0], *batches[1]]), np.stack(rows), rtol=1e-5, atol=1e-6)
    tensor, shapes = model._embed(new, detach=False, provide_patch_shapes=True)
    assert isinstance(tensor, torch.Tensor)
    assert shapes == [[10, 12], [5, 6]]


def test_rows_are_in_the_order_of_images_and_then_of_the_grid(make, good):
    model = make(layers_to_extract_from=["low"], patchsize=1, pretrain_embed_dimension=8, target_embed_dimension=8)
    rows = np.stack(model.embed(good))
    low = model.backbone.taps(good)[0]
    np.testing.assert_allclose(rows[120 + 2 * 12 + 5], low[1, :, 2, 5], rtol=1e-5, atol=1e-6)


# Arguments


def test_the_swallowed_keyword_counts_and_is_warned_of(make, good, new):
    with pytest.warns(UserWarning, match="anomaly_scorer_num_nn=3 is taken as anomaly_score_num_nn"):
        model = make(anomaly_scorer_num_nn=3)
    assert model.anomaly_scorer.n_nearest_neighbours == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"anomaly_score_num_n": 3},
            "load has no argument 'anomaly_score_num_n'. Did you mean 'anomaly_score_num_nn'?",
        ),
        ({"patch_size": 3}, "load has no argument 'patch_size'. Did you mean 'patchsize'?"),
        ({"input_shape": (40, 48)}, r"input_shape is \(40, 48\); expected \(3, height, width\)"),
        ({"input_shape": (1, 40, 48)}, r"expected \(3, height, width\)"),
        ({"anomaly_score_num_nn": 0}, "n_nearest_neighbours is 0"),
        ({"patchsize": 0}, "patchsize is 0"),
        ({"target_embed_dimension": 0}, "target_dim is 0"),
    ],
)
def test_wrong_arguments_are_explained_and_change_nothing(arguments, message, make, fitted, network, new):
    before, _ = fitted.predict(new)
    kept = {"backbone": network, "layers_to_extract_from": ["low"], "device": "cpu", "input_shape": (3, 40, 48)}
    dimensions = {"pretrain_embed_dimension": 8, "target_embed_dimension": 8}
    with pytest.raises(UsageError, match=message):
        fitted.load(**{**kept, **dimensions, **arguments})
    assert fitted.predict(new)[0] == before


def test_the_signatures_are_the_documented_ones():
    load = inspect.signature(PatchCore.load).parameters
    assert list(load)[1:] == [
        "backbone", "layers_to_extract_from", "device", "input_shape", "pretrain_embed_dimension",
        "target_embed_dimension", "patchsize", "patchstride", "anomaly_score_num_nn", "featuresampler", "nn_method",
        "kwargs",
    ]  # fmt: skip
    assert [load[name].default for name in ("patchsize", "patchstride", "anomaly_score_num_nn")] == [3, 1, 1]
    documented = {
        NetworkFeatureAggregator: ("backbone, layers_to_extract_from, device", {}),
        NearestNeighbourScorer: ("n_nearest_neighbours, nn_method", {}),
        NearestNeighbourScorer.fit: ("detection_features", {}),
        NearestNeighbourScorer.predict: ("query_features", {}),
        NearestNeighbourScorer.save: (
            "save_folder, save_features_separately, prepend", {"save_features_separately": False, "prepend": ""},
        ),
        NearestNeighbourScorer.load: ("load_folder, prepend", {"prepend": ""}),
        FaissNN: ("on_gpu, num_workers", {"on_gpu": False, "num_workers": 4}),
        FaissNN.run: ("n_nearest_neighbours, query_features, index_features", {"index_features": None}),
        FaissNN.fit: ("features", {}),
        FaissNN.save: ("filename", {}),
        FaissNN.load: ("filename", {}),
        FaissNN.reset_index: ("", {}),
        Preprocessing: ("input_dims, output_dim", {}),
        Aggregator: ("target_dim", {}),
        RescaleSegmentor: ("device, target_size", {"target_size": 224}),
        RescaleSegmentor.convert_to_segmentation: ("patch_scores", {}),
        PatchMaker: ("patchsize, stride", {"stride": None}),
        PatchMaker.patchify: ("features, return_spatial_info", {"return_spatial_info": False}),
        PatchCore: ("device", {}),
        PatchCore.embed: ("data", {}),
        PatchCore.predict: ("data", {}),
        PatchCore.fit: ("training_data", {}),
        PatchCore.save_to_path: ("save_path, prepend", {"prepend": ""}),
        ApproximateGreedyCoresetSampler: (
            "percentage, device, number_of_starting_points, dimension_to_project_features_to",
            {"number_of_starting_points": 10, "dimension_to_project_features_to": 128},
        ),
    }  # fmt: skip
    for thing, (names, defaults) in documented.items():
        found = {
            n: p for n, p in inspect.signature(thing).parameters.items() if n != "self" and p.kind != p.KEYWORD_ONLY
        }
        assert ", ".join(found) == names, thing
        assert {name: found[name].default for name in defaults} == defaults, thing


# What every face must do


def test_nothing_works_before_load_and_nothing_is_predicted_before_fit(make, good):
    for use in (PatchCore("cpu").predict, PatchCore("cpu").fit, PatchCore("cpu").embed):
        with pytest.raises(NotFittedError, match=r"This model is empty. Call load"):
            use([good])
    with pytest.raises(NotFittedError, match="no search index"):
        make().predict(good)


def test_a_second_fit_forgets_the_first(make, good, new):
    once, twice = make(), make()
    once.fit([good])
    twice.fit([new])
    twice.fit([good])
    assert once.predict(new)[0] == twice.predict(new)[0]


def test_a_fit_that_fails_leaves_the_model_as_it_was(fitted, good, new):
    def broken():
        yield good
        raise OSError("the disk is gone")

    before = fitted.predict(new)[0]
    with pytest.raises(OSError, match="the disk is gone"):
        fitted.fit(broken())
    assert fitted.predict(new)[0] == before


def test_no_images_are_an_error_to_learn_from_and_nothing_to_predict(fitted):
    with pytest.raises(DataError, match="There are no good images to learn from"):
        fitted.fit([])
    assert fitted.predict([]) == ([], [], [], [])
    assert fitted.predict(torch.zeros(0, 3, 40, 48)) == ([], [])


def test_a_batch_is_its_images(fitted, new):
    together, maps = fitted.predict(new)
    for i, one in enumerate(new):
        score, (mask,) = fitted.predict(one[None])
        assert score[0] == pytest.approx(together[i], rel=1e-5)
        np.testing.assert_allclose(mask, maps[i], rtol=1e-4, atol=1e-6)


def test_one_image_is_enough_to_learn_from(make, good):
    model = make()
    model.fit(good[:1])
    seen, other = (model.predict(good[i : i + 1])[0][0] for i in (0, 1))
    assert seen < 1e-3 * other  # what half precision leaves


def test_grey_images_count_as_three_equal_channels(fitted, new):
    grey = new[:, :1]
    assert fitted.predict(grey)[0] == fitted.predict(grey.repeat(1, 3, 1, 1))[0]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            torch.zeros(1, 3, 48, 48),
            r"images of shape \(1, 3, 48, 48\); expected \(B, 3, 40, 48\), float, normalised",
        ),
        (torch.zeros(3, 40, 48), r"images of shape \(3, 40, 48\)"),
        (torch.zeros(1, 4, 40, 48), r"images of shape \(1, 4, 40, 48\)"),
        (torch.zeros(1, 3, 40, 48, dtype=torch.uint8), "images of torch.uint8; expected"),
        (torch.full((1, 3, 40, 48), torch.nan), "NaN or infinite"),
    ],
)
def test_other_images_are_refused(image, message, fitted):
    for use in (fitted.predict, lambda x: fitted.predict([x]), lambda x: fitted.fit([{"image": x}]), fitted.embed):
        with pytest.raises(UsageError, match=message):
            use(image)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("folder", "got str; expected a tensor"),
        ({"image": torch.zeros(1, 3, 40, 48)}, "got dict; expected a tensor"),
        (7, "got int; expected a tensor"),
        ([np.zeros((1, 3, 40, 48))], "got ndarray; expected a tensor"),
        ([{"img": 1}], "a batch has the keys img; expected `image` among them"),
    ],
)
def test_other_things_than_loaders_are_refused(data, message, fitted):
    for use in (fitted.predict, fitted.fit):
        with pytest.raises(UsageError, match=message):
            use(data)


def test_patches_beyond_the_memory_limit_make_the_same_bank(monkeypatch, make, good, new):
    from patchcore.inspection import patchcore as module

    plain, spilled = make(), make()
    plain.fit([good])
    monkeypatch.setattr(module, "spill_limit", lambda memory: 1000)
    spilled.fit([good])
    assert spilled.predict(new)[0] == plain.predict(new)[0]


def test_models_go_away_with_their_last_name(make, good):
    model = make(backbone=golden.Stages())
    model.fit([good])
    import gc

    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


# The pass in training mode


class Normalised(nn.Module):
    """A network as libraries make them: in training mode, with batch normalisation."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.low = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4))
            self.high = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4))
            self.never = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.never(self.high(self.low(x)))


def passed(network, **more):
    """(low's, high's, never's) running means after `load`, which reads low only, or both."""
    model = PatchCore("cpu", **more)
    model.load(network, ["low", "high"], "cpu", (3, 32, 48), 8, 8)
    assert not network.training
    return network.low[1].running_mean, network.high[1].running_mean, network.never.running_mean


def test_loading_moves_batch_statistics_as_an_image_of_ones_does_in_training_mode():
    network = Normalised()
    with torch.no_grad():  # BatchNorm2d keeps nine tenths of its mean, which begins as 0, and takes a tenth of the new
        first = network.low[0](torch.ones(1, 3, 32, 48))
        normal = (first - first.mean((2, 3), keepdim=True)) / (first.var((2, 3), False, keepdim=True) + 1e-5).sqrt()
        second = network.high[0](normal)
    low, high, never = passed(network)
    assert torch.allclose(low, 0.1 * first.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(high, 0.1 * second.mean((0, 2, 3)), atol=1e-6)
    assert not never.any()  # behind the deepest layer
    before = low.clone()
    assert torch.equal(passed(network)[0], before)  # now in evaluation mode: not moved again


@pytest.mark.parametrize(("network", "more"), [(Normalised().eval(), {}), (Normalised(), {"training_pass": False})])
def test_a_network_in_evaluation_mode_or_without_the_pass_stays_as_it_is(network, more):
    assert not any(mean.any() for mean in passed(network, **more))


def test_a_network_without_statistics_for_one_value_is_loaded_as_it_is():
    network = Normalised()
    model = PatchCore("cpu")
    model.load(network, ["low"], "cpu", (3, 2, 2), 8, 8)  # a single cell
    assert not network.low[1].running_mean.any()


@pytest.mark.parametrize("more", [{}, {"training_pass": False}])
def test_a_saved_model_finds_the_weights_that_it_had(more, tmp_path):
    images = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    model = PatchCore("cpu", **more)
    model.load(Normalised(), ["low", "high"], "cpu", (3, 32, 48), 8, 8)
    model.fit([images[:3]])
    model.save_to_path(tmp_path)
    for network in (Normalised(), Normalised().eval()):
        other = PatchCore("cpu")
        other.load_from_path(tmp_path, "cpu", backbone=network)
        assert other.predict(images)[0] == model.predict(images)[0]


def test_a_network_of_other_weights_is_refused_and_stays_as_it_was(tmp_path):
    model = PatchCore("cpu")
    model.load(Normalised(), ["low"], "cpu", (3, 32, 48), 8, 8)
    model.fit([torch.rand(2, 3, 32, 48)])
    model.save_to_path(tmp_path)
    other = Normalised()
    nn.init.ones_(other.low[0].weight)
    with pytest.raises(WeightsError, match="not those that the model was saved with"):
        PatchCore("cpu").load_from_path(tmp_path, "cpu", backbone=other)
    assert not other.low[1].running_mean.any()


def test_spade_nn_has_no_effect_and_says_so():
    model = PatchCore("cpu")
    with pytest.warns(UserWarning, match="spade_nn has no effect"):
        model.load(golden.Stages(), ["low"], "cpu", (3, 32, 32), 8, 8, spade_nn=2)


def test_aggregators_that_are_made_again_leave_nothing_on_the_network():
    network = golden.Stages()
    first = NetworkFeatureAggregator(network, ["low"], "cpu")
    second = NetworkFeatureAggregator(network, ["low", "high"], "cpu")
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(first(image)["low"], second(image)["low"])  # both at once
    del first
    assert len(network.low._forward_hooks) == 1
    assert set(second(image)) == {"low", "high"}
    del second
    assert not network.low._forward_hooks
    assert not network.high._forward_hooks
