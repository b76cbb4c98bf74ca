"""EfficientNet-Lite as a network of torch alone is timm's, bit for bit."""

import pytest
import timm
import torch

from patchcore.backbones.lite import Lite

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


@pytest.mark.parametrize("name", NAMES)
def test_weights_modules_stages_and_features_are_those_of_timm(name):
    torch.manual_seed(3)
    ours = Lite(name).eval()
    torch.manual_seed(3)
    theirs = timm.create_model(f"tf_{name}").eval()
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    assert all(torch.equal(own, expected[key]) for key, own in ours.state_dict().items())  # drawn from the same seed
    assert modules(ours) == modules(theirs)
    assert ours.feature_info == [{key: one[key] for key in ("module", "reduction")} for one in theirs.feature_info]
    images = torch.randn(2, 3, 97, 130)  # odd sides, and sides that SAME pads unevenly
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def modules(network):
    return [name for name, _ in network.named_modules() if not name.startswith("global_pool")]
