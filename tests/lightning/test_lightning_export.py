"""Out of Lightning: graphs of the torch model, exported folders, detectors."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import patchcore_runtime
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, RandomCrop, Resize

from patchcore import DataError, Detector, ImageError, NotFittedError, UsageError
from patchcore.lightning import Engine, Patchcore, PatchcoreModel, detector_of
from patchcore.lightning.data import MVTecAD
from patchcore.lightning.data.utils import (
    LabelName,
    generate_output_image_filename,
    get_image_filenames,
    read_image,
    save_image,
    show_image,
)  # fmt: skip
from patchcore.lightning.deploy import CompressionType, ExportType, OpenVINOInferencer, TorchInferencer
from patchcore.lightning.pre_processing import PreProcessor
from patchcore.lightning.utils.visualization import ImageResult, ImageVisualizer
from patchcore.lightning.v0 import PatchcoreLightning

LAYERS, HALF = ("blocks.2", "blocks.4"), ([0.5] * 3, [0.5] * 3)
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's, about tracing
TRANSFORM = Compose([Resize((64, 64), antialias=True), Normalize(*HALF)])
PIXELS = torch.rand(5, 3, 40, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def fitted() -> Patchcore:
    own = PreProcessor(transform=TRANSFORM)
    model = Patchcore("efficientnet_lite0", LAYERS, coreset_sampling_ratio=0.5, pre_processor=own)
    model.training_step(TRANSFORM(torch.rand(6, 3, 40, 56, generator=torch.Generator().manual_seed(1))))
    model.fit()
    model.image_threshold.fill_(1.0)
    model.pixel_threshold.fill_(1.0)
    return model.eval()


@pytest.fixture(scope="module")
def model(fitted) -> PatchcoreModel:
    return fitted.model


def agrees(run, model: PatchcoreModel) -> bool:
    """Whether a graph gives the module's maps and scores, for one image and for four."""
    for images in (TRANSFORM(PIXELS[:1]), TRANSFORM(PIXELS[1:])):
        wanted, found = model(images), run(images)
        for name in ("anomaly_map", "pred_score"):
            np.testing.assert_allclose(np.asarray(found[name]), wanted[name].numpy(), rtol=1e-4)
    return True


def named(values) -> dict:
    """Outputs in order, by name."""
    return dict(zip(("anomaly_map", "pred_score"), values, strict=True))


def test_the_model_is_traced(model):
    assert agrees(torch.jit.trace(model, TRANSFORM(PIXELS[:2]), strict=False), model)


