"""How soon a monitor sees that images have changed, and how often it is wrong.

    python benchmarks/drift.py DATA [--sets "ELPV mono,transistor"] [--images 100] [--streams 20] [--cache DIR]
        [--only undisturbed,delays,recalibrated,spindle] [--json FILE]

DATA as for accuracy.py, with ball_screw. A detector is fitted on the training images; the appearance and the score of
its held-out good images, and of defective ones, are computed once, undisturbed and at each strength of a disturbance,
and kept in --cache. References, as many as the detector has calibration images, and streams are drawn from these, with
replacement (test images of a public set may differ from its training images, and this is printed):

- undisturbed, 10,000 images, with 0, 5 and 10 % defective images; and by brightness alone with nothing allowed for
  defects, where the rate is a theorem;
- 300 undisturbed images, and then a disturbance at one strength, or at one strength after another for 100 images each:
  how many images later there is an alarm.

At the highest strength half of the good images then recalibrate, and the other half and the defective ones are judged.
Last, ball_screw: fitted on the first time points, and watched in the order of time.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import dataset
from common import machine, write_json
from disturb import EVERY

from patchcore import Detector, Monitor, Recipe, Sample
from patchcore.data.images import read, to_tensor
from patchcore.data.sample import GOOD
from patchcore.maths.appearance import Appearance, appearance
from patchcore.maths.betting import BOTH
from patchcore.watch.channel import CHANNELS, Channel

STRENGTHS = {
    "brightness": (0.98, 0.95, 0.9, 0.8),
    "blur": (0.4, 0.7, 1.0, 1.5),
    "shift": (0.005, 0.01, 0.02, 0.04),
    "jpeg": (95, 85, 70, 40),
}
UNDISTURBED, EACH, MOST, LONG = 300, 100, 1000, 10_000
RATE = 0.01
Seen = tuple[Appearance, float]


def seen(detector: Detector, samples: Sequence[Sample], change: str | None = None, strength: float = 0) -> list[Seen]:
    """Appearance and score of each image, disturbed."""
    images = (read(sample.image, sample.name) for sample in samples)
    if change is not None:
        images = (EVERY[change](image, strength) for image in images)
    return [
        (appearance(to_tensor(result.original(), result.name)), result.score) for result in detector.predict(images)
    ]


def cached(place: Path, detector: Detector, groups: dict[str, list[Sample]]) -> dict[str, list[Seen]]:
    """All that streams are drawn from, by name."""
    known: dict[str, Any] = json.loads(place.read_text("utf-8")) if place.exists() else {}
    wanted = [("good", "good", None, 0.0), ("defective", "defective", None, 0.0)]
    wanted += [(f"{change} {s:g}", "good", change, s) for change, each in STRENGTHS.items() for s in each]
    for name, group, change, strength in wanted:
        if name not in known:
            known[name] = seen(detector, groups[group], change, strength)
            place.write_text(json.dumps(known), "utf-8")
    return {name: [(Appearance(*looks), score) for looks, score in each] for name, each in known.items()}


def alarms(detector: Detector, stream: Iterator[Seen]) -> list[Any]:
    """The first alarms that a stream gives."""
    monitor = Monitor(detector)
    each = (monitor.look(str(number), looks, score) for number, (looks, score) in enumerate(stream))
    return next(filter(None, each), [])


def known(detector: Detector, reference: Sequence[Seen]) -> Detector:
    """The detector, calibrated with these."""
    looks, scores = zip(*reference, strict=True)
    calibration = replace(detector.fitted.calibration, looks=looks, scores=scores)
    return Detector.of(replace(detector.fitted, calibration=calibration))


def differ(one: Sequence[Seen], other: Sequence[Seen]) -> dict[str, float]:
    """How far the means of the other are from those of one, in its standard deviations."""
    a, b = (np.array([(*looks, score) for looks, score in each]) for each in (one, other))
    return dict(zip(CHANNELS, ((b.mean(0) - a.mean(0)) / a.std(0)).round(2).tolist(), strict=True))


def drawn(pool: Sequence[Seen], count: int, rng: np.random.Generator) -> Iterator[Seen]:
    return (pool[n] for n in rng.integers(0, len(pool), count))


def mixed(
    good: Sequence[Seen], bad: Sequence[Seen], share: float, count: int, rng: np.random.Generator
) -> Iterator[Seen]:
    return ((bad if odd else good)[rng.integers(0, len(bad if odd else good))] for odd in rng.random(count) < share)


def exact(pool: Sequence[float], reference: int, streams: int, rng: np.random.Generator) -> int:
    """Of streams whose reference is drawn as they are, how many give an alarm with this one number, at a rate of RATE."""
    wrong = 0
    for _ in range(streams):
        channel = Channel("brightness", 1 / RATE, 0.0)
        assert channel.bets == BOTH
        for value in rng.choice(pool, reference):
            channel.learn(float(value))
        wrong += any(channel.see(float(value), n, "") for n, value in enumerate(rng.choice(pool, LONG)))
    return wrong


def of_set(data: Path, name: str, images: int, streams: int, cache: Path, only: Sequence[str]) -> dict[str, Any]:
    found, model = dataset(data, name), cache / f"{name.replace(' ', '-')}.patchcore"
    if not model.exists():
        Detector(Recipe()).fit(found).save(model)
    detector = Detector.load(model)
    chosen = np.random.default_rng(0).permutation(len(found.test))
    test = [found.test[n] for n in chosen]
    groups = {
        "good": [sample for sample in test if sample.kind == GOOD][:images],
        "defective": [sample for sample in test if sample.kind not in (GOOD, None)][:images],
    }
    pools = cached(cache / f"{name.replace(' ', '-')}.json", detector, groups)
    good, calibration = pools["good"], detector.fitted.calibration
    told: dict[str, Any] = {
        "set": name, "good": len(good), "defective": len(pools["defective"]), "calibration": len(calibration.scores),
        "differ": differ(list(zip(calibration.looks, calibration.scores, strict=True)), good),
    }  # fmt: skip
    print(json.dumps(told), flush=True)
    rng = np.random.default_rng(1)
    if "recalibrated" in only:
        told["recalibrated"] = [restored(detector, groups, pools, change) for change in STRENGTHS]
    if "undisturbed" in only:
        told["undisturbed"] = undisturbed(detector, pools, streams, rng)
    if "delays" in only:
        told["delays"] = delays(detector, pools, streams, rng)
    return told


def like(detector: Detector, good: Sequence[Seen], rng: np.random.Generator) -> Detector:
    """The detector, calibrated with as many images as it was, drawn from these."""
    return known(detector, list(drawn(good, len(detector.fitted.calibration.scores), rng)))


def undisturbed(
    detector: Detector, pools: dict[str, list[Seen]], streams: int, rng: np.random.Generator
) -> dict[str, Any]:
    """How many undisturbed streams give an alarm, by their share of defective images."""
    good, wrong = pools["good"], dict[str, Any]()
    for share in (0.0, 0.05, 0.1):
        each = (
            alarms(like(detector, good, rng), mixed(good, pools["defective"], share, LONG, rng)) for _ in range(streams)
        )
        wrong[f"{share:g}"] = [sum(map(bool, each)), streams]
        print(json.dumps({"undisturbed": LONG, "defects": share, "wrong": wrong[f"{share:g}"]}), flush=True)
    wrong["exact"] = [exact([looks.brightness for looks, _ in good], 200, 10 * streams, rng), 10 * streams]
    print(json.dumps({"undisturbed": LONG, "exact": wrong["exact"]}), flush=True)
    return wrong


def delays(detector: Detector, pools: dict[str, list[Seen]], streams: int, rng: np.random.Generator) -> dict[str, Any]:
    """After how many disturbed images there is an alarm, and of what most often."""
    found: dict[str, Any] = {}
    for change, strengths in STRENGTHS.items():
        cases = [(f"{change} {s:g}", [(f"{change} {s:g}", MOST)]) for s in strengths]
        steps = [(f"{change} {s:g}", EACH) for s in strengths[:-1]] + [(f"{change} {strengths[-1]:g}", MOST)]
        for case, plan in [*cases, (f"{change} gradual", steps)]:
            after, what, early = [], [], 0
            for _ in range(streams):
                parts = [
                    drawn(pools["good"], UNDISTURBED, rng),
                    *(drawn(pools[name], count, rng) for name, count in plan),
                ]
                got = alarms(like(detector, pools["good"], rng), (one for part in parts for one in part))
                if got and got[0].number <= UNDISTURBED:
                    early += 1
                elif got:
                    after.append(got[0].number - UNDISTURBED)
                    what.append(got[0].what)
            ordered = sorted(after) + [None] * (streams - early - len(after))  # type: ignore[list-item]
            found[case] = {
                "median": ordered[len(ordered) // 2] if ordered else None, "seen": len(after), "of": streams - early,
                "what": max(set(what), key=what.count) if what else None,
            }  # fmt: skip
            print(json.dumps({case: found[case]}), flush=True)
    return found


def restored(
    detector: Detector, groups: dict[str, list[Sample]], pools: dict[str, list[Seen]], change: str
) -> dict[str, Any]:
    """At the highest strength: half of the good images recalibrate; the other half, and defective ones, are judged."""
    strength, half = STRENGTHS[change][-1], len(groups["good"]) // 2
    images = [EVERY[change](read(one.image, one.name), strength) for one in groups["good"][:half]]
    now = detector.recalibrate(images).fitted.calibration
    good = [score for _, score in pools[f"{change} {strength:g}"][half:]]
    bad = [score for _, score in seen(detector, groups["defective"], change, strength)]
    limits = detector.fitted.calibration.threshold, now.threshold
    told = {
        "change": change, "strength": strength, "with": half, "threshold": limits,
        "rejected": [[sum(score > limit for score in good) for limit in limits], len(good)],
        "missed": [[sum(score <= limit for score in bad) for limit in limits], len(bad)],
        "missed_undisturbed": sum(score <= limits[0] for _, score in pools["defective"]),
    }  # fmt: skip
    print(json.dumps(told), flush=True)
    return told


def spindle(data: Path, cache: Path, points: int = 10) -> dict[str, Any]:
    """Fitted on the first time points of every position, and watched after them in the order of time."""
    root, model = data / "ball_screw" / "spindle", cache / "spindle.patchcore"
    rows = sorted(
        csv.DictReader((data / "ball_screw" / "time.csv").open()), key=lambda row: row["timestamp_yymmddhhmmss"]
    )
    order = [(row, next((root / row["part"]).glob(f"{row['stem']}.*"))) for row in rows]
    first = [path for row, path in order if int(row["index_in_sequence"]) < points]
    rest = [(row, path) for row, path in order if int(row["index_in_sequence"]) >= points]
    if not model.exists():
        Detector(Recipe()).fit(first).save(model)
    detector = Detector.load(model)
    monitor, found, lines = Monitor(detector), [], []
    for (row, _), result in zip(rest, detector.stream([path for _, path in rest]), strict=True):
        lines.append((row["part"], result.score, result.decision, row["timestamp_yymmddhhmmss"]))
        for alarm in monitor.see(result):
            found.append({**alarm.to_dict(), "time": row["timestamp_yymmddhhmmss"]})
            print(json.dumps(found[-1]), flush=True)
    pitting = next(n for n, line in enumerate(lines, 1) if line[0] == "test/pitting")
    parts = [lines[n : n + 45] for n in range(0, len(lines), 45)]
    told = {
        "learned": len(first), "watched": len(rest), "learned_until": order[len(first) - 1][0]["timestamp_yymmddhhmmss"],
        "first_pitting": [pitting, lines[pitting - 1][3]], "alarms": found,
        "threshold": detector.fitted.calibration.threshold, "score_median": statistics.median(detector.fitted.calibration.scores),
        "by_45": [{
            "until": part[-1][3], "good": sum(line[0] != "test/pitting" for line in part),
            "good_failing": sum(line[0] != "test/pitting" and line[2] == "fail" for line in part),
            "pitting": sum(line[0] == "test/pitting" for line in part),
            "pitting_failing": sum(line[0] == "test/pitting" and line[2] == "fail" for line in part),
            "score": statistics.median(line[1] for line in part),
        } for part in parts],
    }  # fmt: skip
    print(json.dumps(told), flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default="transistor,ELPV mono")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "patchcore-drift")
    parser.add_argument("--only", default="undisturbed,delays,recalibrated,spindle")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    only = options.only.split(",")
    options.cache.mkdir(parents=True, exist_ok=True)
    print(json.dumps(machine()))
    told: dict[str, Any] = {"machine": machine()}
    told["sets"] = [
        of_set(options.data, name, options.images, options.streams, options.cache, only)
        for name in options.sets.split(",") if name
    ]  # fmt: skip
    if "spindle" in only:
        told["spindle"] = spindle(options.data, options.cache)
    write_json(options.json, told)


if __name__ == "__main__":
    main()
