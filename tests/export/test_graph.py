"""The captured graph computes what the library does, for every recipe and every size of image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_helpers import fitted, images

from patchcore import Detector, Recipe, UsageError
from patchcore.export.capturing import ExactDivision, capture
from patchcore.export.graph import OUTPUTS
from patchcore.export.saving import _graph, save

SIZES = [(40, 48), (32, 32), (90, 25), (17, 200), (33, 31), (7, 5)]


def program(detector: Detector, static: tuple[int, int] | None = None) -> Any:
    captured = capture(_graph(detector, half=False), static).module()

    def run(batch: np.ndarray, value_range: tuple[float, float] = (0, 255)) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = captured(torch.from_numpy(batch.astype(np.float32)), torch.tensor(value_range, dtype=torch.float32))
        return dict(zip(OUTPUTS, (one.numpy() for one in found), strict=True))

    return run


def check(detector: Detector, run: Any, batch: np.ndarray, value_range: tuple[float, float] = (0, 255)) -> None:
    found = run(batch, value_range)
    for number, image in enumerate(batch):
        result = detector.predict(image)
        assert found["score"][number] == pytest.approx(result.score, rel=2e-5)
        assert found["normalised"][number] == pytest.approx(result.normalised, rel=2e-5, nan_ok=True)
        assert ("pass", "unsure", "fail")[found["decision"][number]] == result.decision
        assert found["coverage"][number] == pytest.approx(result.coverage)
        high = float(result.patch_scores.max())
        np.testing.assert_allclose(found["patch_scores"][number], result.patch_scores, atol=2e-5 * high)
        np.testing.assert_allclose(found["map"][number], result.map, atol=2e-5 * high)
        assert found["rows"][number].shape == result.nearest_rows.shape


RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "odd area": {"size": (37, 29)},
    "stretch": {"resize": "stretch", "size": (24, 40)},
    "short side": {"resize": "short_side", "size": 28, "interpolation": "bicubic"},
    "crop": {"resize": "short_side", "size": 36, "crop": 32, "image_score": "max", "map_border": "mirror"},
    "letterbox": {"resize": "letterbox", "size": (32, 40), "exposure": "even"},
    "even exposure": {"exposure": "even"},
    "two scales": {"scales": (1.0, 0.75), "pool_border": "inside"},
    "quarters": {"pool": "quarters"},
    "quarters in bins": {"pool": "quarters", "patch_size": 5, "patch_stride": 2, "merge": "bins", "bins": 20},
    "bins": {"pool": "bins", "merge": "bins", "tap_bins": 24, "bins": 20, "distance": "squared_l2"},
    "reweighted": {"image_score": "reweighted", "scaling": "none", "upsample": "nearest", "coreset": "random"},
    "neighbours": {"neighbours": 3, "align": "nearest", "patch_stride": 2, "top_share": 0.1},
    "tiles": {"resize": "stretch", "size": 48, "tile": 32, "tile_stride": 16},
    "without smoothing": {"sigma": 0.0, "top_share": 0.07, "patch_size": 1},
}


@pytest.mark.parametrize("name", RECIPES)
def test_scores_and_maps_are_the_library_s_at_every_size(name: str) -> None:
    detector = fitted(**RECIPES[name])
    run = program(detector)
    for number, size in enumerate(SIZES):
        check(detector, run, np.stack(images(1 + number % 2, size, channels=3 if number % 3 else 1, seed=number)))


def test_members_of_an_ensemble_are_joined() -> None:
    members = [
        {"backbone": "resnet18", "weights": "random", "taps": ("layer1", "layer2"), "size": 64, "ratio": 0.1},
        {"backbone": "resnet18", "weights": "random", "taps": ("layer1",), "resize": "short_side", "size": 40,
         "crop": 32, "ratio": 0.1, "min_rows": 1},
    ]  # fmt: skip
    detector = Detector(Recipe(members=members, gate="none")).fit(images())
    run = program(detector)
    for size in SIZES[:4]:
        check(detector, run, np.stack(images(2, size)))


def test_other_depths_take_the_range_that_they_are_given() -> None:
    detector = fitted()
    run = program(detector)
    deep = np.stack(images(1)).astype(np.uint16) * 257
    check(detector, run, deep, (0, 65535))
    check(detector, run, np.stack(images(1)).astype(np.float32) / 255, (0, 1))


def test_a_patch_that_the_bank_holds_is_at_no_distance() -> None:
    # |t|² - 2t·b + |b|² in single precision would leave several 1e-2 here.
    good = images(4)
    fields = {"size": (40, 48), "taps": ("first",), "scaling": "none", "exposure": "as_is"}
    recipe = Recipe(**fields, ratio=1.0, calibration_share=0)
    detector = Detector(recipe, backbone=large_network()).fit(good)
    run = program(detector)
    assert detector.fitted.members[0].bank is not None
    lengths = detector.fitted.members[0].bank.rows.norm(dim=1)
    assert lengths.mean() > 20
    assert run(np.stack(good))["patch_scores"].max() < 1e-3 * lengths.max()  # rows are kept in half precision
    check(detector, run, np.stack(good))


def large_network() -> torch.nn.Module:
    from export_helpers import Network

    network = Network()
    with torch.no_grad():
        network.first[0].weight *= 100
    return network


def test_one_size_alone_can_be_asked_for() -> None:
    detector = fitted(tile=16, size=32)
    run = program(detector, static=(40, 48))
    check(detector, run, np.stack(images(3)))


def test_tiles_of_images_of_any_size_are_refused() -> None:
    with pytest.raises(UsageError, match="--static"):
        program(fitted(tile=16, size=32))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"roi": {"include": [[(0, 0), (1, 0), (0, 1)]]}}, "region of interest.*cut to the region"),
        ({"registration": "shift"}, "registration='shift'.*brought to one place before"),
    ],
)
def test_what_looks_at_a_part_of_each_image_is_refused(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    detector = fitted(**fields)
    with pytest.raises(UsageError, match=said):
        program(detector)
    with pytest.raises(UsageError, match=said):
        save(detector, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_approximate_search_is_refused() -> None:
    pytest.importorskip("faiss")
    with pytest.raises(UsageError, match="search='ivf_pq'"):
        program(fitted(search="ivf_pq"))


def test_whole_numbers_are_divided_exactly_by_every_engine(tmp_path: Path) -> None:
    # OpenVINO divides them as floats: 30976 / 121 was 255 there, and the crop one pixel off.
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")

    class Divided(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return a // b, a % b

    b = torch.arange(1, 700).repeat_interleave(3)
    a = b * (torch.arange(len(b)) % 600) + (torch.arange(len(b)) % 3 - 1).clamp(min=0)
    free = {0: torch.export.Dim.DYNAMIC}
    with ExactDivision():
        program = torch.export.export(Divided().eval(), (a, b), dynamic_shapes=(free, free))
    made = torch.onnx.export(program, dynamo=True, opset_version=18, input_names=["a", "b"], verbose=False)
    made.save(tmp_path / "divided.onnx")
    found = openvino.Core().compile_model(str(tmp_path / "divided.onnx"), "CPU")([a.numpy(), b.numpy()])
    assert np.array_equal(found[0], a.numpy() // b.numpy())
    assert np.array_equal(found[1], a.numpy() % b.numpy())