def test_the_model_is_a_program(model):
    batch = {"input_tensor": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(model, (TRANSFORM(PIXELS[:2]),), dynamic_shapes=batch)
    assert agrees(program.module(), model)
    assert agrees(model, model)  # nothing of the recording is left


@pytest.mark.parametrize("dynamo", [False, True])
def test_the_model_runs_in_onnx_runtime(model, dynamo, tmp_path):
    path, names = str(tmp_path / "model.onnx"), ["anomaly_map", "pred_score"]
    batch = {"dynamic_shapes": {"input_tensor": {0: "batch"}}, "verbose": False}
    how = batch if dynamo else {"dynamic_axes": {"input_tensor": {0: "batch"}}, "opset_version": 14}
    images = (TRANSFORM(PIXELS[:2]),)
    torch.onnx.export(model, images, path, dynamo=dynamo, input_names=["input_tensor"], output_names=names, **how)
    session = onnxruntime.InferenceSession(path)
    assert agrees(lambda images: named(session.run(names, {"input_tensor": images.numpy()})), model)


def test_the_model_runs_in_openvino(model):
    converted = openvino.convert_model(model, example_input=TRANSFORM(PIXELS[:2]))
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert agrees(lambda images: named(compiled([images.numpy()]).values()), model)


def test_a_graph_needs_a_bank():
    with pytest.raises(NotFittedError, match="The memory bank is empty"):
        torch.jit.trace(PatchcoreModel(LAYERS, "efficientnet_lite0").eval(), TRANSFORM(PIXELS[:2]), strict=False)


def test_a_detector_has_the_model_s_scores_and_thresholds(fitted, tmp_path):
    detector = detector_of(fitted, TRANSFORM)
    wanted = fitted.validation_step(TRANSFORM(PIXELS))
    detector.save(tmp_path / "model.patchcore")
    for one in (detector, Detector.load(tmp_path / "model.patchcore")):
        results = [one.predict(image.permute(1, 2, 0).numpy()) for image in PIXELS]
        np.testing.assert_allclose([r.score for r in results], wanted.pred_score, rtol=1e-5)
        assert [r.decision == "fail" for r in results] == wanted.pred_label.tolist()


def test_the_usual_transform_is_that_of_the_recipe_lightning(fitted):
    recipe = detector_of(fitted, Patchcore("efficientnet_lite0", LAYERS).configure_transforms()).fitted.recipe
    assert (recipe.resize, recipe.size, recipe.crop) == ("short_side", 256, 224)


def test_what_a_detector_cannot_do_is_an_error(fitted):
    for steps in (
        [RandomCrop(32), Normalize(*HALF)],
        [Resize((64, 64), antialias=True)],
        [Resize((64, 96), antialias=True), CenterCrop(32), Normalize(*HALF)],
        [Resize((64, 64), interpolation=0), Normalize(*HALF)],
    ):
        with pytest.raises(UsageError, match=r"The transform is .*a detector has a Resize to height and width"):
            detector_of(fitted, Compose(steps))
    old = PatchcoreLightning({"layers": LAYERS, "input_size": (64, 64), "backbone": "efficientnet_lite0"})
    with pytest.raises(UsageError, match=r"v0.PatchcoreModel has its own forward, .*Export the torch model itself"):
        old.to_onnx("exported")
    with pytest.raises(NotFittedError):
        detector_of(Patchcore("efficientnet_lite0", LAYERS))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(default_root_dir=tmp_path_factory.mktemp("exported"), accelerator="cpu", logger=False)


@pytest.fixture(scope="module")
def exported(fitted, engine):
    """The path of a real export of a format, by Engine.export."""
    options = {"onnx": {"input_size": (40, 56)}, "openvino": {"compression_type": CompressionType.FP16}, "torch": {}}
    return cache(lambda format: engine.export(fitted, ExportType(format), **options[format]))


IMAGE = PIXELS[0].permute(1, 2, 0).numpy()


def test_to_torch_and_to_onnx_write_an_exported_folder(fitted, exported, engine):
    wanted = fitted.validation_step(TRANSFORM(PIXELS[:1]))
    for format, name in (("torch", "model.pt2"), ("onnx", "model.onnx")):
        path = exported(format)
        assert path.relative_to(engine._root).as_posix() == f"weights/{format}/{name}"
        result = patchcore_runtime.load(path.parent).predict(IMAGE)
        assert result.score == pytest.approx(float(wanted.pred_score), rel=1e-4)
        assert (result.decision == "fail") == bool(wanted.pred_label)


def test_to_openvino_takes_half_precision(fitted, exported):
    path = exported("openvino")
    assert path.parts[-3:] == ("weights", "openvino", "model.xml")
    assert json.loads((path.parent / "manifest.json").read_text())["precision"] == "fp16"
    score = patchcore_runtime.load(path.parent).predict(IMAGE).score
    assert score == pytest.approx(float(fitted.validation_step(TRANSFORM(PIXELS[:1])).pred_score), rel=1e-2)


@pytest.fixture(scope="module")
def bare(fitted, engine, hazelnut, tmp_path_factory):
    """An int8 export of the model without thresholds, and the data that it was quantised on."""
    model = Patchcore("efficientnet_lite0", LAYERS, pre_processor=PreProcessor(TRANSFORM))
    model.model.memory_bank = fitted.model.memory_bank
    data = MVTecAD(hazelnut.parent, "hazelnut", num_workers=0)
    root = tmp_path_factory.mktemp("bare")
    return engine.export(model, "openvino", root, compression_type="int8_ptq", datamodule=data), data


def test_int8_is_quantised_on_the_good_images_of_the_data(bare):
    path, data = bare
    manifest = json.loads((path.parent / "manifest.json").read_text())
    counts = manifest["quantised"]["calibrated_on"], manifest["quantised"]["good"]
    assert (manifest["precision"], *counts) == ("int8", len(data.train), len(data.calibration))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compression_type": "int8"}, "compression_type is 'int8'; expected 'fp16', 'int8_ptq' or None"),
        ({"compression_type": "int8_ptq"}, "needs the good images of an ImageDataModule"),
        ({"metric": "F1Score"}, "got metric, which is not supported"),
        ({"ov_args": {"input": [1]}}, "got ov_args, which is not supported"),
        ({"input_size": "model"}, "always called `model`"),
        ({"model_file_name": "other"}, "always called `model`"),
    ],
)
def test_arguments_of_an_export_that_cannot_be_honoured_are_errors(fitted, tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        fitted.to_openvino(tmp_path, transform=TRANSFORM, **arguments)
    assert not list(tmp_path.iterdir())


# What runs an export


def test_inferencers_give_what_the_engine_predicts(fitted, exported, engine, tmp_path):
    path = tmp_path / "new" / "part.png"
    path.parent.mkdir()
    Image.fromarray((IMAGE * 255).astype(np.uint8)).save(path)
    (wanted,) = engine.predict(fitted, data_path=path)
    for format, kind, tolerance in (
        ("torch", TorchInferencer, 1e-4),
        ("onnx", OpenVINOInferencer, 1e-4),
        ("openvino", OpenVINOInferencer, 1e-2),  # in half precision
    ):
        inferencer = kind(path=exported(format))
        batch = inferencer.predict(str(path))
        assert float(batch.pred_score[0]) == pytest.approx(float(wanted.pred_score), rel=tolerance)
        assert bool(batch.pred_label[0]) == bool(wanted.pred_label)
        assert batch.anomaly_map.shape == batch.pred_mask.shape == (1, 40, 56)
        assert ((np.asarray(batch.anomaly_map) > 0.5) == np.asarray(batch.pred_mask)).all()
        assert (batch.image_path, batch.batch_size, len(batch.items)) == ([str(path)], 1, 1)
        (item,) = batch
        assert float(item.pred_score) == float(batch.pred_score[0])
        assert item.anomaly_map.shape == (40, 56)
        for same in (Image.open(path), np.asarray(Image.open(path)), Path(path)):
            assert float(inferencer(same).pred_score[0]) == float(batch.pred_score[0])


def test_inferencers_take_arrays_tensors_and_batches(exported):
    whole = TorchInferencer(exported("torch"), device="cpu").predict(PIXELS)
    assert whole.image.shape == (5, 3, 40, 56)
    assert whole.pred_score.shape == (5,)
    one = OpenVINOInferencer(exported("onnx"))
    for same in (PIXELS[0], IMAGE, IMAGE * 255, IMAGE.transpose(2, 0, 1)):
        found = one.predict(same)
        np.testing.assert_allclose(found.pred_score, whole.pred_score[:1], rtol=1e-4)
        assert found.image.shape == (1, 40, 56, 3)
    with pytest.raises(ImageError, match="a float image with values from"):
        TorchInferencer(exported("torch")).predict(PIXELS[0] * 255)


def test_version_1_has_one_result_with_drawings(exported):
    path = exported("onnx").with_name("model.bin")  # as their notebook has it; the graph is the same
    inferencer = OpenVINOInferencer(path=path, metadata=path.parent / "metadata.json", device="CPU")
    (item,) = OpenVINOInferencer(path).predict(IMAGE)
    drawn = TorchInferencer(exported("torch")).predict(PIXELS[0])
    for result in (inferencer.predict(IMAGE), ImageResult.from_dataset_item(drawn)):
        assert isinstance(result, ImageResult)
        assert result.pred_score == pytest.approx(float(item.pred_score), rel=1e-4)
        assert result.pred_label is LabelName(int(item.pred_label))
        assert result.image.shape == result.heat_map.shape == result.segmentations.shape == (40, 56, 3)
        assert result.image.dtype == result.heat_map.dtype == result.segmentations.dtype == np.uint8
        assert ((result.pred_mask == 255) == (result.anomaly_map > 0.5)).all()
        assert result.pred_boxes is None
        for mode, task, width in (("simple", "classification", 56), ("full", "segmentation", 4 * 56)):
            page = ImageVisualizer(mode=mode, task=task).visualize_image(result)
            assert page.shape[0] > 40
            assert page.shape[1] >= width
    limits = {"image_threshold": 1e9, "pixel_threshold": 1e9, "min": 0, "max": 2e9, "task": "segmentation"}
    high = OpenVINOInferencer(path, limits).predict(IMAGE)
    assert (high.pred_label, round(high.pred_score, 3)) == (LabelName.NORMAL, 0.0)
    with pytest.raises(AttributeError, match=r"heat_map is version 1's: ImageResult.from_dataset_item\(batch.items"):
        _ = drawn.heat_map
    with pytest.raises(AttributeError, match="ImageBatch has no 'pred_scores'; it has image, anomaly_map"):
        _ = drawn.pred_scores


def test_what_an_inferencer_cannot_have_is_said(exported, tmp_path):
    onnx, torch_path = exported("onnx"), exported("torch")
    assert float(TorchInferencer(torch_path.with_suffix(".pt")).predict(PIXELS[0]).pred_score) > 0  # anomalib's name
    (tmp_path / "model.pt").write_bytes(b"pickle")
    for path in (tmp_path / "model.pt", tmp_path / "model.ckpt", tmp_path / "none.pt"):
        with pytest.raises(UsageError, match=r"expected a program that Patchcore.to_torch .*which is not read"):
            TorchInferencer(path)
    with pytest.raises(patchcore_runtime.ExportError, match=r"no manifest.json in it; expected a folder"):
        OpenVINOInferencer(tmp_path / "model.xml")
    with pytest.raises(UsageError, match="exported for onnx; this inferencer runs torch"):
        TorchInferencer(onnx.parent)
    with pytest.raises(UsageError, match=r"expected a .xml, .bin or .onnx file"):
        OpenVINOInferencer(torch_path)
    with pytest.raises(UsageError, match="path is a tuple; expected the path of a graph"):
        OpenVINOInferencer((b"", b""))
    with pytest.raises(UsageError, match="device is 'gpu0'; it must be one of AUTO, CPU, CUDA"):
        TorchInferencer(torch_path, "gpu0")
    with pytest.raises(DataError, match=r"none.json: cannot be read .*An export writes metadata.json beside"):
        OpenVINOInferencer(onnx, tmp_path / "none.json")
    with pytest.raises(UsageError, match="metadata"):
        OpenVINOInferencer(onnx, {"image_threshold": 1})
    for given, message in (
        ({"device": "GPU"}, "device='GPU' has no effect: an exported graph runs on the CPU"),
        ({"metadata": "NPU"}, "device='NPU' has no effect"),  # version 2's second argument
        ({"config": {"NUM_STREAMS": 2}}, "config has no effect"),
        ({"task": "detection"}, "task is detection: there are no boxes"),
    ):
        with pytest.warns(UserWarning, match=message):
            OpenVINOInferencer(onnx, **given)


def test_an_export_without_thresholds_has_scores_and_no_verdicts(bare):
    with pytest.warns(UserWarning, match="no threshold has been set, so scores are distances"):
        inferencer = OpenVINOInferencer(bare[0])
    batch = inferencer.predict(IMAGE)
    assert batch.pred_score == pytest.approx(patchcore_runtime.load(bare[0].parent).predict(IMAGE).score)
    assert (batch.pred_label, batch.pred_mask) == (None, None)
    with pytest.raises(UsageError, match="There are no thresholds, so there is no verdict to draw"):
        ImageVisualizer().visualize_image(batch)


def test_their_inference_script_reads_draws_and_writes(exported, tmp_path):
    (tmp_path / "in" / "scratch").mkdir(parents=True)
    for name in ("b.png", "a.png"):
        Image.fromarray((IMAGE * 255).astype(np.uint8)).save(tmp_path / "in" / "scratch" / name)
    inferencer, visualizer = TorchInferencer(exported("torch")), ImageVisualizer(mode="simple", task="segmentation")
    for _ in range(2):
        for filename in get_image_filenames(tmp_path / "in"):
            image = read_image(filename, as_tensor=True)
            assert image.shape == (3, 40, 56)
            assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(read_image(filename)))
            page = visualizer.visualize_image(inferencer.predict(image=image))
            save_image(filename=generate_output_image_filename(filename, tmp_path / "out"), image=page)
    assert generate_output_image_filename(filename, tmp_path / "v1.2") == tmp_path / "v1.2" / "scratch" / filename.name
    assert generate_output_image_filename(filename, tmp_path / "v1.2" / "o.png") == tmp_path / "v1.2" / "o.png"
    written = sorted(path.name for path in (tmp_path / "out" / "scratch").iterdir())
    assert written == ["a.png", "a_1.png", "b.png", "b_1.png"]
    assert Image.open(tmp_path / "out" / "scratch" / "a.png").size[0] == page.shape[1]
    with pytest.raises(UsageError, match="no window is opened here"):
        show_image(page, "Output Image")
    with pytest.raises(UsageError, match="is the image itself; give another path"):
        generate_output_image_filename(filename, filename)
    with pytest.raises(DataError, match=r"There is no .*none"):
        get_image_filenames(tmp_path / "none")
    with pytest.raises(UsageError, match="is not in base_dir"):
        get_image_filenames(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match="normalize=True would stretch"):
        ImageVisualizer(normalize=True)
    with pytest.raises(UsageError, match="mode is 'half'; it must be full or simple"):
        ImageVisualizer(mode="half")


