import numpy as np
import pytest
import torch
from inspection_golden import Stages

from patchcore.inspection import PatchCore

SHAPE = (3, 40, 48)


def images(seed: int, n: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, *SHAPE)).astype(np.float32))


@pytest.fixture
def network() -> Stages:
    return Stages()


@pytest.fixture
def good() -> torch.Tensor:
    return images(1, 3)


@pytest.fixture
def new() -> torch.Tensor:
    return images(2, 2)


@pytest.fixture
def make(network):
    """A loaded model; arguments of `load` can be changed."""

    def build(**changes) -> PatchCore:
        model = PatchCore("cpu")
        arguments = {
            "backbone": network,
            "layers_to_extract_from": ["low", "high"],
            "device": torch.device("cpu"),
            "input_shape": SHAPE,
            "pretrain_embed_dimension": 32,
            "target_embed_dimension": 24,
        }
        model.load(**{**arguments, **changes})
        return model

    return build


@pytest.fixture
def fitted(make, good) -> PatchCore:
    model = make()
    model.fit([good])
    return model
