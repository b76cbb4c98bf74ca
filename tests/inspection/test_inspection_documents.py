"""The pages for those who come from patchcore-inspection are true."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

DOCS = Path(__file__).parents[2] / "docs"


def rows():
    """Name and place of each row of the table."""
    text = (DOCS / "compatibility.md").read_text("utf-8").partition("## patchcore-inspection")[2]
    for line in text.splitlines():
        if line.startswith("| `") and "`nn_method`" not in line[:15]:
            names, place, *_ = line.strip("|").split(" | ")
            yield names, place.strip("` |")


def test_every_name_of_the_table_is_where_it_says(make):
    found = list(rows())
    assert len(found) >= 20
    for names, place in found:
        known = [import_module(f"patchcore.{place}"), import_module("patchcore.inspection")]
        for name in re.findall(r"`([\w.]+)", names):
            for part in name.split("."):
                owner = next((owner for owner in reversed(known) if hasattr(owner, part)), None)
                if part == "forward_modules":  # there once a model is loaded
                    owner = make()
                assert owner is not None, f"{place}: {name}"
                known.append(getattr(owner, part))


def test_the_script_of_before_runs_with_another_prefix_and_that_of_after_gives_its_scores(monkeypatch, tmp_path):
    before, after = re.findall(r"```python\n(.*?)```", (DOCS / "migration-inspection.md").read_text("utf-8"), re.S)[:2]
    before = re.sub(r"\bpatchcore\.(?=backbones|common|patchcore|sampler|datasets)", "patchcore.inspection.", before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = models.wide_resnet50_2(weights=None).state_dict()
    # Weights that cannot be had offline; everything else is as on the page.
    monkeypatch.setattr("patchcore.backbones.registry._pretrained_state", lambda architecture: state)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/bottle").mkdir(parents=True)
    pictures = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32))
    batches = [
        {"image": p[None], "is_anomaly": torch.tensor([0]), "mask": torch.zeros(1, 1, 224, 224)} for p in pictures
    ]
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
    assert files == {"nnscorer_search_index.safetensors", "patchcore_params.json"}  # the later one's