# What a subclass overrides


class CityBlock(PatchcoreModel):
    @staticmethod
    def euclidean_dist(x, y):
        return torch.cdist(x, y, p=1)


def test_the_search_goes_through_an_overridden_euclidean_dist(model):
    own = CityBlock(LAYERS, "efficientnet_lite0", num_neighbors=3).eval()
    own.memory_bank = model.memory_bank
    images = TRANSFORM(PIXELS[:2])
    patches = own.reshape_embedding(own.embed(images))
    wanted = torch.cdist(patches, own.memory_bank, p=1).sort(1)
    found = own.nearest_neighbors(patches, 2)
    torch.testing.assert_close(found[0], wanted.values[:, :2])
    torch.testing.assert_close(found[1], wanted.indices[:, :2])
    scores, rows = (one[:, 0].reshape(2, -1) for one in wanted)
    top = scores.argmax(1)
    for i, score in enumerate(own(images)["pred_score"]):
        row = own.memory_bank[rows[i, top[i]]]
        near = torch.cdist(row[None], own.memory_bank, p=1)[0].topk(3, largest=False).indices
        patch = patches.reshape(2, -1, 152)[i, top[i]]
        to = torch.cdist(patch[None], own.memory_bank[near], p=1)[0]
        assert float(score) == pytest.approx(float((1 - to.softmax(0)[0]) * scores[i, top[i]]), rel=1e-4)


