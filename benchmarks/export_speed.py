"""docs/export.md's speed table: one detector in every engine, and the peer's OpenVINO export of the same model.

    python benchmarks/export_speed.py MODEL IMAGES WORK [--good DIR] [--peer PYTHON] [--threads 2] [--seconds 4] [--json FILE]

MODEL is a detector file; IMAGES a folder of images of one size. WORK keeps the exported folders. Latency is the
median over single images, from pixels to score and heat map, in wall time and in CPU time, which a busy machine
changes less. Throughput is images per second, with as many requests at once as there are threads, each on one thread.

`--good`: good images to quantise int8 with and to measure it on; without them int8 is left out.
`--peer` is the interpreter of an environment with anomalib 2.7.0, OpenVINO, onnx and onnxscript, for a model with the
`lightning` recipe: it gets its weights, its bank and the same resize, crop and normalisation, exports itself with its
own `to_openvino`, and is timed in the same way, set to fp32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, write_json

from patchcore import Detector, export
from patchcore.data.images import read
from patchcore.data.reading import EXTENSIONS

Looker = Callable[[Any], Any]


def latency(look: Looker, images: list[Any], seconds: float) -> tuple[float, float]:
    """Milliseconds of wall time, and of CPU time over all threads."""
    look(images[0])
    times, processor, begin = [], [], time.perf_counter()
    while time.perf_counter() - begin < seconds or len(times) < 5:
        start, own = time.perf_counter(), time.process_time()
        look(images[len(times) % len(images)])
        times.append(time.perf_counter() - start)
        processor.append(time.process_time() - own)
    return 1000 * statistics.median(times), 1000 * statistics.median(processor)


def throughput(look: Looker, images: list[Any], seconds: float, workers: int) -> float:
    """Images per second."""
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(look, images[: 2 * workers]))
        done, begin = 0, time.perf_counter()
        while (passed := time.perf_counter() - begin) < seconds:
            done += len(list(pool.map(look, images[: 4 * workers])))
    return done / passed


def exported(
    options: argparse.Namespace, detector: Detector, format: str, precision: str, static: tuple[int, int] | None = None
) -> Path:
    folder = options.work / f"{options.model.stem}-{format}-{'static' if static else precision}"
    if not folder.exists():
        good = options.good if precision == "int8" else None
        export.save(detector, folder, format=format, precision=precision, static=static, images=good)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--good", type=Path)
    parser.add_argument("--peer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--prepare", action="store_true", help="only write the exported folders")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = sorted(path for path in options.images.iterdir() if path.suffix.lower() in EXTENSIONS)[:16]
    images = [read(path, path.name) for path in paths]
    detector = Detector.load(options.model, device="cpu")
    size = images[0].shape[:2]
    folders = {}
    for name, format in (("ONNX Runtime", "onnx"), ("OpenVINO", "openvino")):
        folders[f"{name}, fp32"] = (exported(options, detector, format, "fp32"), "fp32")
        folders[f"{name}, fp32, --static"] = (exported(options, detector, format, "fp32", size), "fp32")
        if options.good:
            folders[f"{name}, int8 backbone"] = (exported(options, detector, format, "int8"), "fp32")
    folders["OpenVINO, bf16 hint"] = (folders["OpenVINO, fp32"][0], "bf16")
    if options.prepare:
        if options.peer:
            prepare_peer(options, detector, images)
        return
    print(json.dumps(machine()))
    rows: dict[str, dict[str, float]] = {}
    scores = [detector.predict(image).score for image in images]

    def record(name: str, alone: Looker, shared: Looker, found: list[float]) -> None:
        wall, processor = latency(alone, images, options.seconds)
        per_second = throughput(shared, images, options.seconds, options.threads)
        apart = max(abs(a - b) / b for a, b in zip(found, scores, strict=True))
        rows[name] = {"milliseconds": wall, "processor": processor, "per_second": per_second, "score": apart}
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {per_second:.1f} | {apart:.1e} |", flush=True)

    for engine in ("torch", "openvino"):
        own = Detector.load(options.model, device="cpu", threads=options.threads, engine=engine)
        found = [own.predict(image).score for image in images]
        one = Detector.load(options.model, device="cpu", threads=1, engine=engine)
        record(f"library, {engine}", lambda p, d=own: d.predict(p).map, lambda p, d=one: d.predict(p).map, found)
    for name, (folder, precision) in folders.items():
        alone = export.load(folder, threads=options.threads, precision=precision)
        found = [result.score for result in alone.predict(images)]
        many = {"threads": options.threads, "streams": options.threads} if "openvino" in folder.name else {"threads": 1}
        shared = export.load(folder, precision=precision, **many)
        record(name, lambda p, m=alone: m.run(p[None]), lambda p, m=shared: m.run(p[None]), found)
    if options.peer:
        prepare_peer(options, detector, images)
        script = Path(__file__).parent / "peer_anomalib_export.py"
        arguments = [str(options.work), str(options.threads), str(options.seconds)]
        done = subprocess.run([options.peer, str(script), *arguments], capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        found = row.pop("scores")
        row["score"] = max(abs(a - b) / b for a, b in zip(found, scores, strict=True))
        rows["anomalib 2.7.0, its OpenVINO export"] = row
        print(
            f"| anomalib 2.7.0, its OpenVINO export | {row['milliseconds']:.1f} | {row['processor']:.1f} | {row['per_second']:.1f} "
            f"| {row['score']:.1e} |"
        )
    write_json(options.json, {"machine": machine(), "model": options.model.name, "rows": rows})


def prepare_peer(options: Any, detector: Detector, images: list[Any]) -> None:
    """Write the peer's input: weights, bank, images, and how they are resized."""
    member = detector.fitted.members[0]
    backbone, recipe = member.backbone, detector.recipe
    torch.save(backbone.extractor.model.state_dict(), options.work / "weights.pt")
    torch.save(member.bank.rows, options.work / "bank.pt")
    np.save(options.work / "images.npy", np.stack(images))
    about = {
        "backbone": backbone.source.architecture.removeprefix("timm:"),
        "layers": backbone.extractor.taps,
        "mean": backbone.source.mean,
        "std": backbone.source.std,
        "size": recipe.size,
        "crop": recipe.crop,
    }
    (options.work / "peer.json").write_text(json.dumps(about), "utf-8")


if __name__ == "__main__":
    main()
