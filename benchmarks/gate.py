"""What the gate lets pass and what it stops: every set against every other.

    python benchmarks/gate.py DATA ... [--cache DIR] [--share 0.8] [--seed 0] [--most 50] [--json FILE]

DATA as for promises.py, whose cache serves here too. Of each set --share of the good images are learned, as means of their
patches and with the limit that `fit` sets. Then: the share of the other good images, and of the defective ones by kind,
that are `not this part`; and of --most images of each other set, and of frames that show nothing (levels and noise other
than those that set the limit), the share that are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, write_json
from promises import Embedded, embedded, images, split

from patchcore import Recipe, Sample
from patchcore.data.reading import Reading
from patchcore.data.sample import GOOD
from patchcore.maths.embedding import channel_scales, tap_scales
from patchcore.pipeline.decide import foretold, spread
from patchcore.pipeline.embed import Embedder, backbone_for
from patchcore.pipeline.gated import nothing
from patchcore.pipeline.workers import in_order, through
from patchcore.verdict.gate import Gate, gate_limit

FRAMES = "frames"


def frames() -> list[Sample]:
    """Images that show nothing, with the levels and the noise of a camera, in two sizes."""
    drawn, found = np.random.default_rng(1), []
    for size in ((300, 300), (400, 700)):
        noise = drawn.normal(0, 1, (*size, 1))
        ramp = np.linspace(0, 255, size[1])[None, :, None] + 0 * noise
        for values in (0 * noise, 0 * noise + 255, 0 * noise + 90, 6 + 3 * noise, 245 + 5 * noise, 128 + 10 * noise, ramp,
                       drawn.uniform(0, 255, (*size, 3))):  # fmt: skip
            pixels = np.broadcast_to(values.clip(0, 255).astype(np.uint8), (*size, 3))
            found.append(Sample(f"{FRAMES}|{len(found)}", pixels))
    return found


def others(names: list[str], most: int) -> list[Sample]:
    """Images of every set, and frames; what a name has before `|` is the set."""
    found = frames()
    for name in names:
        train, test = images(name)
        every = [*train, *test]
        some = every[:: max(1, len(every) // most)][:most]
        found += [Sample(f"{name}|{number}", one.image) for number, one in enumerate(some)]
    return found


def measured(
    name: str, found: Embedded, embedder: Embedder, strange: list[Any], share: float, seed: int
) -> dict[str, Any]:
    """One set: what its gate does with good, defective and foreign images."""
    learned, fresh = split(found, found.digests, share, seed)
    some = [found.patches(number).values for number in learned[:: max(1, len(learned) // 40)]]
    tells = found.recipe.scaling == "channel"
    scales = (
        channel_scales(iter(some))
        if tells
        else tap_scales(*foretold([o.float() for o in spread(some)]), embedder.widths)
    )

    def mean(number: int) -> torch.Tensor:
        return found.patches(number).values.float().mean(0)

    means = dict(enumerate(in_order(mean, range(len(found.samples)), None)))
    good = torch.stack([means[number] for number in learned]) * scales
    limit = gate_limit(good, [found.digests[number] for number in learned], nothing(embedder) * scales)
    assert limit is not None
    gate = Gate(good, scales, limit)
    far = {number: gate.share(means[number][None]) for number in means if number not in set(learned)}
    bad = [number for number, one in enumerate(found.samples) if one.kind != GOOD]
    swallowed = Counter(str(found.samples[number].kind) for number in bad if far[number] > 1)
    caught: dict[str, list[float]] = {}
    for label, value in strange:
        if (source := label.split("|")[0]) != name:
            caught.setdefault(source, []).append(gate.share(value[None]))
    real = [value for source, values in caught.items() if source != FRAMES for value in values]
    return {
        "set": name,
        "learned": len(learned),
        "good": len(fresh),
        "good_stopped": sum(far[number] > 1 for number in fresh),
        "good_highest": max(far[number] for number in fresh),
        "defective": len(bad),
        "defective_stopped": sum(swallowed.values()),
        "defective_highest": max(far[number] for number in bad),
        "kinds": dict(swallowed),
        "foreign": len(real),
        "foreign_caught": sum(value > 1 for value in real),
        "foreign_lowest": min(real),
        "by_set": {source: [sum(value > 1 for value in values), len(values)] for source, values in caught.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "patchcore-promises")
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    print(json.dumps(machine()))
    rows, seen = list[dict[str, Any]](), dict[str, list[Any]]()
    for name in options.data:
        found = embedded(name, Recipe(), options.cache)
        embedder = Embedder(found.recipe, backbone_for(found.recipe, None), torch.device("cpu"))
        choices = f"{found.recipe.exposure} {found.recipe.pool}"
        if choices not in seen:  # sets that have taken the same choices embed images alike

            def means(batch: Any, embedder: Embedder = embedder) -> list[Any]:
                return [(one.sample.name, own.values.mean(0)) for one, own in zip(batch, embedder(batch), strict=True)]

            seen[choices] = list(through(means, others(options.data, options.most), Reading(), None))
        rows.append(measured(name, found, embedder, seen[choices], options.share, options.seed))
        print(json.dumps(rows[-1]), flush=True)
    write_json(options.json, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