@pytest.mark.parametrize("kind", ["v1", "v0"])
def test_training_calls_subsample_embedding(kind, monkeypatch):
    model = (
        Patchcore("efficientnet_lite0", LAYERS, coreset_sampling_ratio=0.25)
        if kind == "v1"
        else PatchcoreLightning(
            {"layers": LAYERS, "input_size": (64, 64), "backbone": "efficientnet_lite0", "coreset_sampling_ratio": 0.25}
        )
    )

    class Every(type(model.model)):
        def subsample_embedding(self, embedding, sampling_ratio):
            self.given = embedding, sampling_ratio
            self.memory_bank = embedding[:3]

    model.model.__class__ = Every
    patches = model.training_step(TRANSFORM(PIXELS[:2]))["embedding"]
    model.fit()
    embedding, ratio = model.model.given
    assert (embedding.dtype, ratio) == (torch.float32, 0.25)
    torch.testing.assert_close(embedding, patches.half().float())
    torch.testing.assert_close(model.model.memory_bank, embedding[:3])


def test_a_subclass_that_drops_patches_first_keeps_the_model_s_seed():
    banks = []
    for seed in (0, 0, 1):
        model = Patchcore("efficientnet_lite0", LAYERS, coreset_sampling_ratio=0.1)
        model.seed = seed

        class Half(PatchcoreModel):
            def subsample_embedding(self, embedding, sampling_ratio):
                super().subsample_embedding(embedding[::2], sampling_ratio)

        model.model.__class__ = Half
        model.training_step(TRANSFORM(PIXELS[:2]))
        model.fit()
        banks.append(model.model.memory_bank)
    assert torch.equal(banks[0], banks[1])
    assert not torch.equal(banks[0], banks[2])


