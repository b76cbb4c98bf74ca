"""Exported folders: what they hold, that every engine agrees, and that nothing is left of those that do not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from export_helpers import TAPS, Network, images

from patchcore import (
    DataError,
    Detector,
    ExportError,
    ImageError,
    NotFittedError,
    Recipe,
    UsageError,
    export,
    silence,
)
from patchcore.data.sample import Sample
from patchcore.export import formats, parity
from patchcore.export.capturing import LOUD

pytest.importorskip("onnxscript")
runtime = pytest.importorskip("patchcore_runtime")


@pytest.fixture(scope="module")
def openvino(small: Detector, once: Callable[..., Path]) -> Path:
    pytest.importorskip("openvino")
    options = {"format": "openvino", "precision": "fp16"}
    return once("small-openvino", lambda place: export.save(small, place / "exported", **options)) / "exported"


def test_a_result_is_the_library_s(small: Detector, folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    image = images(1, (61, 35), seed=9)[0]
    Image.fromarray(image).save(tmp_path / "part.png")
    found = export.load(folder).predict(tmp_path / "part.png")
    wanted = small.predict(tmp_path / "part.png")
    assert found.name == wanted.name
    assert found.decision == wanted.decision
    assert found.threshold == wanted.threshold
    assert found.pixel_threshold == wanted.pixel_threshold
    for name in ("score", "normalised", "coverage"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-5)
    for name in ("map", "patch_scores"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-5 * wanted.map.max())
    assert found.mask.shape == wanted.mask.shape
    assert found.model_map.shape == wanted.frame.inside


def test_the_manifest_says_what_the_model_is(small: Detector, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["recipe"] == small.fitted.recipe.to_dict()
    assert manifest["parity"]["within"] is True
    assert manifest["search_axes"] == [0]  # too few rows for bounds to pay
    assert manifest["parity"]["images"] >= 12 + 6 + 5
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text("utf-8").splitlines())
    assert set(sums) == files - {"SHA256SUMS"}
    assert sums["manifest.json"] == saving_sha256(folder / "manifest.json")
    assert small.fitted.members[0].bank is not None
    assert np.array_equal(np.load(folder / "origins.npy"), small.fitted.members[0].bank.origins)


def test_vectors_agree_and_hold_no_image_of_the_user_s(folder: Path) -> None:
    found = export.verify(folder)
    assert found.images == 12
    assert found.within
    assert found.decisions == 0
    seen = [np.load(path).shape[1:3] for path in (folder / "vectors").glob("*_image.npy")]
    assert (50, 60) not in seen


def test_every_file_is_checked_when_it_is_loaded(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    with pytest.raises(runtime.ExportError, match=r"model\.onnx: altered"):
        export.load(copy)
    (copy / "model.onnx").unlink()
    with pytest.raises(runtime.ExportError, match=r"model\.onnx is missing"):
        export.load(copy)


def test_another_result_than_the_vectors_say_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "vectors" / "0_image.npy"
    np.save(path, 255 - np.load(path))
    sums, old = copy / "SHA256SUMS", saving_sha256(folder / "vectors" / "0_image.npy")
    sums.write_text(sums.read_text("utf-8").replace(old, saving_sha256(path)), "utf-8")
    export.load(copy)
    with pytest.raises(runtime.ExportError, match="something else than the library"):
        export.load(copy, verify=True)


def saving_sha256(path: Path) -> str:
    from patchcore_runtime.folder import sha256

    return sha256(path)


def test_half_precision_halves_the_graph_and_openvino_agrees(folder: Path, openvino: Path) -> None:
    assert export.verify(openvino).within
    manifest = json.loads((openvino / "manifest.json").read_text("utf-8"))
    assert (manifest["engine"], manifest["precision"]) == ("openvino", "fp16")


class Constants(torch.nn.Module):
    """A matrix, a vector that a product takes as a row, and a matrix of numbers that half precision cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.rand(40, 2000))
        self.register_buffer("row", torch.full((1, 2000), 1000.123))
        self.register_buffer("large", torch.full((2, 2000), 1e30))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x @ self.matrix + self.row, torch.minimum(x[:, :2] @ self.large, self.row)


def test_half_precision_keeps_what_it_would_spoil(tmp_path: Path) -> None:
    import onnxruntime

    module, x = Constants(), torch.ones(3, 40)
    with silence.logs_and_warnings(*LOUD):
        made = torch.onnx.export(module, (x,), dynamo=True, input_names=["x"], verbose=False)
    formats._halve(made.model)
    made.save(tmp_path / "half.onnx", external_data=False)
    assert (tmp_path / "half.onnx").stat().st_size < 2 * 80_000 + 4 * 6_000 + 10_000  # the matrix alone is in 16 bits
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx", providers=["CPUExecutionProvider"])
    first, second = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(first, module(x)[0], rtol=1e-4)
    np.testing.assert_array_equal(second, np.full_like(second, 1000.123))


