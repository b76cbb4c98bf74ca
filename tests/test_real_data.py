"""The default recipe on a real dataset that lies beside the repository."""

from pathlib import Path

import pytest

from patchcore import Detector
from patchcore.data.resolve import detect
from patchcore.measure.evaluation import evaluate

HAZELNUT = Path(__file__).parents[2] / "shared" / "data" / "hazelnut_toy" / "hazelnut"


@pytest.mark.skipif(not HAZELNUT.is_dir(), reason="the datasets are not here: ../shared/data beside the repository")
def test_the_default_recipe_finds_every_defective_hazelnut():
    found = detect(HAZELNUT)
    assert (len(found.train), len(found.test)) == (28, 23)
    measured = evaluate(Detector().fit(found), found.test).metrics
    assert measured["image_auroc"] == 1
    assert measured["pixel_auroc"] > 0.97
