"""docs/file-format.md is enough to read a model: what it says is done here with NumPy and the standard library."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY, Tiny, noise

from patchcore import Detector, Recipe
from patchcore.data.sample import Sample
from patchcore.model import check
from patchcore.pipeline.workers import Loaded
from patchcore.recipe.rules import OF_ALL

PAGE = (Path(__file__).parents[2] / "docs" / "file-format.md").read_text("utf-8")


@pytest.fixture(scope="module")
def read():
    """The function on the page."""
    (code,) = re.findall(r"```python\n(.*?)^header, tensors = ", PAGE, re.DOTALL | re.MULTILINE)
    found = {}
    exec(code, found)
    return found["read"]


def test_the_page_names_every_tensor_and_every_key_of_a_header():
    tensors = {name.partition(".")[2] if name.endswith(".order") else name for name in check._TENSORS}
    models = [check._Whole, check.About, check._Backbone, check._Source, check._Rows, check._Calibration]
    models += [check._Defects, check._Data, check._Reference, check._Images]
    keys = {name for model in models for name in model.model_fields}
    assert [name for name in sorted({*tensors, *keys, *OF_ALL}) if f"`{name}`" not in PAGE] == []


def test_an_ensemble_is_read(read, tmp_path, hazelnut):
    one = {"size": 64, "ratio": 0.05, "min_rows": 1, "taps": (8, 16)}
    several = Recipe(members=[Recipe(**one), Recipe(**{**one, "augment": ("flip_h",)})], gate="none")
    Detector(several).fit(sorted((hazelnut / "train/good").iterdir())[:4]).save(tmp_path / "both.patchcore")
    header, tensors = read(tmp_path / "both.patchcore")
    for number, member in enumerate(header["members"]):
        rows, origins = (tensors[f"members.{number}.bank.{name}"] for name in ("rows", "origins"))
        assert rows.shape == (member["bank"]["rows"], member["bank"]["dimensions"])
        assert origins.shape == (len(rows), 3 + number)
        assert origins[:, 0].max() < len(header["bank"]["images"])
    assert sum(member["bank"]["rows"] for member in header["members"]) == header["bank"]["rows"]
    weights = [name for name in tensors if "weights" in name]
    assert weights
    assert all(name.startswith("members.0.") for name in weights), "members with the same network share its weights"


def test_a_score_is_the_distance_to_the_nearest_row(read, tmp_path):
    images = noise(8)
    detector = Detector(TINY.replace(image_score="max", neighbours=1), backbone=Tiny()).fit(images)
    detector.save(tmp_path / "tiny.patchcore")
    _, tensors = read(tmp_path / "tiny.patchcore")
    rows = tensors["bank.rows"].astype(np.float64)
    (image,) = noise(1, seed=5)
    (found,) = detector.embedders[0]([Loaded(Sample("new", image), image)])
    patches = found.values.numpy() * tensors["bank.scales"]
    nearest = np.linalg.norm(patches[:, None] - rows, axis=2).min(1)
    assert nearest.max() == pytest.approx(detector.predict(image).score, rel=1e-5)


def test_versions_are_chained_and_brought_back_as_the_page_says(read, tmp_path):
    images = noise(8)
    first = Detector(TINY, backbone=Tiny()).fit(images)
    first.save(tmp_path / "1.patchcore")
    taught = first.teach(noise(1, seed=3), who="Ada", why="Tür")
    taught.forget(taught.fitted.images[0]).save(tmp_path / "3.patchcore")
    earlier, old = read(tmp_path / "1.patchcore")
    header, tensors = read(tmp_path / "3.patchcore")

    before = None
    for entry in header["history"]:
        own = {name: value for name, value in entry.items() if name not in ("chain", "back")}
        text = json.dumps([before, own], sort_keys=True, separators=(",", ":"))
        before = hashlib.sha256(text.encode("ascii")).hexdigest()
        assert entry["chain"] == before

    rows, origins, names = tensors["bank.rows"], tensors["bank.origins"], header["bank"]["images"]
    digests = tensors["images.sha256"]
    for entry in reversed(header["history"]):
        begin, back = f"past.{entry['version']}.", entry["back"]
        if (order := tensors.get(f"{begin}bank.order")) is not None:
            rows, origins = (
                np.concatenate([now, tensors.get(f"{begin}bank.{name}", now[:0]).astype(now.dtype)])[order]
                for name, now in (("rows", rows), ("origins", origins))
            )
        if (order := tensors.get(f"{begin}images.order")) is not None:
            names = [[*names, *back.get("names", [])][number] for number in order]
            digests = np.concatenate([digests, tensors.get(f"{begin}images.sha256", digests[:0])])[order]
    assert np.array_equal(rows, old["bank.rows"])
    assert np.array_equal(origins, old["bank.origins"])
    assert names == earlier["bank"]["images"]
    assert hashlib.sha256(digests.tobytes()).hexdigest() == earlier["data"]["sha256"]
