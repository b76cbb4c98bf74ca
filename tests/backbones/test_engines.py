"""What runs the network changes how long it takes, and nothing else."""

import gc
import logging
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from patchcore import BackboneError, Detector, MissingExtraError, Recipe, UsageError
from patchcore.backbones import Backbone, build, engines, wrap
from patchcore.backbones.engines import with_openvino, with_torch

CPU = torch.device("cpu")
openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed: patchcore[openvino]")


class Padded(nn.Module):
    """Two stages that pad by the size of what they get, which tracing writes down as a constant."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 5, 4), nn.Conv2d(8, 12, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for stage in (self.first, self.second):
            (step, _), (side, _) = stage.stride, stage.kernel_size
            missing = [max((-(-n // step) - 1) * step + side - n, 0) for n in (x.shape[3], x.shape[2])]
            x = stage(nn.functional.pad(x, [n for m in missing for n in (m // 2, m - m // 2)])).relu()
        return x


def some_images(n: int, *size: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def errors(taps: list[Tensor], expected: list[Tensor]) -> list[float]:
    """Of each tap, the norm of the difference relative to the norm."""
    assert [tap.shape for tap in taps] == [tap.shape for tap in expected]
    assert all(tap.dtype == torch.float32 for tap in taps)
    return [float((a - b).norm() / b.norm()) for a, b in zip(taps, expected, strict=True)]


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return build("efficientnet_lite0", "pretrained", (8, 16), (256, 256))


@pytest.fixture
def padded() -> Backbone:
    return wrap(Padded(), ("first", "second"), (64, 64))


@pytest.fixture(scope="module")
def lite0_openvino(lite0):
    return engines.engine(lite0, "openvino", "fp32", CPU, threads=1)


@pytest.fixture(scope="module")
def real(hazelnut) -> list[Path]:
    """Ten photographs, of good nuts and of others, each larger than the network's input."""
    paths = [*sorted(hazelnut.glob("test/*/*.jpg")), *sorted(hazelnut.glob("train/good/*.jpg"))][:10]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 256
    return paths


