"""docs/export.md's table: exported graphs against the library, on real images.

    python benchmarks/export_parity.py DATA WORK [--recipes default,fast,lightning,inspection]
        [--sets transistor,magnetic tile,ELPV mono] [--limit 120]

DATA holds the datasets as for accuracy.py. WORK keeps the fitted detectors, the exported folders, and the figures in
parity.jsonl, one line for each recipe and dataset; existing results are reused. `lightning` and `inspection` are
fitted with the backbone efficientnet_lite0. Test images are sampled evenly, good and defective alike. ONNX Runtime
and OpenVINO (set to fp32) run the same ONNX file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import dataset
from common import machine
from patchcore_runtime import Model
from patchcore_runtime.model import VERDICTS

from patchcore import Detector, Recipe, export
from patchcore.data.images import read

LITE0 = {"lightning", "inspection"}
BAND = 1e-4  # relative, around the threshold: the tolerance of a score


def model(work: Path, data: Path, recipe: str, name: str) -> Detector:
    path = work / f"{name.replace(' ', '_')}-{recipe}.patchcore"
    if not path.exists():
        fields = {"backbone": "efficientnet_lite0"} if recipe in LITE0 else {}
        Detector(Recipe.named(recipe).replace(**fields)).fit(dataset(data, name)).save(path)
    return Detector.load(path, device="cpu")


def folder(work: Path, recipe: str, name: str, detector: Detector) -> Path:
    path = work / f"{name.replace(' ', '_')}-{recipe}"
    if not path.exists():
        export.save(detector, path)
    return path


def engines(path: Path) -> dict[str, Model]:
    """The same file in both engines."""
    from patchcore_runtime import folder as folders

    manifest = folders.read(path)
    return {
        "ONNX Runtime": Model(path, manifest),
        "OpenVINO": Model(path, {**manifest, "engine": "openvino"}),
    }


def measure(detector: Detector, models: dict[str, Model], images: list[Any]) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {
        name: {"score": 0.0, "mean_score": 0.0, "map": 0.0, "decisions": 0, "in_band": 0} for name in models
    }
    floor = next(iter(models.values())).manifest["floor"]
    for sample in images:
        pixels = read(sample.image, sample.name)
        result = detector.predict(pixels)
        for name, one in models.items():
            out, row = one.run(pixels[None]), rows[name]
            apart = abs(float(out["score"][0]) - result.score) / max(result.score, floor)
            row["score"] = max(row["score"], apart)
            row["mean_score"] += apart / len(images)
            high = float(np.nanmax(result.map))
            row["map"] = max(row["map"], float(np.nanmax(np.abs(out["map"][0] - result.map))) / high)
            near = abs(result.score - result.threshold) <= BAND * result.score
            row["in_band"] += int(near)
            row["decisions"] += int(VERDICTS[int(out["decision"][0])] != result.decision and not near)
    return {"images": len(images), "engines": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recipes", default="default,fast,lightning,inspection")
    parser.add_argument("--sets", default="transistor,magnetic tile,ELPV mono")
    parser.add_argument("--limit", type=int, default=120)
    options = parser.parse_args()
    journal = options.work / "parity.jsonl"
    done = [json.loads(line) for line in journal.read_text("utf-8").splitlines()] if journal.exists() else []
    for recipe in options.recipes.split(","):
        for name in options.sets.split(","):
            if any((one["recipe"], one["set"]) == (recipe, name) for one in done):
                continue
            detector = model(options.work, options.data, recipe, name)
            models = engines(folder(options.work, recipe, name, detector))
            test = dataset(options.data, name).test
            chosen = test[:: max(1, len(test) // options.limit)][: options.limit]
            row = {"recipe": recipe, "set": name, "rows": detector.fitted.rows, "machine": machine()}
            row |= measure(detector, models, chosen)
            done.append(row)
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print(
        "| recipe | set | bank rows | images | engine | score, largest | score, mean | map, largest | other decisions |"
    )
    print("| --- | --- | --: | --: | --- | --: | --: | --: | --: |")
    for row in done:
        for engine, one in row["engines"].items():
            print(
                f"| {row['recipe']} | {row['set']} | {row['rows']:,} | {row['images']} | {engine} | {one['score']:.1e} "
                f"| {one['mean_score']:.1e} | {one['map']:.1e} | {one['decisions']} |"
            )


if __name__ == "__main__":
    main()
