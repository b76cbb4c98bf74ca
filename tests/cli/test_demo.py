"""`patchcore demo`, once, on real solar cells."""

import csv

import numpy as np
from cli_helpers import lines
from PIL import Image

from patchcore import Detector


def test_the_demo_measures_real_cells_and_leaves_images(run, tmp_path):
    out = tmp_path / "demo"
    (tmp_path / "quick.json").write_text('{"size": 128, "ratio": 0.05, "min_rows": 1}', "utf-8")
    done = run("demo", "-o", out, "--recipe", tmp_path / "quick.json", "--limit", 20, "--json")
    assert done.exit_code == 0, done.stderr
    (row,) = lines(done.stdout)
    # Small images, and few to learn from; what matters here is that it is far from chance.
    assert 0.8 < row["image_auroc"] <= 1
    assert row["pixel_auroc"] is None
    assert row["output"] == str(out)
    assert {path.name for path in out.iterdir()} == {"cells.csv", "cells.patchcore", "sheet.png", "scores.png"}

    with (out / "cells.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    test = [cell for cell in cells if cell["split"] == "test"]
    assert len(test) == row["images"]
    assert all(cell["label"] == "good" for cell in cells if cell["split"] == "train")
    assert {cell["label"] for cell in test} == {"good", "defect"}
    assert not {cell["path"] for cell in test} & {cell["path"] for cell in cells if cell["split"] == "train"}
    assert len(Detector.load(out / "cells.patchcore").fitted.images) == 20

    for name in ("sheet.png", "scores.png"):
        with Image.open(out / name) as image:
            assert min(image.size) > 400
            assert np.asarray(image.convert("L")).std() > 10
        assert str(out / name) in done.stderr
    assert "CC BY-NC-SA 4.0: non-commercial use only" in done.stderr
    assert "image_auroc" in done.stderr
    assert "No pixel metrics: they need a mask for every defective image; 0 of" in done.stderr
