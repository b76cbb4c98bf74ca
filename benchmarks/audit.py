"""Defects among the good images: how many an audit finds, and what leaving the most suspicious images out is worth.

    python benchmarks/audit.py DATA ... [--cache DIR] [--rates 0.02,0.05,0.1] [--reject 0.1] [--most 80] [--seeds 1]
        [--json FILE]

DATA as for promises.py, whose cache serves here too. Of each set at most --most of the good images, drawn by seed, are
learned, with so many defective ones mixed in that they are this rate. Good images are ranked in several ways:

- folds: the score against a bank without the image's fold, as `audit` does;
- images N: the ten most unusual patches against all patches of each other image, by the N-th nearest image (0: the
  nearest), so that an image with the same defect hides nothing;
- subsets: the mean score, in units of the median, against 8 banks of patches of random eighths of the images;
- trimmed: as folds, against banks without the most suspicious 15 %.

Of each: defects among the first 10 % of the list, and AUROC. Then the AUROC on other images, at most 60 good and 60 defective, of a
bank of all, and of one without the most suspicious --reject; and the same on clean images (rate 0).
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, write_json
from promises import Embedded, embedded, fit
from sklearn.metrics import roc_auc_score

from patchcore import Calibration, Member, Recipe
from patchcore.data.sample import GOOD
from patchcore.maths.scoring import top_share_score
from patchcore.memory.bank import Bank
from patchcore.pipeline.embed import Embedder, backbone_for
from patchcore.pipeline.score import score
from patchcore.pipeline.workers import in_order

_WORST = 10  # patches of an image that are looked for in each other one


def mixed(found: Embedded, rate: float, most: int, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Good images to learn, defective ones among them, and all others."""
    drawn = np.random.default_rng(seed)
    good, bad = (
        [numbers[n] for n in drawn.permutation(len(numbers))]
        for numbers in (
            [n for n, one in enumerate(found.samples) if (one.kind == GOOD) == wanted] for wanted in (True, False)
        )
    )
    kept, count = min(most, round(0.8 * len(good))), 0
    count = round(rate * kept / (1 - rate))
    return good[:kept], bad[:count], [*good[kept:][:60], *bad[count:][:60]]


def of_images(found: Embedded, numbers: list[int], bank: Bank) -> dict[str, list[float]]:
    """Scores by the N-th nearest image."""

    def patches(number: int) -> torch.Tensor:
        return found.patches(number).values.float() * bank.scales

    def worst(number: int) -> torch.Tensor:
        own = patches(number)
        return own[bank.nearest(own, 2)[0][:, 1].topk(_WORST)[1]]

    asked = torch.cat(list(in_order(worst, numbers, None)))
    far = torch.stack(list(in_order(lambda n: torch.cdist(asked, patches(n)).amin(1), numbers, None)), 1)
    far = far.unflatten(0, (len(numbers), _WORST))
    own = torch.arange(len(numbers))
    far[own, :, own] = torch.inf
    ordered = far.sort(2)[0]
    return {f"images {n}": ordered[:, :, n].mean(1).tolist() for n in (0, 2, 5)}


