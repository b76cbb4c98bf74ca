"""Out of Lightning: graphs of the torch model, exported folders, detectors."""

import subprocess
import sys

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, RandomCrop, Resize

from patchcore import Detector, NotFittedError, UsageError
from patchcore.lightning import Patchcore, PatchcoreModel, detector_of
from patchcore.lightning.v0 import PatchcoreLightning

LAYERS, HALF = ("blocks.2", "blocks.4"), ([0.5] * 3, [0.5] * 3)
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's, about tracing
TRANSFORM = Compose([Resize((64, 64), antialias=True), Normalize(*HALF)])
PIXELS = torch.rand(5, 3, 40, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def fitted() -> Patchcore:
    model = Patchcore("efficientnet_lite0", LAYERS, coreset_sampling_ratio=0.5)
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
    recipe = detector_of(fitted).fitted.recipe
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


def test_to_torch_and_to_onnx_write_an_exported_folder(fitted, tmp_path):
    import patchcore_runtime

    wanted = fitted.validation_step(TRANSFORM(PIXELS[:1]))
    for path in (
        fitted.to_torch(tmp_path, transform=TRANSFORM),
        fitted.to_onnx(tmp_path, (40, 56), TRANSFORM),
    ):
        assert path.is_file()
        result = patchcore_runtime.load(path.parent).predict(PIXELS[0].permute(1, 2, 0).numpy())
        assert result.score == pytest.approx(float(wanted.pred_score), rel=1e-4)
        assert (result.decision == "fail") == bool(wanted.pred_label)
    assert path.relative_to(tmp_path).as_posix() == "weights/onnx/model.onnx"


def test_to_openvino_takes_half_precision(fitted, tmp_path):
    import patchcore_runtime

    path = fitted.to_openvino(tmp_path, transform=TRANSFORM, compression_type="fp16")
    assert path.relative_to(tmp_path).as_posix() == "weights/openvino/model.xml"
    score = patchcore_runtime.load(path.parent).predict(PIXELS[0].permute(1, 2, 0).numpy()).score
    assert score == pytest.approx(float(fitted.validation_step(TRANSFORM(PIXELS[:1])).pred_score), rel=1e-2)


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
"""


@pytest.mark.parametrize("line", IMPORTS.strip().splitlines())
def test_a_long_path_of_anomalib_imports_first(line):
    subprocess.run([sys.executable, "-c", line], check=True)
