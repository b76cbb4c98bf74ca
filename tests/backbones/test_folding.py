import pytest
import torch
from torch import nn

from patchcore.backbones import Extractor, build, engine, wrap
from patchcore.backbones.folding import folded


def noise(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def settle(model):
    """Batch statistics and affine parameters that are not the neutral ones."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.2, 3)):
                values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)
            for values in (module.weight, module.bias):
                values.data.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return model.eval()


def norms(extractor):
    return sum(isinstance(module, nn.BatchNorm2d) for module in extractor.model.modules())


@pytest.mark.parametrize(
    ("name", "left"),
    [("efficientnet_lite0", 0), ("resnet18", 0), ("torchvision:resnet18", 0), ("regnety_004", 0), ("densenet121", 62)],
)
def test_the_taps_are_the_same_with_fewer_layers(name, left):
    weights = "pretrained" if name == "efficientnet_lite0" else "random"
    extractor = build(name, weights, (8, 16), (96, 96)).extractor
    if weights == "random":
        settle(extractor.model)
    fast = folded(extractor)
    assert norms(extractor) > norms(fast) == left
    for images in (noise(1, 3, 96, 96), noise(3, 3, 64, 128)):
        with torch.inference_mode():
            for got, expected in zip(fast(images), extractor(images), strict=True):
                assert float((got - expected).norm() / expected.norm()) < 1e-5


def test_the_original_stays_as_it_was():
    backbone = build("resnet18", "random", (8, 16), (64, 64))
    before = backbone.digest
    images = noise(1, 3, 64, 64)
    expected = backbone.extractor(images)
    folded(backbone.extractor)
    assert backbone.digest == before
    assert all(map(torch.equal, backbone.extractor(images), expected))


class Small(nn.Module):
    """A convolution, its normalisation, and what `forward` makes of them."""

    def __init__(self, forward):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)
        self.way = forward

    def forward(self, x):
        return self.way(self, x)


def small(forward, taps=("last",)):
    return Extractor(settle(Small(forward)), taps, (32, 32))


def test_a_convolution_whose_output_goes_elsewhere_too_is_left_alone():
    def forward(model, x):
        y = model.conv(x)
        return model.last(model.norm(y) + y)

    extractor = small(forward)
    assert folded(extractor) is extractor


def test_a_convolution_that_is_a_tap_is_left_alone():
    extractor = small(lambda model, x: model.last(model.norm(model.conv(x))), ("conv", "last"))
    assert folded(extractor) is extractor


def test_a_normalisation_that_is_a_tap_gives_what_it_gave():
    extractor = small(lambda model, x: model.last(model.norm(model.conv(x))), ("norm", "last"))
    fast = folded(extractor)
    assert norms(fast) == 0
    images = noise(2, 3, 32, 32)
    for got, expected in zip(fast(images), extractor(images), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_normalisation_of_two_convolutions_is_left_alone():
    def forward(model, x):
        return model.last(model.norm(model.conv(x)) + model.norm(model.conv(x.flip(3))))

    extractor = small(forward)
    assert folded(extractor) is extractor


def test_a_network_without_normalisation_is_left_alone():
    extractor = small(lambda model, x: model.last(model.conv(x).relu()))
    assert folded(extractor) is extractor


def test_the_caller_s_own_network_is_run_as_it_is():
    model = settle(Small(lambda model, x: model.last(model.norm(model.conv(x)))))
    backbone = wrap(model, ("last",), (32, 32))
    assert engine(backbone, "torch", "fp32", torch.device("cpu")) is backbone.extractor
