"""Distances and nearest rows in steps that a graph can repeat, against SciPy in double precision."""

import numpy as np
import openvino
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.overrides import TorchFunctionMode

from patchcore.maths import pairwise
from patchcore.maths.pairwise import distances, nearest

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's, about tracing


def points(n: int, m: int, d: int, same: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Far from the origin; `same` rows are in both, and one is as near to another as float32 allows."""
    generator = torch.Generator().manual_seed(n)
    x, y = (torch.randn(k, d, generator=generator) + 30 for k in (n, m))
    y[:same] = x[:same]
    if same:
        y[same] = x[same]
        y[same, 0] = torch.nextafter(x[same, 0], torch.tensor(torch.inf))
    return x, y


def check(found, x: torch.Tensor, y: torch.Tensor) -> None:
    expected = cdist(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("n", "m", "d", "same"), [(60, 80, 152, 20), (9, 7, 3, 5), (1, 5, 1, 0), (300, 200, 1536, 9)])
def test_distances_are_exact_near_zero_and_elsewhere(n, m, d, same):
    x, y = points(n, m, d, same)
    check(distances(x, y), x, y)
    assert (distances(x, y).diagonal()[:same] == 0).all()


def test_rows_that_are_all_equal_are_at_distance_zero():
    x = torch.full((40, 9), 1e3)
    assert (distances(x, x) == 0).all()


def test_batches_are_compared_one_by_one():
    x, y = torch.randn(2, 3, 4, 9), torch.randn(3, 5, 9)
    torch.testing.assert_close(distances(x, y), torch.cdist(x, y.expand(2, -1, -1, -1)))


def test_the_type_is_the_wider_one():
    x = torch.randn(3, 4)
    assert distances(x.half(), x.half()).dtype == torch.float16
    assert distances(x.half(), x).dtype == torch.float32
    assert distances(x.double(), x).dtype == torch.float64


class Largest(TorchFunctionMode):
    """The most numbers in a tensor that any step gives."""

    numbers = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.numbers = max(self.numbers, found.numel())
        return found


@pytest.mark.parametrize("same", [0, 1])
def test_memory_is_for_pairs_of_numbers_and_not_of_rows(same, monkeypatch):
    monkeypatch.setattr(pairwise, "_PAIRS", 100)
    x, y = (torch.zeros(200, 512), torch.zeros(300, 512)) if same else points(200, 300, 512)
    with Largest() as largest:
        distances(x, y)
    assert largest.numbers <= 300 * 512  # in one step all pairs would take 200 times as much


class Pairs(torch.nn.Module):
    def forward(self, x, y):
        return distances(x, y)


EXAMPLE, OTHERS = points(20, 30, 152, 5), (points(7, 40, 152, 3), points(4, 5, 152))


def test_a_trace_serves_any_number_of_rows():
    traced = torch.jit.trace(Pairs(), EXAMPLE)
    for one in (EXAMPLE, *OTHERS):
        check(traced(*one), *one)


def test_openvino_has_the_same_distances():
    converted = openvino.convert_model(Pairs(), example_input=EXAMPLE)
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for one in (EXAMPLE, *OTHERS):
        check(compiled([two.numpy() for two in one])[0], *one)


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_has_the_same_distances(dynamo, tmp_path):
    import onnxruntime

    path, names = str(tmp_path / "pairs.onnx"), {"input_names": ["x", "y"], "opset_version": 18}
    sizes = {"x": {0: "n"}, "y": {0: "m"}}
    how = {"dynamic_shapes": sizes, "verbose": False} if dynamo else {"dynamic_axes": sizes}
    torch.onnx.export(Pairs(), EXAMPLE, path, dynamo=dynamo, **names, **how)
    session = onnxruntime.InferenceSession(path)
    for one in (EXAMPLE, *OTHERS):
        check(session.run(None, dict(zip("xy", (two.numpy() for two in one), strict=True)))[0], *one)


@pytest.mark.parametrize("k", [1, 9, 99])
@pytest.mark.parametrize("rows_at_once", [7, 1000])
def test_nearest_gives_the_nearest_rows(k, rows_at_once, monkeypatch):
    monkeypatch.setattr(pairwise, "_ROWS", rows_at_once)
    x, y = points(30, 60, 32, 5)
    found, rows = nearest(x, y, k)
    expected = cdist(x.double().numpy(), y.double().numpy())
    assert found.shape == rows.shape == (30, min(k, 60))
    np.testing.assert_array_equal(rows.numpy(), expected.argsort(1)[:, :k])
    np.testing.assert_allclose(found.numpy(), np.sort(expected, 1)[:, :k], rtol=1e-5)
