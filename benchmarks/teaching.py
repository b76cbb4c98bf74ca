"""What teaching does to the images that were not taught.

    python benchmarks/teaching.py DATA [--sets ...] [--seeds 5] [--json FILE]

DATA as for accuracy.py. For each set and seed a detector is fitted, the test images are cut into halves, as many of each
kind in both, and the good images of the first half that fail are taught one after the other. Printed are the shares of
good images that fail and of defects that pass in the other half, before and after; whether all taught images pass; how
far the score of another image has moved at most; and whether undoing it all gives the first version back, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from accuracy import CELLS, LAYOUTS, dataset
from common import machine, write_json

from patchcore import Detector, Recipe
from patchcore.changes.history import content
from patchcore.data.sample import GOOD, Sample


def halves(samples: list[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """The labelled samples in two halves, each kind by itself."""
    drawn, parts = random.Random(seed), ([], [])  # type: tuple[random.Random, tuple[list[Sample], list[Sample]]]
    for kind in sorted({str(one.kind) for one in samples}):
        own = [one for one in samples if one.kind == kind]
        drawn.shuffle(own)
        for number, one in enumerate(own):
            parts[number % 2].append(one)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default=",".join([*LAYOUTS, *CELLS]))
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(json.dumps(machine()))
    rows = []
    for name in options.sets.split(","):
        found = dataset(options.data, name)
        for seed in range(options.seeds):
            first = Detector(Recipe(seed=seed).set(*options.assignments)).fit(found)
            one, other = halves([sample for sample in found.test if sample.kind], seed)
            results = dict(zip((s.name for s in one), first.predict(one), strict=True))
            wrong = [s for s in one if s.kind == GOOD and results[s.name].decision == "fail"]
            now = first
            for sample in wrong:
                if now.predict(sample.image).decision == "fail":  # one that was taught may have mended this one
                    now = now.teach([sample])
            before, after = first.predict(other), now.predict(other)
            passing = all(result.decision == "pass" for result in now.predict(wrong))
            moved = max(
                abs(a.score - b.score) / first.fitted.calibration.threshold for a, b in zip(before, after, strict=True)
            )
            row = {
                "set": name,
                "seed": seed,
                "wrong": len(wrong),
                "taught": len(now.fitted.history),
                "rows": now.fitted.rows - first.fitted.rows,
                "of": first.fitted.rows,
                **{
                    f"{what}_{when}": sum(
                        r.decision == verdict for s, r in zip(other, results, strict=True) if (s.kind == GOOD) == good
                    )
                    for when, results in (("before", before), ("after", after))
                    for what, verdict, good in (("rejected", "fail", True), ("missed", "pass", False))
                },
                "good": sum(s.kind == GOOD for s in other),
                "defects": sum(s.kind != GOOD for s in other),
                "all_taught_pass": passing,
                "moved": moved,
                "undone": not wrong or content(now.undo(1).fitted) == content(first.fitted),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    write_json(options.json, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
