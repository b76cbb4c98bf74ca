"""The pages for those who come from patchcore-inspection run."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

DOCS = Path(__file__).parents[2] / "docs"


def test_the_script_of_before_runs_with_another_prefix_and_that_of_after_gives_its_scores(monkeypatch, tmp_path):
    before, after = re.findall(r"```python\n(.*?)```", (DOCS / "migration-inspection.md").read_text("utf-8"), re.S)[:2]
    before = re.sub(r"\bpatchcore\.(?=backbones|common|patchcore|sampler|datasets)", "patchcore.inspection.", before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = models.wide_resnet50_2(weights=None).state_dict()
    # Weights that cannot be had offline; everything else is as on the page.
    monkeypatch.setattr("patchcore.backbones.registry.pretrained_state", lambda name, model: state)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/bottle").mkdir(parents=True)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32))
    batches = [{"image": p[None], "is_anomaly": torch.tensor([0]), "mask": torch.zeros(1, 1, 224, 224)} for p in images]
    results = []
    for code, warned in ((before, True), (after, False)):
        names = {"device": torch.device("cpu"), "train_loader": batches[:1], "test_loader": batches[1:]}
        if warned:
            with pytest.warns(UserWarning, match="anomaly_scorer_num_nn=1 is taken as anomaly_score_num_nn"):
                exec(code, names)
        else:
            exec(code, names)
        results.append(names)
    for names in results:
        assert [len(names[key]) for key in ("scores", "masks", "labels_gt", "masks_gt")] == [1, 1, 1, 1]
    np.testing.assert_allclose(results[0]["scores"], results[1]["scores"], rtol=1e-4)
    np.testing.assert_allclose(results[0]["masks"], results[1]["masks"], rtol=1e-3)
    files = {path.name for path in (tmp_path / "models/bottle").iterdir()}
    index = "nnscorer_search_index"
    assert files == {f"{index}.safetensors", f"{index}.faiss", "patchcore_params.json"}  # the later one's
