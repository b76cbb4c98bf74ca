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

TIMED = 25  # at most this many images are timed, one by one


def latency(detector: Detector, samples: Sequence[Sample], reading: Reading | None = None) -> float:
    """Median seconds for one image, from its path to its verdict and map; each image has all threads."""
    step = -(-len(samples) // TIMED)
    times = []
    for sample in [*samples[:1], *samples[::step]]:  # the first one warms up
        begin = time.perf_counter()
        _ = detector.predict(sample.image, reading=reading).map
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def file_size(detector: Detector) -> int:
    """Size of the detector's file in bytes, including the weights."""
    with tempfile.TemporaryDirectory(prefix="patchcore-") as folder:
        path = Path(folder) / "model"
        detector.save(path)
        return path.stat().st_size
