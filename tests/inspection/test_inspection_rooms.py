"""The building blocks one by one, against NumPy and SciPy."""

import inspection_golden as golden
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from patchcore import BackboneError, UsageError
from patchcore.inspection import Aggregator, NetworkFeatureAggregator, PatchMaker, Preprocessing, RescaleSegmentor
from patchcore.inspection.common import AverageMerger, ConcatMerger, MeanMapper


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@given(
    p=st.integers(1, 5),
    stride=st.integers(1, 3),
    h=st.integers(5, 9),
    w=st.integers(5, 9),
    c=st.integers(1, 3),
)
def test_patchify_cuts_the_neighbourhood_of_every_cell(p, stride, h, w, c):
    features = values(2, c, h, w)
    expected = golden.neighbourhoods(features, p, stride)
    patches, grid = PatchMaker(p, stride).patchify(torch.from_numpy(features), return_spatial_info=True)
    assert grid == list(expected.shape[1:3])
    np.testing.assert_array_equal(patches, expected.reshape(2, -1, c, p, p))
    np.testing.assert_array_equal(PatchMaker(p, stride).patchify(torch.from_numpy(features)), patches)


def test_a_patch_maker_without_a_stride_goes_from_cell_to_cell():
    assert PatchMaker(3).stride == 1
    assert PatchMaker(3).patchify(torch.zeros(1, 2, 6, 5)).shape == (1, 30, 2, 3, 3)


@pytest.mark.parametrize("arguments", [(0,), (3, 0), (2.5,), (True,)])
def test_a_patch_maker_refuses_sizes_that_are_none(arguments):
    with pytest.raises(UsageError, match="at least 1"):
        PatchMaker(*arguments)


def test_patchify_refuses_what_is_no_feature_map():
    with pytest.raises(UsageError, match=r"features has shape \(4, 6, 5\); expected \(B, C, h, w\)"):
        PatchMaker(3).patchify(torch.zeros(4, 6, 5))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_scores_go_back_to_their_images_and_the_highest_counts(kind):
    maker, scores = PatchMaker(3), kind(values(12))
    of_images = maker.unpatch_scores(scores, 3)
    assert of_images.shape == (3, 4)
    np.testing.assert_array_equal(of_images[1], scores[4:8])
    assert type(maker.score(of_images)) is type(scores)
    np.testing.assert_array_equal(maker.score(of_images), np.asarray(scores).reshape(3, 4).max(1))
    cube = kind(values(3, 4, 5))
    np.testing.assert_array_equal(maker.score(cube), np.asarray(cube).max((1, 2)))


@given(length=st.integers(1, 40), n=st.integers(1, 40))
def test_a_mean_mapper_averages_the_values_in_their_order_into_bins(length, n):
    rows = values(3, length)
    expected = golden.bins(rows, n)
    np.testing.assert_allclose(MeanMapper(n)(torch.from_numpy(rows)), expected, rtol=1e-5, atol=1e-6)


def test_preprocessing_maps_each_layer_and_the_aggregator_joins_them():
    layers = [values(5, 4, 3, 3), values(5, 7, 3, 3)]
    prepared = Preprocessing([4, 7], 10)([torch.from_numpy(layer) for layer in layers])
    expected = np.stack([golden.bins(layer.reshape(5, -1), 10) for layer in layers], 1)
    np.testing.assert_allclose(prepared, expected, rtol=1e-5, atol=1e-6)
    joined = Aggregator(6)(prepared)
    np.testing.assert_allclose(joined, golden.bins(expected.reshape(5, 20), 6), rtol=1e-5, atol=1e-6)


def test_preprocessing_wants_as_many_layers_as_it_was_told_of():
    with pytest.raises(UsageError, match="features has 1 layers; expected 2"):
        Preprocessing([4, 7], 10)([torch.zeros(5, 4, 3, 3)])
    with pytest.raises(UsageError, match="output_dim is 0; expected a whole number, at least 1"):
        Preprocessing([4], 0)
    with pytest.raises(UsageError, match="target_dim is '8'"):
        Aggregator("8")


def test_mergers_flatten_or_average_and_concatenate():
    maps = [values(4, 3, 2, 2), values(4, 5, 1, 3)]
    joined = ConcatMerger().merge(maps)
    np.testing.assert_array_equal(joined, np.concatenate([m.reshape(4, -1) for m in maps], 1))
    averaged = AverageMerger().merge(maps)
    np.testing.assert_allclose(averaged, np.concatenate([m.mean((2, 3)) for m in maps], 1), rtol=1e-5, atol=1e-7)
    with pytest.raises(UsageError, match=r"The layers have \[4, 3\] rows"):
        ConcatMerger().merge([maps[0], maps[1][:3]])


