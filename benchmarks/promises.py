"""What the threshold promises, and what it keeps: repeated splits of real sets.

    python benchmarks/promises.py DATA ... [--cache DIR] [--seeds 10] [--share 0.8] [--kinds folds,held_out]
        [--set FIELD=VALUE ...] [--part REGEX] [--json FILE]

DATA: categories in the MVTec AD layout, CSV tables, or `elpv:mono` and `elpv:poly` (PyPI package elpv-dataset).

Every image of a set is embedded once, by the choices that its training images make, and its patches are kept in --cache.
Then, for each seed and each kind of calibration, --share of the good parts, drawn at random from training and test images
alike, are learned and calibrated on as `fit` does; all other good images and all defective ones are scored against the
bank. So the choices (`exposure`, `pool`) know the images that are tested; bank, scales and thresholds do not.

Of each fit: the share of good images that fail, and of good parts, by the threshold for whole parts, the share of defective
images that pass, image AUROC, the threshold, and the processor time of bank and calibration. Over seeds: mean and standard
deviation; beside them the standard deviation that binomial chance alone gives to a rate of so many test parts. The first
fit of a run compiles, which takes some seconds more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, write_json
from sklearn.metrics import roc_auc_score

from patchcore import Recipe, Sample, detect
from patchcore.data.reading import Reading
from patchcore.data.sample import GOOD
from patchcore.maths.resize import Frame
from patchcore.memory.patches import PatchStore
from patchcore.model.fitted import Member
from patchcore.pipeline.calibrate import calibrate
from patchcore.pipeline.choose import choose, trials
from patchcore.pipeline.decide import decided
from patchcore.pipeline.embed import Embedder, Patches, backbone_for
from patchcore.pipeline.learn import Remembered
from patchcore.pipeline.near_copies import near_copies
from patchcore.pipeline.score import score
from patchcore.pipeline.workers import in_order, through
from patchcore.verdict.calibration import Calibration, folds, hold_out


@dataclass(frozen=True)
class Embedded:
    """All images of a set, as patches.

    Attributes:
        samples: The images, each once, good and defective.
        recipe: With the choices that the training images make.
        values: (N, D), half precision: the patches of all images, one after the other.
        begins: Where in them those of an image begin; one more at the end.
        frames: Of each image where it lay in the network's input; grids: its rows and columns.
    """

    samples: list[Sample]
    recipe: Recipe
    values: torch.Tensor
    begins: list[int]
    grids: list[tuple[int, int]]
    frames: list[Frame]
    digests: list[str]

    def patches(self, number: int) -> Patches:
        own = self.values[self.begins[number] : self.begins[number + 1]]
        return Patches(own, self.grids[number], self.frames[number])


def embedded(name: str, recipe: Recipe, cache: Path) -> Embedded:
    """A set from the cache, or embedded and put there. Copies of an image are left out."""
    train, test = images(name)
    samples = [replace(one, kind=GOOD) for one in train] + [one for one in test if one.kind is not None]
    told = json.dumps([[one.name for one in samples], recipe.differences()])  # a new field changes nothing
    place = cache / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    if not place.is_dir():
        embed(samples, len(train), recipe, place)
    about = json.loads((place / "about.json").read_text("utf-8"))
    values = torch.from_numpy(np.load(place / "values.npy", mmap_mode="r+"))
    sizes = ("source", "resized", "window", "offset")
    frames = [Frame(*(tuple(one[name]) for name in sizes)) for one in about["frames"]]
    kept = [samples[number] for number in about["kept"]]
    grids = [tuple(one) for one in about["grids"]]
    return Embedded(kept, Recipe(**about["recipe"]), values, about["begins"], grids, frames, about["digests"])


def embed(samples: list[Sample], train: int, recipe: Recipe, place: Path) -> None:
    device, reading = torch.device("cpu"), Reading()
    backbone = backbone_for(recipe, None)
    recipe, *_ = decided(recipe, [backbone], device, samples[:train], reading, True)
    embedder = Embedder(recipe, backbone, device)

    def work(batch: Sequence[Any]) -> list[tuple[str, Patches]]:
        return [(one.digest.hex(), own) for one, own in zip(batch, embedder(batch), strict=True)]

    seen, values, about = set[str](), [], {"kept": [], "grids": [], "frames": [], "digests": [], "begins": [0]}
    found = through(work, samples, reading, recipe.value_range, progress="Embedding")
    for number, (digest, own) in enumerate(found):
        if digest in seen:
            continue
        seen.add(digest)
        values.append(own.values.half().numpy())
        for key, value in (("kept", number), ("grids", own.grid), ("frames", asdict(own.frame)), ("digests", digest)):
            about[key].append(value)
        about["begins"].append(about["begins"][-1] + len(own.values))
    unfinished = place.with_name(f"{place.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    np.save(unfinished / "values.npy", np.concatenate(values))
    (unfinished / "about.json").write_text(json.dumps({**about, "recipe": recipe.to_dict()}), "utf-8")
    unfinished.rename(place)


def images(name: str) -> tuple[list[Sample], list[Sample]]:
    """The good training images of a set, and its labelled test images."""
    if name.startswith("elpv:"):
        from common import elpv_root

        name = str(elpv_root() / name.removeprefix("elpv:"))
    found = detect(name)
    return found.train, found.test


def split(found: Embedded, parts: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Good images to learn from, of this share of the parts, and the other good images."""
    good = [number for number, one in enumerate(found.samples) if one.kind == GOOD]
    names = sorted({parts[number] for number in good})
    order = np.random.default_rng(seed).permutation(len(names))
    learned = {names[n] for n in order[: round(share * len(names))]}
    return [n for n in good if parts[n] in learned], [n for n in good if parts[n] not in learned]