def of_subsets(found: Embedded, numbers: list[int], scales: torch.Tensor) -> list[float]:
    drawn, seen = torch.Generator().manual_seed(0), torch.full((8, len(numbers)), torch.nan)
    for row in seen:
        chosen = torch.randperm(len(numbers), generator=drawn)[: max(4, len(numbers) // 8)].tolist()
        pool = torch.cat([found.patches(numbers[n]).values for n in chosen]).float() * scales
        pool = pool[torch.randperm(len(pool), generator=drawn)[:2048]]
        bank = Bank(pool, torch.zeros(len(pool), 3, dtype=torch.int32), torch.ones(pool.shape[1]), "exact")
        rest = [n for n in range(len(numbers)) if n not in chosen]

        def one(n: int, bank: Bank = bank) -> float:
            own = found.patches(numbers[n]).values.float() * scales
            return float(top_share_score(bank.nearest(own, 1)[0][:, 0], 0.01))

        row[rest] = torch.tensor(list(in_order(one, rest, None)))
    return (seen / seen.nanmedian(1, keepdim=True)[0]).nanmean(0).nan_to_num(1).tolist()


def scored(found: Embedded, member: Member, numbers: list[int]) -> list[float]:
    def one(number: int) -> float:
        own = found.patches(number)
        return score([member], [type(own)(own.values.float(), own.grid, own.frame)])[0]

    return list(in_order(one, numbers, None))


def ranked(values: list[float], defects: int) -> dict[str, float]:
    """Of a list that ends with the defects: how many of these are in its first tenth, and AUROC."""
    order, first = np.argsort(values)[::-1], math.ceil(0.1 * len(values))
    labels = np.arange(len(values)) >= len(values) - defects
    return {"first": int(labels[order[:first]].sum()), "auroc": float(roc_auc_score(labels, values))}


def measured(
    found: Embedded, embedder: Embedder, rate: float, options: argparse.Namespace, seed: int
) -> dict[str, Any]:
    good, bad, fresh = mixed(found, rate, options.most, seed)
    numbers, labels = [*good, *bad], [found.samples[n].kind != GOOD for n in fresh]

    def learned(some: list[int]) -> tuple[Member, Calibration]:
        return fit(found, embedder, some, found.digests, found.recipe.replace(seed=seed))

    begin = time.process_time()
    member, calibration = learned(numbers)
    seconds = {"folds": time.process_time() - begin}
    ways: dict[str, list[float]] = {"folds": list(calibration.scores)}
    order = np.argsort(calibration.scores)
    row: dict[str, Any] = {"learned": len(good), "defects": len(bad)}
    spread = np.log(calibration.scores) - np.log(np.median(calibration.scores))
    row["z"] = [float(value) for value in spread / (1.4826 * np.median(np.abs(spread)))]
    if bad:
        begin = time.process_time()
        ways |= of_images(found, numbers, member.bank)
        seconds["images"] = time.process_time() - begin
        begin = time.process_time()
        ways["subsets"] = of_subsets(found, numbers, member.bank.scales)
        seconds["subsets"] = time.process_time() - begin
        begin = time.process_time()
        kept = [numbers[n] for n in sorted(order[: round(0.85 * len(numbers))])]
        other, again = learned(kept)
        known = dict(zip(kept, again.scores, strict=True))
        rest = [n for n in numbers if n not in known]
        known |= dict(zip(rest, scored(found, other, rest), strict=True))
        ways["trimmed"] = [known[n] for n in numbers]
        seconds["trimmed"] = time.process_time() - begin
        row["ways"] = {name: ranked(values, len(bad)) for name, values in ways.items()}
    left = [numbers[n] for n in sorted(order[: len(numbers) - round(options.reject * len(numbers))])]
    before, (rest_member, rest_calibration) = scored(found, member, fresh), learned(left)
    after = scored(found, rest_member, fresh)
    for name, values, limit in (
        ("all", before, calibration.threshold),
        ("rejected", after, rest_calibration.threshold),
    ):
        failed = np.array(values) > limit
        row[name] = {
            "auroc": float(roc_auc_score(labels, values)),
            "threshold": limit,
            "good_failed": float(failed[~np.array(labels)].mean()),
            "missed": float((~failed)[np.array(labels)].mean()),
        }
    return {**row, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "patchcore-promises")
    parser.add_argument("--rates", default="0.02,0.05,0.1")
    parser.add_argument("--reject", type=float, default=0.1)
    parser.add_argument("--most", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    print(json.dumps(machine()))
    rows, sets = [], {}
    for name in options.data:
        found = embedded(name, Recipe(), options.cache)
        sets[name] = found, Embedder(found.recipe, backbone_for(found.recipe, None), torch.device("cpu"))
    for rate in (*map(float, options.rates.split(",")), 0.0):
        for name, (found, embedder) in sets.items():
            for seed in range(options.seeds):
                rows.append({"set": name, "rate": rate, "seed": seed, **measured(found, embedder, rate, options, seed)})
                print(json.dumps(rows[-1]), flush=True)
    write_json(options.json, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
