"""What every benchmark reports beside its figures: machine, versions, spread."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, threads and versions. No host names, no paths."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next(line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("patchcore", "torch", "timm", "numpy")},
    }


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def summary(times: list[float]) -> dict[str, float]:
    """Median, and the smallest and largest."""
    return {"median": statistics.median(times), "min": min(times), "max": max(times), "runs": len(times)}


def write_json(path: Path | None, data: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", "utf-8")


def elpv_root() -> Path:
    """The folder with the pictures and labels.csv of the PyPI package elpv-dataset."""
    from importlib.util import find_spec

    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("This benchmark reads real pictures: pip install 'patchcore[demo]'")
    return Path(spec.submodule_search_locations[0]) / "data"
