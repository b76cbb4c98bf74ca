"""How time and memory grow: fits of more and more images, predictions with larger and larger banks.

    python benchmarks/growth.py [--images 250,1000,4000] [--memory 4GB] [--rows 2000,20000,200000] [--data DATA]
        [--earlier FILE] [--plot FILE] [--json FILE]

Fits: solar cells (PyPI package elpv-dataset; beyond its 2,624, mirrored copies), default recipe, each in its own
process. Memory is the anonymous and shared memory of the process tree, sampled every 20 ms; pages of mapped files,
which the system can drop, do not count. `base` is the memory of a fit of two images: interpreter and model.

Beside seconds there is processor time, of all threads, which says the same on a machine that others keep busy: the plot
shows it, with the exponent of its growth. --earlier draws, and writes again, what an earlier run has written with
--json.

Predictions: ELPV mono; banks of --rows rows by exact k-center, searched exactly and by IVF-PQ. Recall is the share of patches whose nearest row IVF-PQ finds.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accuracy import dataset
from common import elpv_root, embeddings, machine, summary, write_json
from PIL import Image
from sklearn.metrics import roc_auc_score

from patchcore import Detector, Recipe
from patchcore.maths.coreset import k_center_greedy
from patchcore.maths.embedding import channel_scales
from patchcore.memory.bank import Bank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="250,1000,4000")
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--rows", default="2000,20000,200000")
    parser.add_argument(
        "--data",
        type=Path,
        help="also measure predictions, on ELPV mono from the installed package; without it, fits only",
    )
    parser.add_argument("--earlier", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(json.dumps(machine()))
    fits = fit_table([int(n) for n in options.images.split(",") if n], options.memory) if options.images else []
    banks = bank_table([int(n) for n in options.rows.split(",") if n], options.data) if options.data else []
    if options.earlier:
        earlier = json.loads(options.earlier.read_text("utf-8"))
        fits = sorted(earlier["fits"] + fits, key=lambda row: row["images"])
        banks = sorted(earlier["banks"] + banks, key=lambda row: row["rows"])
    if options.plot:
        plot(fits, banks, options.plot)
    write_json(options.json, {"machine": machine(), "fits": fits, "banks": banks})


def fit_table(counts: list[int], memory: str) -> list[dict[str, Any]]:
    print(
        f"{'images':>9} {'patches':>9} {'rows':>7} {'seconds':>8} {'CPU s':>8} {'peak MB':>8} {'base MB':>8} {'--memory':>9}"
    )
    rows = []
    with tempfile.TemporaryDirectory(prefix="patchcore-bench-") as name:
        folder = Path(name)
        cells(folder / "two", 2)
        base = measured(folder / "two", folder / "a.patchcore", memory)["peak"]
        for count in counts:
            cells(folder / str(count), count)
            row = {"images": count, "patches": count * 1024, "base": base, "memory": memory}
            rows.append(row | measured(folder / str(count), folder / "a.patchcore", memory))
            r = rows[-1]
            print(
                f"{count:9} {r['patches']:9} {r['bank_rows']:7} {r['seconds']:8.1f} {r['cpu']:8.1f} {r['peak'] / 1e6:8.0f} {base / 1e6:8.0f} {memory:>9}",
                flush=True,
            )
    return rows


def cells(folder: Path, count: int) -> None:
    folder.mkdir()
    names = sorted((elpv_root() / "images").glob("*.png"))
    for index in range(count):
        with Image.open(names[index % len(names)]) as image:
            mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if index >= len(names) else image
            mirrored.save(folder / f"{index:05}.png")


def measured(images: Path, model: Path, memory: str) -> dict[str, Any]:
    """Seconds, processor time and peak memory of one `patchcore fit`."""
    command = [
        sys.executable,
        "-m",
        "patchcore",
        "fit",
        str(images),
        "-o",
        str(model),
        "--json",
        "--force",
        "--memory",
        memory,
    ]
    begin, before, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN), 0
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        while process.poll() is None:
            peak = max(peak, held(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"patchcore fit failed: {log.read()[-2000:]}")
        assert process.stdout is not None
        report = json.loads(process.stdout.read())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "peak": peak, "bank_rows": report["bank_rows"]}


def held(pid: int) -> int:
    """Bytes of anonymous and shared memory of a process and its children (Linux)."""
    total = 0
    try:
        for text in Path(f"/proc/{pid}/status").read_text().splitlines():
            if text.startswith(("RssAnon:", "RssShmem:")):
                total += int(text.split()[1]) * 1024
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += held(int(child))
    except (OSError, ProcessLookupError):  # the process has just ended
        pass
    return total


def bank_table(sizes: list[int], data: Path) -> list[dict[str, Any]]:
    found = dataset(data, "ELPV mono")
    detector = Detector(Recipe(ratio=0.001)).fit(found)  # for its network and its calibration
    member = detector.fitted.members[0]
    train = embeddings(detector.embedders[0], [sample.image for sample in found.train])
    scales = channel_scales(train.split(1 << 14))
    train = torch.cat([(block * scales).half() for block in train.split(1 << 14)])
    labels = [sample.kind != "good" for sample in found.test]
    picks = k_center_greedy(train, max(sizes))  # the first n picks are the bank of n rows
    print(
        f"{'rows':>8} {'search':>8} {'build s':>8} {'ms':>8} {'(min-max)':>15} {'AUROC':>7} {'recall':>7}  {'choice':12}"
    )
    rows = []
    for size in sizes:
        nearest: dict[str, torch.Tensor] = {}
        for search in ("exact", "ivf_pq"):
            if search == "ivf_pq" and size < 10_000:
                continue
            bank = Bank(train[picks[:size]].float(), torch.zeros(size, 3, dtype=torch.int32), scales, search)
            begin = time.perf_counter()
            _ = bank.points if search == "exact" else bank.lists
            build = time.perf_counter() - begin
            detector = Detector.of(replace(detector.fitted, members=(replace(member, bank=bank),)))
            results = list(detector.stream(found.test))
            alone = [detector.predict(sample.image).seconds for sample in found.test[:25]]
            scores = [result.score for result in results]
            nearest[search] = torch.cat([result.nearest_rows.flatten() for result in results])
            recall = float((nearest[search] == nearest["exact"]).double().mean())
            choice = f"{bank.points.axes} axes" if search == "exact" else search
            s = summary([1000 * one for one in alone[5:]])
            row = {
                "rows": size,
                "search": search,
                "build_seconds": build,
                "milliseconds": s,
                "recall": recall,
                "choice": choice,
            }
            row["image_auroc"] = float(roc_auc_score(labels, scores))
            rows.append(row)
            print(
                f"{size:8} {search:>8} {build:8.2f} {s['median']:8.1f} {s['min']:7.1f}-{s['max']:<7.1f} {row['image_auroc']:7.4f} {recall:7.4f}  {choice:12}",
                flush=True,
            )
    return rows


def plot(fits: list[dict[str, Any]], banks: list[dict[str, Any]], path: Path) -> None:
    """Both axes logarithmic, where a power is a straight line and its exponent the slope, which the legend tells."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    counts = [row["images"] for row in fits]
    draw(left, counts, [row["cpu"] for row in fits], "o-", "processor time")
    left.set(xlabel="training images", ylabel="seconds of all threads", title="Fitting: time")
    draw(middle, counts, [(row["peak"] - row["base"]) / 1e6 for row in fits], "o-", "memory")
    middle.set(xlabel="training images", ylabel="MB above interpreter and model", title="Fitting: memory")
    for search, style in (("exact", "o-"), ("ivf_pq", "s--")):
        own = [row for row in banks if row["search"] == search]
        draw(right, [row["rows"] for row in own], [row["milliseconds"]["median"] for row in own], style, search)
    right.set(xlabel="bank rows", ylabel="ms per image", title="Predicting: one 256 px image")
    for axes in (left, middle, right):
        axes.legend()
    figure.savefig(path, dpi=110)


def draw(axes: Any, x: list[float], y: list[float], style: str, label: str) -> None:
    if x:
        axes.loglog(x, y, style, label=f"{label}, {exponents(x, y)}")


def exponents(x: list[float], y: list[float]) -> str:
    """From each point to the next: 1 for what grows as fast as x."""
    steps = [math.log(b / a) / math.log(q / p) for p, q, a, b in zip(x, x[1:], y, y[1:], strict=False)]
    return f"exponent {', '.join(f'{one:.2f}' for one in steps)}" if steps else "one point"


if __name__ == "__main__":
    main()
