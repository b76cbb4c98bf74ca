import numpy as np
import pytest
import torch

from patchcore.maths.embedding import channel_scales
from patchcore.maths.joining import score_unit, spread_unit


def features(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("n", [1000, 40_000])
def test_channel_scales_are_one_over_the_standard_deviations(n, dtype):
    patches = (features(n, 5) * torch.tensor([1.0, 0.5, 2.0, 0.1, 3.0]) + 10).to(dtype)
    expected = 1 / patches.double().numpy().std(axis=0)
    scales = channel_scales(patches.split(7))
    assert scales.dtype == torch.float32
    np.testing.assert_allclose(scales, expected, rtol=1e-5)


def test_a_channel_that_hardly_varies_is_not_blown_up():
    patches = torch.stack([features(500) * 2, features(500, seed=1) * 1e-5, torch.full((500,), 7.0)], 1)
    largest = float(patches[:, 0].double().std(correction=0))
    np.testing.assert_allclose(channel_scales(patches.split(7)), [1 / largest, 100 / largest, 100 / largest], rtol=1e-5)


def test_channels_that_do_not_vary_at_all_are_left_as_they_are():
    assert channel_scales([torch.full((30, 3), 2.5)]).tolist() == [1, 1, 1]
    assert channel_scales([features(1, 3)]).tolist() == [1, 1, 1]


def test_the_unit_of_scores_is_their_standard_deviation_over_all_patches_of_all_images():
    images = [features(4, 5, seed=seed).abs() * (seed + 1) for seed in range(3)]
    expected = np.concatenate([image.numpy().ravel() for image in images]).astype(float).std()
    assert score_unit(images) == pytest.approx(expected)


@pytest.mark.parametrize(("scores", "unit"), [([2.5, 2.5], 2.5), ([0.0, 0.0], 1.0)])
def test_scores_that_are_all_the_same_can_still_be_divided_by_their_unit(scores, unit):
    assert score_unit([torch.tensor([value]) for value in scores]) == unit


@pytest.mark.parametrize("squared", [False, True])
def test_without_scores_the_unit_is_the_spread_of_the_rows(squared):
    rows = features(50, 4) + 3
    mean_square = (((rows - rows.mean(0)) ** 2).sum(1)).mean().item()
    assert spread_unit(rows, squared) == pytest.approx(mean_square if squared else mean_square**0.5, rel=1e-5)
    assert spread_unit(torch.ones(3, 2), squared) == 1.0
