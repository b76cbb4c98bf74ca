"""On a GPU, where there is one, as on the CPU."""

import pytest
import torch

from patchcore import Detector, Recipe

DEVICES = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("image_score", ["top_share", "reweighted"])
def test_a_gpu_gives_the_scores_of_the_cpu(device, image_score, hazelnut, tmp_path):
    if not DEVICES[device]():
        pytest.skip(f"this machine has no {device} device")
    recipe = Recipe(size=128, ratio=0.2, min_rows=1, neighbours=3, image_score=image_score)
    images = sorted((hazelnut / "test/colour").iterdir())
    fitted = Detector(recipe, device=device).fit(hazelnut / "train/good")
    fitted.save(tmp_path / "nuts.patchcore")
    on_cpu = Detector.load(tmp_path / "nuts.patchcore", device="cpu").predict(images)
    for there, here in zip(fitted.predict(images), on_cpu, strict=True):
        assert there.score == pytest.approx(here.score, rel=1e-3)
        torch.testing.assert_close(torch.as_tensor(there.map), torch.as_tensor(here.map), rtol=1e-2, atol=1e-2)
