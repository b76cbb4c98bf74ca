"""Measure one cell. As a program, this module reads a cell from standard input and prints its row.

Each cell has its own process, so that its peak memory is its own and a crash does not affect the others. The process
ends when its standard input closes, so no cell outlives the run that started it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from patchcore.benchmark.cells import Cell, Options, Source
from patchcore.errors import DataError, ImageError, PatchcoreError
from patchcore.recipe.recipe import Recipe


def measure(cell: Cell) -> dict[str, Any]:
    """Fit and evaluate a cell, and return its row: `Evaluation.figures`, the machine, and the figures below.

    `skipped`: names of unreadable images. `train_images`: good images read; `calibration_images` set the threshold, and
    `held_out_images` are in no bank. `fit_seconds`: from image paths to thresholds. `milliseconds`: median time for one
    test image, from path to verdict and map. `fit_memory_mb`, `peak_memory_mb`: peak memory of the process after the
    fit and at the end, including interpreter and libraries. `model_mb`: size of the detector's file. 1 MB = 1e6 bytes.
    Errors: DataError, BackboneError, UsageError.
    """
    import torch

    from patchcore.benchmark.machine import machine, peak_memory
    from patchcore.data.reading import Reading
    from patchcore.data.resolve import detect
    from patchcore.detector import Detector
    from patchcore.measure.cost import file_size, latency
    from patchcore.measure.evaluation import evaluate

    options = cell.options
    if options.threads:
        torch.set_num_threads(options.threads)
    found = detect(cell.source.path)
    if not found.test:
        raise DataError(f"{cell.source.path}: {found.description}; there are no labelled images to test on.")
    skipped: list[str] = []

    def skip(error: ImageError) -> None:
        skipped.append(error.name)

    reading = Reading(max_pixels=options.max_pixels, on_bad=skip if options.skip_bad else None)
    detector = Detector(
        cell.recipe, device=options.device, threads=options.threads, engine=options.engine, precision=options.precision
    )
    begin = time.perf_counter()
    detector.fit(found, limit=cell.shots, memory=options.memory, reading=reading)
    fit_seconds = time.perf_counter() - begin
    fit_memory = peak_memory()
    evaluation = evaluate(detector, found.test, reading=reading)
    seen = [result.sample for _, result in evaluation.results]
    if not seen:
        raise DataError(f"{cell.source.path}: none of the {len(skipped)} test images can be read: {skipped[0]}, ...")
    fitted = detector.fitted
    return {
        **evaluation.figures(),
        "skipped": skipped,
        "train_images": len(fitted.images),
        "calibration_images": len(fitted.calibration.scores),
        "held_out_images": 0 if fitted.calibration.crossed else len(fitted.calibration.scores),
        "backbone": fitted.recipe.networks,
        "bank_rows": fitted.rows,
        "fit_seconds": round(fit_seconds, 3),
        "milliseconds": round(1000 * latency(detector, seen, reading), 3),
        "fit_memory_mb": _megabytes(fit_memory),
        "peak_memory_mb": _megabytes(peak_memory()),
        "model_mb": _megabytes(file_size(detector)),
        "device": str(detector.device),
        "engine": options.engine,
        "precision": options.precision,
        **machine(),
    }


def _megabytes(size: int | None) -> float | None:
    return None if size is None else round(size / 1e6, 3)


def to_json(cell: Cell) -> str:
    """A cell as one line of JSON, for `from_json`."""
    data = {**asdict(cell), "recipe": cell.recipe.model_dump(mode="json")}
    return json.dumps(data, default=str)


def from_json(text: str | bytes) -> Cell:
    data = json.loads(text)
    source = Source(**{**data["source"], "path": Path(data["source"]["path"])})
    recipe, options = Recipe(**data["recipe"]), Options(**data["options"])
    given = {"source": source, "recipe": recipe, "options": options, "assignments": tuple(data["assignments"])}
    return Cell(**{**data, **given})


def main() -> None:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to standard error
    given = b""
    while not given.endswith(b"\n"):
        read = os.read(0, 65536)
        if not read:
            raise SystemExit("Expected a cell, as JSON on one line of standard input.")
        given += read
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        row = measure(from_json(given))
    except (PatchcoreError, OSError) as error:
        row = {"error": str(error)}
    with answer:
        json.dump(row, answer)


def _end_with_input() -> None:
    while os.read(0, 1):  # unbuffered: the lock of a buffer would be held when the interpreter ends
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
