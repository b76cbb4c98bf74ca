"""What works without the extra `lightning`, and what says how to install it."""

import subprocess
import sys

import pytest

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lightning", "omegaconf"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import patchcore.inferencers as inferencers
assert "torch" not in sys.modules
import numpy as np
assert inferencers.add_label(np.zeros((40, 60, 3), np.uint8), 0.4).shape == (40, 60, 3)
assert inferencers.PreProcessor(image_size=8)(np.zeros((4, 6, 3), np.uint8))["image"].shape == (3, 8, 8)
for name in ("TorchInferencer", "get_model", "train"):
    try:
        getattr(inferencers, name)
    except ImportError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def said() -> list[str]:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_overlays_need_no_lightning_and_models_say_what_they_need(said):
    assert len(said) == 3
    for line in said:
        assert line.startswith("MissingExtraError")
        assert line.endswith("Install it with: pip install 'patchcore[lightning]'")