@pytest.mark.parametrize("size", [(24, 24), (40, 24), 32])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_maps_are_upsampled_bilinearly_and_smoothed(size, kind):
    scores = np.abs(values(2, 5, 6))
    maps = RescaleSegmentor("cpu", target_size=size).convert_to_segmentation(kind(scores))
    assert len(maps) == 2
    shape = (size, size) if isinstance(size, int) else size
    for found, grid in zip(maps, scores, strict=True):
        assert found.shape == shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, golden.segmentation(grid, shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 6), (5, 40), (28, 3), 1])
def test_maps_that_are_smaller_than_the_grid_are_plainly_bilinear_too(size):
    scores = np.abs(values(1, 28, 28))
    (found,) = RescaleSegmentor("cpu", size).convert_to_segmentation(scores)
    shape = (size, size) if isinstance(size, int) else size
    down = F.interpolate(torch.from_numpy(scores)[None], shape, mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(found, golden.gaussian_filter(down.numpy(), sigma=4), rtol=1e-4, atol=1e-5)


def test_maps_are_224_pixels_by_default_as_torch_and_scipy_make_them():
    scores = np.abs(values(1, 28, 28))
    (found,) = RescaleSegmentor("cpu").convert_to_segmentation(scores)
    up = F.interpolate(torch.from_numpy(scores)[None], (224, 224), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(found, golden.gaussian_filter(up.numpy(), sigma=4), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match=r"patch_scores has shape \(28, 28\); expected \(B, h, w\)"):
        RescaleSegmentor("cpu").convert_to_segmentation(scores[0])


# NetworkFeatureAggregator


def test_the_layers_come_by_name_and_the_rest_of_the_network_does_not_run(network, new):
    aggregator = NetworkFeatureAggregator(network, ["low", "high"], "cpu")
    assert aggregator.feature_dimensions((3, 40, 48)) == [8, 12]
    before = network.passes  # the first look at the network is a whole pass
    features = aggregator(new)
    assert network.passes == before
    assert list(features) == ["low", "high"]
    for name, expected in zip(features, network.taps(new), strict=True):
        np.testing.assert_array_equal(features[name], expected)
        assert not features[name].requires_grad


def test_a_network_for_other_channels_is_looked_at_with_as_many():
    grey = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1))
    aggregator = NetworkFeatureAggregator(grey, ["0", "1"], "cpu")
    assert aggregator.feature_dimensions((1, 32, 48)) == [4, 6]
    assert [tuple(one.shape) for one in aggregator(torch.rand(2, 1, 32, 48)).values()] == [
        (2, 4, 16, 24),
        (2, 6, 8, 12),
    ]


def test_layers_can_be_nested_and_in_any_order(network, new):
    features = NetworkFeatureAggregator(network, ["high.0.1", "high.0", "low.1"], "cpu")(new)
    low = torch.from_numpy(network.taps(new)[0])
    with torch.no_grad():
        nested = network.high[0](low)
    np.testing.assert_array_equal(features["high.0.1"], nested)
    np.testing.assert_array_equal(features["high.0"], nested)
    assert features["low.1"].shape == (2, 8, 10, 12)


def test_two_aggregators_can_share_a_network(network, new):
    one, two = (NetworkFeatureAggregator(network, [name], "cpu") for name in ("low", "high"))
    for _ in range(2):
        assert list(one(new)) == ["low"]
        assert list(two(new)) == ["high"]


def test_layers_that_are_not_there_are_named(network, new):
    with pytest.raises(BackboneError, match=r"The tap 'hihg' is not a module that runs.*Did you mean 'high'"):
        NetworkFeatureAggregator(network, ["hihg"], "cpu")(new)
    with pytest.raises(UsageError, match="layers_to_extract_from is 'low'; expected a list of names"):
        NetworkFeatureAggregator(network, "low", "cpu")
    with pytest.raises(UsageError, match="expected a list of names"):
        NetworkFeatureAggregator(network, [], "cpu")
    with pytest.raises(UsageError, match="expected each layer only once"):
        NetworkFeatureAggregator(network, ["low", "low"], "cpu")