def fit(
    found: Embedded, embedder: Embedder, numbers: list[int], parts: Sequence[str], recipe: Recipe
) -> tuple[Member, Calibration]:
    """Bank and thresholds from some good images, as `learn` makes them."""
    store, own = PatchStore(), [parts[number] for number in numbers]
    for number in numbers:
        patches = found.patches(number)
        store.append((patches.values, patches.grid))
    names = [found.samples[number].name for number in numbers]
    frames = [[found.frames[number]] for number in numbers]
    digests = [bytes.fromhex(found.digests[number]) for number in numbers]
    cells: list[list[torch.Tensor | None]] = [[None] for _ in numbers]
    read = Remembered([store], names=names, frames=frames, cells=cells, digests=digests, parts=own)
    crossed = recipe.calibration == "folds"
    kept, held_out = hold_out(own, 0.0 if crossed else recipe.calibration_share, recipe.seed)
    fold_of = folds(own, recipe.calibration_share if crossed else 0.0, recipe.seed)
    chosen = choose(recipe, store, kept, embedder.device, False, embedder.widths, fold_of)
    member, tested = Member(recipe, embedder.backbone, chosen.bank), range(len(numbers)) if crossed else held_out
    (member,), _, tried = calibrate([member], lambda: trials(read, tested, [chosen], fold_of), None)
    scores, maxima, *patches = zip(*tried, strict=True)
    return member, Calibration.fit(
        scores,
        maxima,
        recipe.false_reject_rate,
        confidence=recipe.confidence,
        images=[names[number] for number in tested],
        parts=[own[number] for number in tested],
        crossed=crossed,
        patches=list(zip(*patches, strict=True)),
    )