IMPORTS = """
from patchcore.lightning.lightning_model import Patchcore
from patchcore.lightning.torch_model import PatchcoreModel
from patchcore.lightning.anomaly_map import AnomalyMapGenerator
from patchcore.lightning.components import AnomalyModule, DynamicBufferMixin, KCenterGreedy, MemoryBankMixin
from patchcore.lightning.components.base import AnomalyModule, DynamicBufferMixin, MemoryBankMixin
from patchcore.lightning.components.base.anomaly_module import AnomalyModule
from patchcore.lightning.components.base.dynamic_buffer import DynamicBufferMixin
from patchcore.lightning.components.base.export_mixin import ExportMixin
from patchcore.lightning.components.base.memory_bank_module import MemoryBankMixin
from patchcore.lightning.components.sampling import KCenterGreedy
from patchcore.lightning.components.sampling.k_center_greedy import KCenterGreedy
from patchcore.lightning.data.utils.image import save_image
from patchcore.lightning.deploy.inferencers.openvino_inferencer import OpenVINOInferencer
from patchcore.lightning.deploy.inferencers.torch_inferencer import TorchInferencer
from patchcore.lightning.pre_processing import PreProcessor
"""


# Each line in a child of its own, where nothing of ours was imported before it.
FIRST = """
import os, sys
import lightning.pytorch
assert not [name for name in sys.modules if name.split(".")[0] == "patchcore"]
failed = []
for line in sys.argv[1].splitlines():
    child = os.fork()
    if not child:
        code = 1
        try:
            exec(line)
            code = 0
        finally:
            sys.excepthook(*sys.exc_info()) if code else None
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        failed.append(line)
sys.exit("\\n".join(failed) or None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nothing can be forked")
def test_long_paths_of_anomalib_import_first():
    lines = IMPORTS.strip()
    done = subprocess.run([sys.executable, "-c", FIRST, lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wrong = subprocess.run(
        [sys.executable, "-c", FIRST, "import patchcore.no"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 1
    assert wrong.stderr.endswith("import patchcore.no\n")
