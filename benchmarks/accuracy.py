"""The README's table: named recipes on the real datasets.

    python benchmarks/accuracy.py DATA [--recipes default,accurate] [--sets ...] [--seed 0] [--json FILE]

DATA holds the datasets in the MVTec AD layout, in the folders named in LAYOUTS; ELPV comes from the PyPI package
elpv-dataset.
Each detector is fitted on 80 % of the good training images; the other 20 % set its threshold.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from common import elpv_root, machine, write_json

from patchcore import Detector, Recipe
from patchcore.data.resolve import detect
from patchcore.data.sample import Dataset
from patchcore.measure.evaluation import evaluate

LAYOUTS = {
    "transistor": "mvtec_transistor/transistor",
    "hazelnut": "hazelnut_toy/hazelnut",
    "screw": "mvtec_screw/screw",
    "pill": "mvtec_pill/pill",
    "DeepPCB": "deeppcb/pcb20085",
    "commutator": "kolektor_sdd/commutator",
    "magnetic tile": "magnetic_tile/magnetic_tile",
}
CELLS = {"ELPV mono": "mono", "ELPV poly": "poly"}
COLUMNS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_f1_max", "aupro_30", "aupro_05")


def dataset(data: Path, name: str) -> Dataset:
    if name in LAYOUTS:
        return detect(data / LAYOUTS[name])
    return detect(elpv_root() / CELLS[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipes", default="default,accurate")
    parser.add_argument("--sets", default=",".join([*LAYOUTS, *CELLS]))
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(json.dumps(machine()))
    print(
        f"{'recipe':10} {'set':14} {' '.join(f'{c:>12}' for c in COLUMNS)} {'rejected':>9} {'missed':>7} {'fit s':>7} {'ms':>7}"
    )
    for recipe_name in options.recipes.split(","):
        recipe = Recipe.named(recipe_name).set(*options.assignments).replace(seed=options.seed)
        for name in options.sets.split(","):
            found = dataset(options.data, name)
            begin = time.perf_counter()
            detector = Detector(recipe).fit(found)
            fitted = time.perf_counter() - begin
            evaluation = evaluate(detector, found.test)
            figures = evaluation.figures()
            rejected, missed = figures["false_reject_rate"], figures["miss_rate"]
            milliseconds = 1000 * torch.tensor([r.seconds for _, r in evaluation.results]).median().item()
            values = " ".join(f"{'-' if (v := evaluation.metrics[c]) is None else f'{v:.4f}':>12}" for c in COLUMNS)
            print(
                f"{recipe_name:10} {name:14} {values} {rejected:9.3f} {missed:7.3f} {fitted:7.1f} {milliseconds:7.1f}",
                flush=True,
            )
            rows.append(
                {
                    "recipe": recipe_name,
                    "set": name,
                    **evaluation.metrics,
                    "false_reject_rate": rejected,
                    "miss_rate": missed,
                    "fit_seconds": fitted,
                    "milliseconds": milliseconds,
                }
            )
    write_json(options.json, {"machine": machine(), "seed": options.seed, "rows": rows})


if __name__ == "__main__":
    main()
