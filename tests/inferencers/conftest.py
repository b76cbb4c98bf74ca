"""A model that was trained by a configuration, once for all tests here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from patchcore.inferencers import train


@pytest.fixture(scope="session")
def config_for() -> Callable[..., dict]:
    """A configuration that is quick to train, for a dataset."""

    def config(root: Path, **dataset) -> dict:
        return {
            "dataset": {"path": str(root), "image_size": 128, "num_workers": 0, **dataset},
            "model": {"name": "patchcore", "backbone": "efficientnet_lite0", "layers": ["blocks.2", "blocks.4"]},
            "trainer": {"accelerator": "cpu", "enable_progress_bar": False},
        }

    return config


@pytest.fixture(scope="session")
def trained(hazelnut, config_for, tmp_path_factory):
    return train(config_for(hazelnut), output=tmp_path_factory.mktemp("trained"))