def measured(found: Embedded, embedder: Embedder, parts: Sequence[str], recipe: Recipe, share: float) -> dict[str, Any]:
    """One split, one fit, and what became of the promise."""
    learned, fresh = split(found, parts, share, recipe.seed)
    begin = time.process_time()
    member, calibration = fit(found, embedder, learned, parts, recipe)
    seconds = time.process_time() - begin
    bad = [number for number, one in enumerate(found.samples) if one.kind != GOOD]

    def scored(number: int) -> float:
        own = found.patches(number)
        return score([member], [replace(own, values=own.values.float())])[0]

    scores = list(in_order(scored, [*fresh, *bad], None))
    good, defective = np.array(scores[: len(fresh)]), np.array(scores[len(fresh) :])
    worst: dict[str, float] = {}
    for number, value in zip(fresh, good.tolist(), strict=True):
        worst[parts[number]] = max(value, worst.get(parts[number], 0.0))
    labels = [False] * len(good) + [True] * len(defective)
    return {
        "seed": recipe.seed,
        "calibration": recipe.calibration,
        "learned": len(learned),
        "units": calibration.units,
        "good": len(good),
        "defective": len(defective),
        "threshold": calibration.threshold,
        "enough": calibration.enough,
        "rejected": float((good > calibration.threshold).mean()),
        "parts": len(worst),
        "parts_rejected": float(np.mean([value > calibration.of_parts().threshold for value in worst.values()])),
        "missed": float((defective <= calibration.threshold).mean()) if len(defective) else None,
        "auroc": float(roc_auc_score(labels, scores)) if len(defective) else None,
        "seconds": seconds,
    }


_SHOWN = {"rejected": "{:.3f}", "parts_rejected": "{:.3f}", "missed": "{:.3f}", "auroc": "{:.4f}", "threshold": "{:.4g}",
          "seconds": "{:.1f}"}  # fmt: skip


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds."""
    told: dict[str, Any] = {key: rows[0][key] for key in ("calibration", "learned", "units", "good", "parts")}
    for key in _SHOWN:
        values = [row[key] for row in rows if row[key] is not None]
        told[key] = statistics.fmean(values) if values else None
        told[f"{key}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
    rate = told["rejected"]
    told["rejected_chance"] = math.sqrt(rate * (1 - rate) / rows[0]["parts"])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "patchcore-promises")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--kinds", default="folds,held_out")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--part", metavar="REGEX", help="what in a path names its part; tables have a column for it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    base, every = Recipe.named(options.recipe), list[dict[str, Any]]()
    print(json.dumps(machine()))
    for name in options.data:
        found = embedded(name, base, options.cache)
        parts = named(found, options.part)
        if parts == found.digests and base.set(*options.assignments).near_copies == "together":
            parts = grouped(found)
        embedder = Embedder(found.recipe, backbone_for(found.recipe, None), torch.device("cpu"))
        for kind in options.kinds.split(","):
            recipe = found.recipe.set(*options.assignments).replace(calibration=kind)
            rows = []
            for seed in range(options.seeds):
                rows.append(measured(found, embedder, parts, recipe.replace(seed=seed), options.share))
                print(json.dumps({"set": name, **rows[-1]}), flush=True)
            told = summary(rows)
            every.append({"set": name, "rows": rows, **told})
            shown = (f"{key} {text.format(told[key])} +- {text.format(told[f'{key}_sd'])}"
                     for key, text in _SHOWN.items() if told[key] is not None)  # fmt: skip
            print(f"{name} {kind}: {', '.join(shown)}; by chance +- {told['rejected_chance']:.3f}", flush=True)
    write_json(options.json, {"machine": machine(), "share": options.share, "sets": every})


def named(found: Embedded, pattern: str | None) -> list[str]:
    """The part of each image: what a table says, or what matches in its path, or else the image itself."""
    parts = []
    for one, digest in zip(found.samples, found.digests, strict=True):
        match = re.search(pattern, Path(one.name).as_posix()) if pattern else None
        parts.append((match[1] if match.re.groups else match[0]) if match else one.part or digest)
    return parts


def grouped(found: Embedded) -> list[str]:
    """The same with near-copies among all good images as one part, so that none is learned and tested too."""
    good, store, parts = [n for n, one in enumerate(found.samples) if one.kind == GOOD], PatchStore(), found.digests[:]
    for number in good:
        patches = found.patches(number)
        store.append((patches.values, patches.grid))
    for number, first in zip(good, near_copies(store), strict=True):
        parts[number] = parts[good[first]]
    print(json.dumps({"good": len(good), "parts": len({parts[number] for number in good})}))
    return parts


if __name__ == "__main__":
    main()