def test_a_program_of_torch_needs_nothing_of_ours(tmp_path: Path, small: Detector) -> None:
    export.save(small, tmp_path / "program", format="torch", static=(40, 48))
    code = (
        "import sys, torch\n"
        f"run = torch.export.load({str(tmp_path / 'program' / 'model.pt2')!r}).module()\n"
        "print(float(run(torch.full((1, 40, 48, 1), 100.0), torch.tensor([0.0, 255.0]))[0]))\n"
        "assert not any(name.startswith(('patchcore', 'timm')) for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = small.predict(np.full((40, 48), 100, np.uint8))
    assert float(done.stdout) == pytest.approx(wanted.score, rel=1e-5)
    with pytest.raises(runtime.ImageError, match=r"10 x 10 pixels; this model was exported for 40 x 48"):
        export.load(tmp_path / "program").predict(np.zeros((10, 10), np.uint8))


def test_the_runtime_loads_neither_torch_nor_patchcore(folder: Path) -> None:
    code = (
        f"import sys, patchcore_runtime\nmodel = patchcore_runtime.load({str(folder)!r}, verify=True)\n"
        "assert not {'torch', 'patchcore', 'timm', 'scipy', 'cv2'} & set(sys.modules), sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Fickle(Network):
    """A network that computes something else in a graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x * 1.01 if torch.compiler.is_exporting() else x)


def test_a_graph_that_does_not_agree_is_not_kept(tmp_path: Path) -> None:
    detector = Detector(Recipe(size=32, taps=TAPS), backbone=Fickle()).fit(images())
    with pytest.raises(ExportError, match=r"does not agree with the library, so it was not kept"):
        export.save(detector, tmp_path / "exported", format="torch", static=(40, 40))
    assert not list(tmp_path.iterdir())


def test_what_there_is_not_is_refused_before_the_work(small: Detector, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format is 'tflite'; expected one of onnx, openvino, torch"):
        export.save(small, tmp_path / "a", format="tflite")
    with pytest.raises(UsageError, match=r"precision='int8' needs good images.*--images DIR.*use fp16"):
        export.save(small, tmp_path / "a", format="openvino", precision="int8")
    with pytest.raises(UsageError, match="format='torch' with precision='int8'"):
        export.save(small, tmp_path / "a", format="torch", precision="int8")
    with pytest.raises(UsageError, match="precision is 'fp32', but --test is for int8 only"):
        export.save(small, tmp_path / "a", test=[])
    with pytest.raises(UsageError, match="precision is 'bf16'"):
        export.save(small, tmp_path / "a", precision="bf16")
    with pytest.raises(UsageError, match="format='torch' with precision='fp16'"):
        export.save(small, tmp_path / "a", format="torch", precision="fp16")
    with pytest.raises(UsageError, match="opset is 17"):
        export.save(small, tmp_path / "a", opset=17)
    with pytest.raises(UsageError, match="opset is 99; this graph can only be written with opset"):
        export.save(small, tmp_path / "a", opset=99, static=(40, 48))
    assert not (tmp_path / "a").exists()
    with pytest.raises(NotFittedError):
        export.save(Detector(), tmp_path / "a")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match=r"there is something else already \(mine\.txt\)"):
        export.save(small, tmp_path / "notes")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_images_that_set_the_threshold_are_tested_with_before_those_that_are_remembered() -> None:
    def named(prefix: str, n: int) -> list[Sample]:
        return [Sample(f"{prefix}{i}", np.zeros((8, 9, 3), np.uint8)) for i in range(n)]

    def counts(new: int, seen: int) -> tuple[int, int]:
        names = [one.name for one in parity.chosen(named("new", new), named("seen", seen), None)]
        assert len(set(names)) == len(names)
        return sum(name.startswith("new") for name in names), sum(name.startswith("seen") for name in names)

    assert counts(40, 160) == (9, 3)
    assert counts(6, 160) == (6, 6)
    assert counts(40, 0) == (12, 0)
    assert counts(0, 160) == (0, 12)
    assert counts(1, 2) == (1, 2)
    assert len(parity.chosen(named("a", 3), [], (8, 9))) == 3
    with pytest.raises(DataError, match="there are no images of the size 9 x 8"):
        parity.chosen(named("a", 3), [], (9, 8))


def test_an_image_that_cannot_be_read_is_said_before_the_work(small: Detector, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.png").write_text("Dear")
    with pytest.raises(ImageError, match=r"parts/a\.png: "):
        export.save(small, tmp_path / "exported", images=tmp_path / "parts")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_limits_of_int8_are_for_int8_alone(small: Detector, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="precision is 'fp16', but --max-auroc-drop is for int8 only"):
        export.save(small, tmp_path / "exported", precision="fp16", max_auroc_drop=0.1)


def test_synthetic_images_come_from_the_seed_and_fit_the_range() -> None:
    one, two = parity.synthetic(3, (0.0, 4095.0), None), parity.synthetic(3, (0.0, 4095.0), None)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert {str(batch.dtype) for batch in one} == {"uint8", "uint16", "float32"}
    assert {len(batch) for batch in one} == {1, 5}
    assert 255 < one[-1].max() <= 4095
