"""The search of a graph finds the nearest rows of the bank, whatever the bounds leave, in every engine."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from patchcore_runtime.engines import openvino
from torch import Tensor

from patchcore import Recipe
from patchcore.export.search import Search
from patchcore.memory.bank import Bank

DIMENSIONS = 60


def near_a_plane(count: int, seed: int, noise: float = 0.02) -> Tensor:
    """Points (count, 60) along eight directions, so that a few principal axes tell most of their distances."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(DIMENSIONS, 8, generator=torch.Generator().manual_seed(0))).Q
    along = torch.randn(count, 8, generator=generator) @ directions.T
    return (3 + along + noise * torch.randn(count, DIMENSIONS, generator=generator)).half().float()


def bank(rows: Tensor) -> Bank:
    return Bank(rows, torch.full((len(rows), 3), -1, dtype=torch.int32), torch.ones(rows.shape[1]))


def search(rows: Tensor, half: bool = True, **fields: object) -> Search:
    return Search(bank(rows), Recipe(**fields), half).eval()


def nearest(queries: Tensor, rows: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    squares = (queries.double()[:, None] - rows.double()).square().sum(2)
    found = squares.sort(stable=True)
    return found.values[:, :k].sqrt().float(), found.indices[:, :k]


def queries_of(rows: Tensor) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "near the bank": near_a_plane(50, seed=1),
        "in the bank": rows[::31][:40],
        "far from everything, so that no bound rules out": 3 + 4 * torch.randn(30, DIMENSIONS, generator=generator),
        "one alone": near_a_plane(1, seed=2),
    }


@pytest.fixture(scope="module")
def rows() -> Tensor:
    return near_a_plane(5000, seed=0)


def check(found: tuple[Tensor, Tensor], queries: Tensor, rows: Tensor) -> None:
    distances, numbers = nearest(queries, rows)
    torch.testing.assert_close(found[0].flatten(), distances[:, 0], rtol=1e-5, atol=1e-6)
    own = (queries - rows[found[1].flatten()]).norm(dim=1)  # of two rows that are as near either will do
    torch.testing.assert_close(own, distances[:, 0], rtol=1e-5, atol=1e-6)
    assert (found[1].flatten() == numbers[:, 0]).double().mean() > 0.95


@pytest.mark.parametrize("half", [True, False])
def test_bounds_and_all_rows_find_the_same(rows: Tensor, half: bool) -> None:
    found_by = search(rows, half)
    assert 0 < found_by.axes < DIMENSIONS
    assert found_by.known.dtype == (torch.float16 if half else torch.float32)
    for queries in queries_of(rows).values():
        check(found_by(queries[None, None]), queries, rows)
        squares, numbers = found_by._plain(queries)
        check((squares.sqrt(), numbers), queries, rows)


def test_every_engine_finds_the_same_however_many_pairs_the_bounds_leave(rows: Tensor, tmp_path) -> None:
    found_by, path = search(rows), tmp_path / "search.onnx"
    example = (near_a_plane(12, seed=3).unflatten(0, (2, 3, 2)),)
    open_ = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(found_by, example, dynamic_shapes=({0: open_, 1: open_, 2: open_},))
    made = torch.onnx.export(program, dynamo=True, opset_version=18, input_names=["patches"], verbose=False)
    made.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    core = openvino().Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for queries in queries_of(rows).values():
        patches = queries[None, None].numpy()
        check(tuple(map(torch.from_numpy, session.run(None, {"patches": patches}))), queries, rows)
        check(tuple(torch.from_numpy(one) for one in compiled([patches]).values()), queries, rows)


def test_of_equal_rows_the_first_one_is_named(rows: Tensor) -> None:
    twice = torch.cat([rows[:3000], rows[:3000]])
    found_by = search(twice)
    assert found_by.axes
    _, numbers = found_by(twice[None, None, 3000:3200])
    assert numbers.flatten().tolist() == list(range(200))


def test_a_patch_that_is_no_number_has_no_score_and_changes_no_other(rows: Tensor) -> None:
    queries = near_a_plane(20, seed=4)
    expected = nearest(queries, rows)[0][:, 0]
    queries[3, 7] = torch.nan
    scores, numbers = search(rows)(queries[None, None])
    assert scores.flatten().isnan().tolist() == [number == 3 for number in range(20)]
    assert (numbers < len(rows)).all()
    others = torch.arange(20) != 3
    torch.testing.assert_close(scores.flatten()[others], expected[others], rtol=1e-5, atol=1e-6)


def test_several_neighbours_come_from_all_rows(rows: Tensor) -> None:
    found_by = search(rows[:700], neighbours=3)
    assert found_by.axes == 0
    queries = near_a_plane(20, seed=4)
    distances, numbers = nearest(queries, rows[:700], 3)
    scores, found = found_by(queries[None, None])
    torch.testing.assert_close(scores.flatten(), distances.mean(1), rtol=1e-5, atol=1e-6)
    assert found.flatten(0, 2).tolist() == numbers.tolist()


def test_rows_in_all_directions_are_searched_without_bounds() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(3000, DIMENSIONS)).astype(np.float32))
    assert search(noise).axes == 0
