"""Cost: what a detector takes in time and space."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from patchcore.data.reading import Reading
from patchcore.data.sample import Sample
from patchcore.detector import Detector

TIMED = 25  # images, at most, that are looked at one by one


def latency(detector: Detector, samples: Sequence[Sample], reading: Reading | None = None) -> float:
    """Median seconds from an image's path to its verdict and map, one image at a time, all threads for it."""
    step = -(-len(samples) // TIMED)
    times = []
    for sample in [*samples[:1], *samples[::step]]:  # the first one warms up
        begin = time.perf_counter()
        _ = detector.predict(sample.image, reading=reading).map
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def file_size(detector: Detector) -> int:
    """Bytes of the detector's file, weights included."""
    with tempfile.TemporaryDirectory(prefix="patchcore-") as folder:
        path = Path(folder) / "model"
        detector.save(path)
        return path.stat().st_size
