"""Reading taps: the right layers, as grids, from networks of every kind, and no more work than needed."""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from torch import Tensor, nn

from patchcore import BackboneError
from patchcore.backbones import Extractor, build, wrap


def random_model(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, **options).eval()


def images(n: int, *size: int) -> Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(0))


class Pyramid(nn.Module):
    """A network of a caller's own: strides 2, 4 and 8, and parts that are no feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.middle = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())
        self.pair = Pair()
        self.deep = nn.Conv2d(6, 8, 3, 2, 1)
        self.unused = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.pair(self.middle(self.stem(x)))
        return self.head(self.deep(x).mean((2, 3)))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("efficientnet_lite0", ("blocks.2", "blocks.4")),
        ("resnet18", ("layer2", "layer3")),
        ("torchvision:resnet18", ("layer2", "layer3")),
        ("torchvision:mobilenet_v2", ("features.6", "features.13")),
        ("convnext_atto", ("stages.1", "stages.2")),
        ("swin_tiny_patch4_window7_224", ("layers.1", "layers.2")),
        ("vit_tiny_patch16_224", ("blocks.5", "blocks.8")),
    ],
)
def test_strides_stand_for_the_layers_that_have_them(name, names):
    x = images(1, 64, 64)
    by_stride = build(name, "random", (8, 16), (64, 64)).extractor
    by_name = build(name, "random", names, (64, 64)).extractor
    assert tuple(by_stride.taps) == names
    with torch.inference_mode():
        for a, b in zip(by_stride(x), by_name(x), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "channels", "grids"),
    [
        ("efficientnet_lite0", [40, 112], [(8, 12), (4, 6)]),
        ("resnet18", [128, 256], [(8, 12), (4, 6)]),
        ("torchvision:resnet18", [128, 256], [(8, 12), (4, 6)]),
        ("torchvision:mobilenet_v2", [32, 96], [(8, 12), (4, 6)]),
        ("convnext_atto", [80, 160], [(8, 12), (4, 6)]),
        ("swin_tiny_patch4_window7_224", [192, 384], [(8, 12), (4, 6)]),  # gives its channels last
        ("vit_tiny_patch16_224", [192, 192], [(4, 6), (4, 6)]),
        ("vit_small_patch16_dinov3", [384, 384], [(4, 6), (4, 6)]),
    ],
)
def test_taps_are_grids_with_the_images_proportions(name, channels, grids):
    extractor = build(name, "random", (8, 16), (64, 96)).extractor
    with torch.inference_mode():
        taps = extractor(images(2, 64, 96))
    assert [tuple(tap.shape) for tap in taps] == [(2, c, *grid) for c, grid in zip(channels, grids, strict=True)]
    assert extractor.channels == channels


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["layer1", "layer2", "layer3"]),
        ("convnext_atto", ["stages.0", "stages.1", "stages.2"]),
        ("swin_tiny_patch4_window7_224", ["layers.0", "layers.1", "layers.2"]),
    ],
)
def test_taps_of_stages_are_the_networks_own_feature_maps(name, layers):
    options = {"img_size": 64} if "swin" in name else {}
    model = random_model(
        name, features_only=True, out_indices=(0, 1, 2) if name != "resnet18" else (1, 2, 3), **options
    )
    own = random_model(name, **options)
    own.load_state_dict({k.replace("stages_", "stages.").replace("layers_", "layers."): v
                         for k, v in model.state_dict().items()}, strict=False)  # fmt: skip
    x = images(1, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(Extractor(own, layers, (64, 64))(x), model(x), strict=True):
            if "swin" in name:
                theirs = theirs.permute(0, 3, 1, 2)
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("name", "patch", "prefix"),
    [
        ("vit_tiny_patch16_224", 16, 1),
        ("deit_tiny_distilled_patch16_224", 16, 2),
        ("vit_small_patch14_dinov2", 14, 1),
        ("vit_small_patch14_reg4_dinov2", 14, 5),
        ("vit_small_patch16_dinov3", 16, 5),
    ],
)
def test_tokens_become_a_grid_without_prefix_tokens(name, patch, prefix):
    h, w = 5 * patch, 7 * patch
    model = random_model(name, dynamic_img_size=True)
    x = images(2, h, w)
    with torch.inference_mode():
        tokens = model.forward_intermediates(x, indices=[2, 4], norm=True, intermediates_only=True, output_fmt="NLC")
        assert model.num_prefix_tokens == prefix
        taps = Extractor(model, ["blocks.2", "blocks.4"], (h, w))(x)
    for tap, expected in zip(taps, tokens, strict=True):
        assert tap.shape == (2, expected.shape[-1], 5, 7)
        # Row by row, as the patches lie in the image.
        for row, column in ((0, 0), (1, 0), (3, 6)):
            torch.testing.assert_close(tap[:, :, row, column], expected[:, row * 7 + column])


def test_tokens_lie_where_their_patch_is():
    model = random_model("vit_tiny_patch16_224", dynamic_img_size=True)
    extractor = Extractor(model, ["blocks.0"], (64, 96))
    black, dotted = torch.zeros(1, 3, 64, 96), torch.zeros(1, 3, 64, 96)
    dotted[:, :, 32:48, 80:96] = 1  # the patch of row 2, column 5
    with torch.inference_mode():
        change = (extractor(dotted)[0] - extractor(black)[0]).norm(dim=1)[0]
    assert divmod(int(change.argmax()), 6) == (2, 5)


@pytest.mark.parametrize(
    ("name", "taps", "after"),
    [
        ("resnet18", (8, 16), ["layer4", "fc"]),
        ("resnet18", (16, 8), ["layer4", "fc"]),
        ("efficientnet_lite0", (8,), ["blocks.3", "conv_head"]),
        ("vit_tiny_patch16_224", ("blocks.1",), ["blocks.2", "head"]),
    ],
)
def test_nothing_after_the_deepest_tap_runs(name, taps, after):
    extractor = build(name, "random", taps, (64, 64)).extractor
    ran = []
    for layer in after:
        extractor.model.get_submodule(layer).register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    extractor(images(1, 64, 64))
    assert ran == []
    extractor(images(1, 64, 64), stop=False)
    assert ran == after


def test_the_whole_network_gives_the_same_taps_as_the_stopped_one():
    extractor = build("resnet18", "random", (8, 16), (64, 64)).extractor
    x = images(2, 64, 64)
    for a, b in zip(extractor(x), extractor(x, stop=False), strict=True):
        assert torch.equal(a, b)


def test_taps_come_in_the_order_they_were_asked_for():
    shallow, deep = build("resnet18", "random", (8, 16), (64, 64)).extractor(images(1, 64, 64))
    unordered = build("resnet18", "random", (16, 8), (64, 64)).extractor
    assert torch.equal(unordered(images(1, 64, 64))[0], deep)
    assert torch.equal(unordered(images(1, 64, 64))[1], shallow)
    assert unordered.strides[0] == 16


def test_threads_that_share_an_extractor_get_their_own_taps():
    extractor = build("resnet18", "random", (8, 16), (64, 64)).extractor
    inputs = [images(1, 64, 64) * (n + 1) for n in range(24)]
    expected = [extractor(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(extractor, inputs))
    for ours, theirs in zip(actual, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_network_can_be_used_beside_the_extractor():
    model = Pyramid()
    extractor = Extractor(model, ["middle"], (32, 32))
    extractor(images(1, 32, 32))
    assert model(images(1, 32, 32)).shape == (1, 2)


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_lite0",
        "resnet18",
        "torchvision:mobilenet_v2",
        "convnext_atto",
        "vit_tiny_patch16_224",
        "vit_small_patch14_reg4_dinov2",
        "vit_small_patch16_dinov3",
        "swin_tiny_patch4_window7_224",
    ],
)
def test_the_state_that_is_kept_is_all_the_taps_need_and_less_than_the_network(name):
    size = (70, 70) if "patch14" in name else (64, 64)
    backbone, other = (build(name, "random", (8, 16), size, seed) for seed in (0, 1))
    x = images(1, *size)
    with torch.inference_mode():
        expected = backbone.extractor(x)
        assert not torch.equal(other.extractor(x)[0], expected[0])
        missing = other.extractor.model.load_state_dict(backbone.state, strict=False)
        assert not missing.unexpected_keys
        for a, b in zip(other.extractor(x), expected, strict=True):
            assert torch.equal(a, b)
    whole = sum(tensor.numel() for tensor in backbone.extractor.model.state_dict().values())
    assert sum(tensor.numel() for tensor in backbone.state.values()) < 0.9 * whole


def test_a_network_of_the_callers_own_has_strides_and_names():
    model = Pyramid()
    backbone = wrap(model, (4, "deep"), (32, 32))
    x = images(2, 32, 32)
    shallow, deep = backbone.extractor(x)
    assert torch.equal(shallow, model.middle(model.stem(x)))
    assert torch.equal(deep, model.deep(shallow))
    assert backbone.extractor.strides == [4, 8]
    assert not any(name.startswith(("unused", "head")) for name in backbone.state)


def test_a_square_grid_is_not_mistaken_for_channels():
    # 8 channels on an 8 x 8 grid: both readings of the shape are possible.
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 8, 3, 1, 1))
    x = images(1, 32, 32)
    (tap,) = Extractor(model, ["0"], (32, 32))(x)
    assert torch.equal(tap, model[0](x))


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (("midle",), r"tap 'midle' is not a module that runs.*Did you mean 'middle'\?.*It has stem, middle"),
        (("unused",), r"tap 'unused' is not a module that runs"),
        (("pair",), r"tap 'pair' does not return a tensor"),
        (("head",), r"tap 'head' gives a shape \(1, 2\); expected a feature map.*earlier module"),
        ((16,), r"no tap of stride 16; it has \[2, 4, 8\]"),
    ],
)
def test_a_tap_that_does_not_exist_is_answered_with_those_that_do(taps, message):
    with pytest.raises(BackboneError, match=message):
        wrap(Pyramid(), taps, (32, 32))


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("efficientnet_lite0", ["conv_stem", "blocks.0 to blocks.6", "conv_head"]),
        ("resnet18", ["conv1", "layer1 to layer4", "layer1.0 to layer4.1"]),
        ("torchvision:vit_b_32", ["encoder.layers.encoder_layer_0 to encoder.layers.encoder_layer_11"]),
    ],
)
def test_the_error_of_a_tap_lists_every_stage_and_nothing_that_is_no_map(name, stages):
    with pytest.raises(BackboneError) as caught:
        build(name, "random", ("none",), (224, 224))
    listed = str(caught.value).partition("It has ")[2].split(", ")
    assert set(stages) <= set(listed)
    assert not any("pool.pool" in one or one.startswith(("classifier", "fc", "heads")) for one in listed)


def test_a_list_of_stages_that_was_cut_says_so():
    letters = [chr(ord("a") + number) for number in range(22)]
    model = nn.Sequential(OrderedDict((name, nn.Conv2d(3, 3, 1)) for name in letters))
    with pytest.raises(BackboneError, match=r"It has a, b, .*, s, t, \.\.\., and what is inside them\."):
        wrap(model, ("z#",), (8, 8))


def test_a_stride_without_meaning_in_a_vision_transformer_is_refused():
    with pytest.raises(BackboneError, match=r"stride 12 .* use 4, 8, 16 or 32"):
        build("vit_tiny_patch16_224", "random", (12,), (64, 64))


@pytest.mark.parametrize(("name", "side"), [("vit_tiny_patch16_224", 100), ("vit_small_patch14_dinov2", 128)])
def test_a_size_that_is_no_multiple_of_the_patch_is_explained(name, side):
    with pytest.raises(BackboneError, match=rf"{side} x {side} pixels.*a multiple of its patch"):
        build(name, "random", (8,), (side, side))


def test_images_of_another_size_than_promised_are_refused_where_the_network_cannot_take_them():
    # torchvision's vision transformers are built for one size.
    extractor = build("torchvision:vit_b_32", "random", (8,), (64, 64)).extractor
    with pytest.raises(BackboneError, match=r"does not take images of 64 x 96 pixels"):
        extractor(images(1, 64, 96))
