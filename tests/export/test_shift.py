"""What int8 does to scores: which images it is measured on, the figures, and the limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_helpers import images, labelled
from sklearn.metrics import roc_auc_score

from patchcore import Detector, ExportError, ImageError, UsageError, export
from patchcore.data.sample import Sample
from patchcore.export.shift import Shift, Trial, split
from patchcore.memory.bank import Bank
from patchcore.model.fitted import Fitted, Member
from patchcore.recipe import Recipe
from patchcore.verdict.calibration import Calibration


def shift(**fields: object) -> Shift:
    usual = {
        "calibrated_on": 9, "good": 20, "defects": 10, "threshold": (10.0, 10.4), "auroc": (0.98, 0.973),
        "good_failing": (1, 2), "defects_passing": (0, 1), "verdicts_changed": 4, "largest": 0.06,
    }  # fmt: skip
    return Shift(**{**usual, **fields})  # type: ignore[arg-type]


def test_a_shift_within_the_limits_passes_and_one_beyond_is_refused_by_name() -> None:
    assert shift().threshold_shift == pytest.approx(0.04)
    assert shift().auroc_drop == pytest.approx(0.007)
    shift().check(0.0071, 0.041)
    shift(auroc=None).check(0, 0.041)
    with pytest.raises(
        ExportError, match=r"AUROC drops by 0.0070 \(--max-auroc-drop allows 0.005\). Measured on 20 good"
    ):
        shift().check(0.005, 0.05)
    with pytest.raises(ExportError, match=r"moves by -0.100 of its value \(--max-threshold-shift allows 0.05\)"):
        shift(threshold=(10.0, 9.0)).check(0.01, 0.05)
    with pytest.raises(ExportError, match=r"AUROC drops .* and the threshold .* Use fp16"):
        shift(threshold=(10.0, 12.0)).check(0.001, 0.05)
    with pytest.raises(ExportError, match="threshold"):
        shift(threshold=(0.0, 1.0)).check(1, 1)
    shift(threshold=(0.0, 0.0)).check(1, 0)


def test_what_was_not_measured_is_said() -> None:
    assert "image AUROC not measured without defects" in str(shift(auroc=None, defects=0))
    assert "image AUROC 0.9800 before, 0.9730 after; threshold shift +4.0%" in str(shift())


def bank(*remembered: str, unused: str) -> Fitted:
    names = (*remembered, unused)
    origins = torch.tensor([[number, 0, 0] for number in range(len(remembered))], dtype=torch.int32)
    backbone: Any = None  # is not looked at
    member = Member(Recipe(), backbone, Bank(torch.zeros(len(remembered), 4), origins, torch.ones(4)))
    return Fitted(Recipe(), (member,), Calibration.fit((), (), 0.05), names)


def test_images_that_the_bank_remembers_are_no_measure() -> None:
    own = bank("good/0.png", "good/1.png", unused="good/2.png")
    names = ("0.png", "1.png", "2.png", "7.png")
    for prefix in ("", "good/", "train/good/"):  # whatever folder was given
        seen, new = split([Sample(prefix + name, name) for name in names], own)
        assert [one.image for one in seen] == ["0.png", "1.png"]
        assert [one.image for one in new] == ["2.png", "7.png"]
    quantised, measured = split([Sample(f"new/{i}", "") for i in range(5)], own)
    assert [one.name for one in quantised] == ["new/0", "new/2", "new/4"]
    assert [one.name for one in measured] == ["new/1", "new/3"]


def pixels(value: int) -> np.ndarray[Any, Any]:
    return np.full((40, 48, 3), value, np.uint8)


def test_a_copy_is_never_quantised_with_and_measured_on(caplog: pytest.LogCaptureFixture) -> None:
    fitted = bank("0.png", unused="1.png")
    values = {"0.png": 0, "copy.png": 0, "1.png": 1, "again.png": 1, "2.png": 2}
    given = [Sample(name, pixels(value)) for name, value in values.items()]
    test = [
        *(Sample(f"test/{value}", pixels(value), "good") for value in (0, 1, 3, 3)),
        Sample("test/bad", pixels(0), "crack"),
    ]
    trial = Trial.of(given, test, fitted, None)
    assert [one.name for one in trial.good] == ["0.png"]
    assert [one.name for one in trial.labelled] == ["1.png", "2.png", "test/3", "test/bad"]
    assert "2 of 5 images are copies of others, pixel for pixel; each counts once." in caplog.messages


def test_halves_share_no_copy_either() -> None:
    fitted = bank("in the bank.png", unused="other.png")
    given = [Sample(f"{number}", pixels(number // 2)) for number in range(8)]  # each twice
    trial = Trial.of(given, None, fitted, None)
    assert [one.name for one in trial.good] == ["0", "4"]
    assert [one.name for one in trial.labelled] == ["2", "6"]


def test_without_good_images_that_are_new_it_is_refused(deep: Detector) -> None:
    learned = deep.fitted
    remembered = {deep.fitted.images[i] for i in deep.fitted.members[0].bank.origins[:, 0].tolist()}
    given = [Sample(name, np.zeros((40, 48, 3), np.uint8)) for name in remembered]
    with pytest.raises(UsageError, match=rf"memory bank, but all {len(given)} given ones are\. .*--test"):
        Trial.of(given, None, learned, None)
    with pytest.raises(UsageError, match="not in the memory bank"):
        Trial.of(given, [one for one in labelled() if one.kind == "spot"], learned, None)
    trial = Trial.of(given, labelled(), learned, None)
    assert (len(trial.good), len(trial.labelled)) == (len(given), 12)


def test_the_figures_are_those_of_the_written_graph(deep: Detector, int8: export.Saved) -> None:
    found = int8.shift
    assert found is not None
    assert (found.calibrated_on, found.good, found.defects) == (24, 6 + 6, 6)
    model = export.load(int8.folder, verify=True)
    before = [deep.predict(one.image).score for one in labelled()]
    after = [model.predict(one.image).score for one in labelled()]
    held = [i for i in range(30) if i not in set(deep.fitted.members[0].bank.origins[:, 0].tolist())]
    own = [images(30)[i] for i in held]
    before += [deep.predict(one).score for one in own]
    after += [model.predict(one).score for one in own]
    bad = [one.kind != "good" for one in labelled()] + [False] * len(own)
    assert found.auroc == pytest.approx((roc_auc_score(bad, before), roc_auc_score(bad, after)))
    largest = [max(s for s, b in zip(scores, bad, strict=True) if not b) for scores in (before, after)]
    assert found.threshold == pytest.approx(largest)  # of 12 scores, the rank of 5 % is the largest
    assert found.largest == pytest.approx(max(abs(a - b) / b for a, b in zip(after, before, strict=True)))
    assert 0 < found.largest < 0.3
    threshold = deep.fitted.calibration.threshold
    changed = sum((a > threshold) != (b > threshold) for a, b in zip(after, before, strict=True))
    assert found.verdicts_changed == changed


def test_the_manifest_keeps_the_shift_and_vectors_are_the_graph_s_own(deep: Detector, int8: export.Saved) -> None:
    manifest = json.loads((int8.folder / "manifest.json").read_text("utf-8"))
    assert int8.shift is not None
    assert manifest["quantised"] == json.loads(json.dumps(int8.shift.figures()))
    assert manifest["precision"] == "int8"
    assert manifest["parity"]["score"] < 1e-4  # before it was quantised
    assert "before it was quantised" in int8.tested_with
    assert export.verify(int8.folder).score < 1e-2


def test_an_image_that_cannot_be_used_is_named_before_the_work(deep: Detector) -> None:
    given = [Sample(f"new/{number}", image) for number, image in enumerate(images(4))]
    with pytest.raises(ImageError, match=r"new/0: its size is 40 x 48; with --static all must be 40 x 40"):
        Trial.of(given, labelled(), deep.fitted, (40, 40))
    with pytest.raises(ImageError, match=r"gone: no such file"):
        Trial.of(given, [*labelled(), Sample("gone", "gone", "spot")], deep.fitted, None)


def test_beyond_a_limit_nothing_is_left(deep: Detector, tmp_path: Path) -> None:
    options = {"precision": "int8", "static": (40, 48), "max_threshold_shift": 0}
    with pytest.raises(ExportError, match=r"moves by .* of its value \(--max-threshold-shift allows 0\)"):
        export.save(deep, tmp_path / "exported", images=images(30), **options)
    assert not list(tmp_path.iterdir())