@pytest.fixture(scope="module")
def fitted(hazelnut, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "nuts.patchcore"
    Detector(Recipe(min_rows=1, calibration="held_out")).fit(hazelnut / "train" / "good").save(path)
    return path


@pytest.fixture(scope="module")
def expected(fitted, real) -> np.ndarray:
    """The scores by torch in single precision."""
    return scores(fitted, real)


def scores(file: Path, found: list[Path], **options: str) -> np.ndarray:
    return np.array([result.score for result in Detector.load(file, **options).predict(found)])


def test_torch_in_single_precision_gives_the_extractor_s_taps(lite0):
    run, images = engines.engine(lite0, "torch", "fp32", CPU), some_images(2, 96, 128)
    for got, expected in zip(run(images), lite0.extractor(images), strict=True):
        assert float((got - expected).norm() / expected.norm()) < 1e-5


@openvino
@pytest.mark.parametrize(
    ("name", "weights", "size"),
    [
        ("efficientnet_lite0", "pretrained", (256, 256)),
        ("resnet18", "random", (96, 160)),
        ("vit_tiny_patch16_224", "random", (224, 224)),
        ("swin_tiny_patch4_window7_224", "random", (64, 64)),  # gives its channels last
    ],
)
def test_openvino_reads_the_taps_that_torch_reads(name, weights, size):
    backbone = build(name, weights, (8, 16), size)
    run = engines.engine(backbone, "openvino", "fp32", CPU)
    for n in (1, 3):
        x = some_images(n, *size)
        with torch.inference_mode():
            assert max(errors(run(x), backbone.extractor(x))) < 1e-4


@openvino
def test_taps_come_in_the_order_they_were_asked_for():
    backbone = wrap(Padded(), ("second", "first"), (64, 64))
    x = some_images(1, 64, 64)
    assert max(errors(engines.engine(backbone, "openvino", "fp32", CPU)(x), backbone.extractor(x))) < 1e-4


@pytest.fixture
def with_bf16(monkeypatch):
    """bf16 in torch whatever the processor has, where it may take long."""
    monkeypatch.setattr(with_torch, "_multiplies_bf16", lambda: True)


@pytest.mark.parametrize("units", [{"avx2": True, "avx512_bf16": False}, {"neon": True, "bf16": True}, {}])
def test_bfloat16_is_left_where_the_processor_does_not_multiply_it(units, padded, monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    with_torch._multiplies_bf16.cache_clear()
    x = some_images(1, 64, 64)
    with torch.inference_mode():
        single = engines.engine(padded, "torch", "fp32", CPU)(x)
        found = engines.engine(padded, "torch", "bf16", CPU)(x)
    with_torch._multiplies_bf16.cache_clear()
    left = all(map(torch.equal, single, found))
    assert left == ("no units for bf16" in caplog.text) == ("avx2" in units)


@pytest.mark.parametrize("name", ["torch", pytest.param("openvino", marks=openvino)])
@pytest.mark.parametrize(("backbone", "weights"), [("efficientnet_lite0", "pretrained"), ("resnet18", "random")])
def test_bfloat16_taps_are_near_and_single_precision_numbers(name, backbone, weights, with_bf16):
    # Eight bits of mantissa through up to fifteen layers: 3 to 5 % of a tap of Lite0.
    built = build(backbone, weights, (8, 16), (128, 128))
    x = some_images(2, 128, 128)
    with torch.inference_mode():
        found = errors(engines.engine(built, name, "bf16", CPU)(x), built.extractor(x))
    assert max(found) < 0.1
    assert min(found) > 0  # it really is another precision


@openvino
def test_auto_takes_openvino_where_it_agrees(lite0, lite0_openvino):
    x = some_images(1, 128, 128)
    found = engines.engine(lite0, "auto", "fp32", CPU, threads=1)(x)
    assert all(map(torch.equal, found, lite0_openvino(x)))


@openvino
def test_auto_takes_torch_where_openvino_computes_something_else(padded, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setitem(with_openvino._LARGEST_ERROR, "fp32", -1.0)
    x = some_images(1, 64, 64)
    with torch.inference_mode():
        run = engines.engine(padded, "auto", "fp32", CPU)
        assert all(map(torch.equal, run(x), engines.engine(padded, "torch", "fp32", CPU)(x)))
    assert "engine='auto' takes torch: OpenVINO computes something else" in caplog.text


def test_auto_takes_torch_where_openvino_is_not_installed(padded, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setitem(sys.modules, "openvino", None)
    x = some_images(1, 64, 64)
    with torch.inference_mode():
        run = engines.engine(padded, "auto", "fp32", CPU)
        assert all(map(torch.equal, run(x), engines.engine(padded, "torch", "fp32", CPU)(x)))
    assert "engine='auto' takes torch" in caplog.text


@openvino
def test_sizes_may_change_from_batch_to_batch_and_come_back(padded, monkeypatch):
    monkeypatch.setattr(with_openvino, "_SIZES", 2)
    run = engines.engine(padded, "openvino", "fp32", CPU, threads=1)
    for n, size in ((1, (256, 256)), (2, (223, 321)), (3, (256, 256)), (1, (95, 160)), (2, (223, 321))):
        x = some_images(n, *size)
        with torch.inference_mode():
            assert max(errors(run(x), padded.extractor(x))) < 1e-4
    assert len(run._compiled) == 2


@openvino
def test_threads_that_share_an_engine_get_their_own_taps(lite0, lite0_openvino):
    inputs = [some_images(1 + seed % 3, 128, 128 + 32 * (seed % 2), seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lite0_openvino, inputs))
    with torch.inference_mode():
        assert max(max(errors(taps, lite0.extractor(x))) for taps, x in zip(found, inputs, strict=True)) < 1e-4


@openvino
def test_later_images_do_not_write_over_earlier_taps(lite0_openvino):
    first = lite0_openvino(some_images(1, 128, 128))
    before = [tap.clone() for tap in first]
    lite0_openvino(some_images(1, 128, 128, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(first, before, strict=True))


@openvino
def test_scores_are_those_of_torch(fitted, real, expected):
    floor = 1e-6 * np.median(Detector.load(fitted).fitted.calibration.scores)
    assert len(expected) == 10
    np.testing.assert_allclose(scores(fitted, real, engine="openvino"), expected, rtol=1e-4, atol=floor)


@pytest.mark.parametrize("name", ["torch", pytest.param("openvino", marks=openvino)])
def test_scores_in_bfloat16_are_near_those_of_single_precision(name, fitted, real, expected, with_bf16):
    # A score comes from few patches, so single ones stray further than most.
    found = scores(fitted, real, engine=name, precision="bf16")
    assert np.median(abs(found / expected - 1)) < 1e-2
    np.testing.assert_allclose(found, expected, rtol=5e-2)
    assert (found != expected).any()


@openvino
def test_fit_does_not_depend_on_the_engine(hazelnut, small_recipe, detector, tmp_path):
    other = Detector(small_recipe, engine="openvino", precision="bf16").fit(hazelnut / "train" / "good")
    assert other.save(tmp_path / "a.patchcore") == detector.save(tmp_path / "b.patchcore")
    assert other.embedders[0].engine is not other.embedders[0].backbone.extractor  # from now on, the one asked for


@openvino
def test_a_network_that_openvino_gets_wrong_is_refused_and_not_used(padded, monkeypatch):
    monkeypatch.setitem(with_openvino._LARGEST_ERROR, "fp32", -1.0)  # no difference at all would be too large
    run = engines.engine(padded, "openvino", "fp32", CPU)
    with pytest.raises(BackboneError, match=r"something else than torch.* at 64 x 64 pixels\. Use engine='torch'"):
        run(some_images(1, 64, 64))


@openvino
def test_resized_position_embeddings_are_right_or_refused():
    # Off its own size this network resizes them, with antialiasing that some versions of OpenVINO leave out.
    backbone = build("vit_tiny_patch16_224", "random", (8, 16), (256, 256))
    x = some_images(1, 256, 256)
    run = engines.engine(backbone, "openvino", "fp32", CPU)
    with suppress(BackboneError), torch.inference_mode():
        assert max(errors(run(x), backbone.extractor(x))) < 1e-4


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@openvino
def test_a_network_that_cannot_be_converted_is_refused_with_the_reason():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 8, 1), Bessel())
    run = engines.engine(wrap(network, ("1",), (64, 64)), "openvino", "fp32", CPU)
    level = logging.getLogger().level
    with pytest.raises(BackboneError, match=r"OpenVINO does not take this backbone: .*bessel.*Use engine='torch'"):
        run(some_images(1, 64, 64))
    assert logging.getLogger().level == level  # OpenVINO leaves ERROR


@openvino
def test_a_size_that_the_network_does_not_take_is_refused_as_with_torch():
    backbone = build("vit_tiny_patch16_224", "random", (8, 16), (224, 224))
    with pytest.raises(BackboneError, match="does not take images of 100 x 100 pixels"):
        engines.engine(backbone, "openvino", "fp32", CPU)(some_images(1, 100, 100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tensorrt"}, r"engine is 'tensorrt'; expected one of torch, openvino, auto\."),
        ({"precision": "fp16"}, r"precision is 'fp16'; expected one of fp32, bf16\."),
    ],
)
def test_unknown_names_are_refused_with_those_there_are(options, message, model_file):
    with pytest.raises(UsageError, match=message):
        Detector(**options)
    with pytest.raises(UsageError, match=message):
        Detector.load(model_file, **options)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_openvino_on_another_device_is_refused(device):
    with pytest.raises(UsageError, match=rf"engine='openvino' runs on the CPU only, not on {device}"):
        engines.check("openvino", "fp32", torch.device(device))


def test_without_openvino_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'patchcore\[openvino\]'"):
        Detector(engine="openvino")


@openvino
def test_openvino_is_loaded_only_when_asked_for_and_without_its_telemetry():
    code = (
        "import sys; from patchcore import Detector; Detector(); assert 'openvino' not in sys.modules;"
        "Detector(engine='openvino'); assert 'openvino' in sys.modules;"
        "assert 'openvino_telemetry' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@openvino
def test_converting_leaves_the_network_and_torch_s_settings_alone(padded):
    x = some_images(1, 64, 96)
    before = (padded.extractor(x), torch.get_num_threads(), torch.is_grad_enabled(), padded.digest)
    engines.engine(padded, "openvino", "bf16", CPU, threads=2)(x)
    after = (padded.extractor(x), torch.get_num_threads(), torch.is_grad_enabled(), padded.digest)
    assert before[1:] == after[1:]
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))


def test_embedders_of_one_backbone_share_the_copy_that_computes_less():
    backbone = build("efficientnet_lite0", "random", (8, 16), (64, 64))
    first, second = (engines.engine(backbone, "torch", "fp32", CPU) for _ in range(2))
    assert first is second is not backbone.extractor
    gone = weakref.ref(first)
    del first, second, backbone
    gc.collect()
    assert gone() is None
