"""The parts, against NumPy and SciPy."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from torch import nn

import patchcore.lightning
from patchcore import UsageError
from patchcore.lightning import AnomalyMapGenerator, DynamicBufferMixin, KCenterGreedy, LearningType
from patchcore.lightning.batches import as_batch

# Names


def test_importing_the_package_loads_neither_torch_nor_lightning():
    code = (
        "import sys, patchcore.lightning as l; dir(l); sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_lightning_the_error_says_what_to_install(monkeypatch):
    code = (
        "import sys; sys.modules['lightning'] = None\n"
        "from patchcore import MissingExtraError\n"
        "try:\n    from patchcore.lightning import Patchcore\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'patchcore[lightning]'" in done.stdout


def test_all_names_are_there_and_others_are_not():
    for name in patchcore.lightning.__all__:
        assert getattr(patchcore.lightning, name).__name__ == name
    assert dir(patchcore.lightning) == sorted(patchcore.lightning.__all__)
    with pytest.raises(AttributeError, match=r"No patchcore\.lightning attribute PatchCore"):
        _ = patchcore.lightning.PatchCore


def test_learning_types_have_anomalib_s_values():
    assert [kind.value for kind in LearningType] == ["one_class", "zero_shot", "few_shot"]
    assert LearningType.ONE_CLASS == "one_class"


# AnomalyMapGenerator


@pytest.mark.parametrize(
    ("grid", "size", "sigma"), [((28, 28), (224, 224), 4), ((5, 7), (50, 33), 2), ((3, 3), (9, 9), 4)]
)
def test_a_map_is_cells_repeated_and_smoothed_with_a_mirrored_border(grid, size, sigma):
    scores = np.random.default_rng(0).random((2, 1, *grid))
    maps = AnomalyMapGenerator(sigma)(torch.from_numpy(scores).float(), size)
    assert maps.shape == (2, 1, *size)
    rows, columns = (np.arange(n) * g // n for n, g in zip(size, grid, strict=True))
    for found, values in zip(maps[:, 0], scores[:, 0], strict=True):
        expected = gaussian_filter(values[np.ix_(rows, columns)], sigma, mode="mirror", truncate=4)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_a_size_a_map_stays_on_its_grid():
    scores = torch.rand(3, 1, 30, 20)
    made = AnomalyMapGenerator().compute_anomaly_map(scores)
    expected = gaussian_filter(scores[2, 0].numpy(), 4, mode="mirror", truncate=4)
    np.testing.assert_allclose(made[2, 0], expected, rtol=1e-5)


def test_half_precision_scores_make_a_float32_map():
    assert AnomalyMapGenerator()(torch.ones(1, 1, 4, 4).half(), (8, 8)).dtype == torch.float32


# KCenterGreedy


def greedy(x: np.ndarray, first: list[int], n: int) -> list[int]:
    """Farthest point first, by a scan over all distances."""
    distances, picks = cdist(x, x), list(first)
    while len(picks) < n + len(first):
        picks.append(int(distances[picks].min(0).argmax()))
    return picks[len(first) :]


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), n=st.integers(2, 60), ratio=st.floats(0.05, 0.9))
def test_each_pick_is_the_row_farthest_from_those_before_it(seed, n, ratio):
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32))
    sampler = KCenterGreedy(embedding=x, sampling_ratio=ratio)
    assert sampler.coreset_size == max(1, int(n * ratio))
    picks = sampler.select_coreset_idxs()
    assert len(picks) == sampler.coreset_size
    if len(picks) < n:
        assert picks[1:] == greedy(x.double().numpy(), picks[:1], len(picks) - 1)
    assert torch.equal(sampler.sample_coreset(), x[picks])


def test_the_attributes_are_anomalib_s():
    x = torch.randn(300, 400, generator=torch.Generator().manual_seed(0))
    sampler = KCenterGreedy(x, 0.1)
    assert sampler.embedding is x
    assert (sampler.n_observations, sampler.coreset_size) == (300, 30)
    assert sampler.min_distances is None
    picks = sampler.select_coreset_idxs()
    # Johnson and Lindenstrauss for 300 points and eps 0.9: 4 ln(300) / (0.9**2 / 2 - 0.9**3 / 3)
    assert sampler.features.shape == (300, int(4 * np.log(300) / (0.9**2 / 2 - 0.9**3 / 3)))
    expected = cdist(sampler.features.double(), sampler.features[picks].double()).min(1)
    np.testing.assert_allclose(sampler.min_distances[:, 0], expected, atol=1e-4)
    assert picks[1:] == greedy(sampler.features.double().numpy(), picks[:1], 29)


def test_the_same_embedding_gives_the_same_rows():
    x = torch.rand(200, 500)
    assert KCenterGreedy(x, 0.1).select_coreset_idxs() == KCenterGreedy(x.clone(), 0.1).select_coreset_idxs()


def test_rows_that_count_as_picked_are_kept_away_from():
    x = torch.rand(80, 6)
    new = KCenterGreedy(x, 0.1).select_coreset_idxs(selected_idxs=[3, 50])
    assert new == greedy(x.double().numpy(), [3, 50], 8)
    assert KCenterGreedy(x, 1.0).select_coreset_idxs(selected_idxs=range(80)) == []


@pytest.mark.parametrize("ratio", [0, -0.1, 1.5])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(UsageError, match=r"sampling_ratio is .* above 0 and at most 1"):
        KCenterGreedy(torch.rand(4, 2), ratio)


def test_an_embedding_that_is_no_table_is_refused():
    with pytest.raises(UsageError, match=r"embedding has shape \(2, 3, 4, 4\)"):
        KCenterGreedy(torch.rand(2, 3, 4, 4), 0.1)
    with pytest.raises(UsageError, match="Did you mean 'sampling_ratio'"):
        KCenterGreedy(torch.rand(4, 2), sample_ratio=0.1)


# DynamicBufferMixin


class Bank(DynamicBufferMixin, nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(*shape))
        self.name = "bank"


def test_a_buffer_takes_the_shape_of_what_is_loaded():
    full, empty = Bank(3, 5), Bank(0)
    full.rows += 1
    before = empty.rows
    empty.load_state_dict(full.state_dict())
    assert torch.equal(empty.rows, torch.ones(3, 5))
    assert before.shape == (0,)  # who held the old one holds it still
    outer = nn.ModuleDict({"inner": Bank(1)})
    outer.load_state_dict({"inner.rows": torch.ones(2, 2)})
    assert outer["inner"].rows.shape == (2, 2)


def test_an_attribute_that_is_no_tensor_is_refused():
    assert Bank(2).get_tensor_attribute("rows").shape == (2,)
    with pytest.raises(ValueError, match="attribute 'name' is a str; expected a tensor"):
        Bank(2).get_tensor_attribute("name")


def test_a_list_of_images_is_a_batch_of_all_of_them():
    images = torch.rand(3, 3, 4, 4)
    assert torch.equal(as_batch(list(images))["image"], images)
    assert as_batch([images, torch.zeros(3)])["image"] is images
    with pytest.raises(UsageError, match=r"expected a tensor \(B, 3, H, W\)"):
        as_batch([images[0], torch.tensor(0)])


def test_anomalib_s_long_paths_lead_to_the_same_names():
    from patchcore.lightning.data.datamodules.image import MVTecAD
    from patchcore.lightning.data.datamodules.image.folder import Folder
    from patchcore.lightning.data.image.mvtec import MVTec
    from patchcore.lightning.utils.visualization.image import ImageVisualizer, VisualizationMode

    from patchcore.lightning import components, data
    from patchcore.lightning.components.base.dynamic_buffer import DynamicBufferMixin
    from patchcore.lightning.components.sampling.k_center_greedy import KCenterGreedy as Sampler

    assert (MVTecAD, Folder, MVTec) == (data.MVTecAD, data.Folder, data.MVTec)
    assert ImageVisualizer(mode=VisualizationMode.SIMPLE).mode == "simple"
    assert DynamicBufferMixin is components.DynamicBufferMixin is components.base.DynamicBufferMixin
    assert Sampler is components.KCenterGreedy is components.sampling.KCenterGreedy


def test_a_dynamic_buffer_is_a_module_by_itself():
    class Bank(DynamicBufferMixin):
        def __init__(self):
            super().__init__()
            self.register_buffer("rows", torch.empty(0))

    bank = Bank()
    bank.load_state_dict({"rows": torch.arange(6.0).reshape(3, 2)})
    assert isinstance(bank, torch.nn.Module)
    assert bank.rows.tolist() == [[0, 1], [2, 3], [4, 5]]
