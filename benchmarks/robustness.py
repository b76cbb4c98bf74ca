"""What verdicts and AUROC become if images are not quite as they were: light, blur, noise, compression, place.

    python benchmarks/robustness.py DATA [--sets ...] [--images 30] [--cache DIR] [--json FILE]

DATA as for accuracy.py. A detector is fitted on the undisturbed training images, by the default recipe and by what
answers a disturbance: `exposure=even` for light, `registration=rigid` for place, `augment=rotate_180` for parts that
lie the other way round. It then looks at the same --images good and --images defective test images, drawn at random, in
each disturbance. Fitted detectors and what was measured are kept in --cache, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import dataset
from common import machine, write_json
from disturb import EVERY
from sklearn.metrics import roc_auc_score

from patchcore import Detector, Recipe, Sample
from patchcore.data.images import read
from patchcore.data.sample import GOOD

SETS = "transistor,ELPV mono,commutator,screw"
NONE = ("none", 0.0)
CASES = [
    NONE,
    *(("brightness", x) for x in (0.8, 0.9, 1.1, 1.2)), *(("gamma", x) for x in (0.8, 1.25)),
    *(("jpeg", x) for x in (90, 70, 40)), *(("blur", x) for x in (0.7, 1.0, 1.5)), *(("noise", x) for x in (4, 8)),
    *(("shift", x) for x in (0.01, 0.03)), *(("rotation", x) for x in (1, 3, 5, 180)), *(("scale", x) for x in (0.95, 1.05)),
]  # fmt: skip
# What answers a disturbance, in which sets (screws lie any way round, commutators fill their images), and the cases.
ANSWERS = {
    "": (SETS, CASES),
    "exposure=even": (SETS, [one for one in CASES if one[0] in ("none", "brightness", "gamma")]),
    "registration=rigid": (
        "transistor,ELPV mono", [one for one in CASES if one[0] in ("none", "shift", "rotation") and one[1] != 180]
    ),
    'augment=["rotate_180"]': ("transistor,commutator", [NONE, ("rotation", 180)]),
}  # fmt: skip


def measured(detector: Detector, samples: list[Sample], change: str, strength: float) -> dict[str, Any]:
    images = (read(sample.image, sample.name) for sample in samples)
    if change != "none":
        images = (EVERY[change](image, strength) for image in images)
    results = list(detector.predict(images))
    good = [sample.kind == GOOD for sample in samples]
    decisions = [result.decision for result in results]
    count = {
        f"{what}_{verdict}": sum(one == verdict and own == (what == "good") for one, own in zip(decisions, good, strict=True))
        for what in ("good", "defective") for verdict in ("pass", "unsure", "fail")
    }  # fmt: skip
    return {**count, "auroc": float(roc_auc_score([not one for one in good], [result.score for result in results]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default=SETS)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "patchcore-robustness")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    done = options.cache / "rows.jsonl"
    rows: list[dict[str, Any]] = (
        [json.loads(line) for line in done.read_text("utf-8").splitlines()] if done.exists() else []
    )
    print(json.dumps(machine()))
    for answer, (sets, cases) in ANSWERS.items():
        for name in [one for one in options.sets.split(",") if one in sets.split(",")]:
            found, fitted = dataset(options.data, name), None
            plain = next((row for row in rows if (row["set"], row["answer"]) == (name, "")), None)
            if answer == "exposure=even" and plain and plain["exposure"] == "even":
                continue  # it is already
            test = [found.test[n] for n in np.random.default_rng(0).permutation(len(found.test))]
            good = [sample for sample in test if sample.kind == GOOD][: options.images]
            samples = good + [sample for sample in test if sample.kind not in (GOOD, None)][: options.images]
            for change, strength in cases:
                key = {"set": name, "answer": answer, "change": change, "strength": strength}
                if any(key.items() <= row.items() for row in rows):
                    continue
                if fitted is None:
                    model = options.cache / f"{name.replace(' ', '-')}{answer.partition('=')[0]}.patchcore"
                    if not model.exists():
                        Detector(Recipe().set(*[answer] if answer else [])).fit(found).save(model)
                    fitted = Detector.load(model)
                row = {**key, "exposure": fitted.recipe.exposure, "good": len(good), "defective": len(samples) - len(good),
                       **measured(fitted, samples, change, strength)}  # fmt: skip
                rows.append(row)
                with done.open("a", encoding="utf-8") as file:
                    print(json.dumps(row), file=file)
                print(json.dumps(row), flush=True)
    write_json(options.json, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
