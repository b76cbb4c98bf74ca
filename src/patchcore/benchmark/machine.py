"""The machine that a benchmark runs on, and its memory."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil


def machine() -> dict[str, Any]:
    """Processor, cores, threads, versions and date. No host names, no paths."""
    import torch

    from patchcore import __version__

    named = _fields(Path("/proc/cpuinfo"))
    return {
        "processor": named.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "patchcore": __version__,
        **{name: metadata.version(name) for name in ("torch", "timm", "numpy")},
        "date": time.strftime("%Y-%m-%d"),
    }


def peak_memory() -> int | None:
    """Peak memory of this process in bytes; None where the system does not report it."""
    if text := _fields(Path("/proc/self/status")).get("VmHWM"):  # `1234 kB`; psutil does not read it, and
        return int(text.split()[0]) * 1024  # getrusage starts from the parent's memory
    if peak := getattr(psutil.Process().memory_info(), "peak_wset", None):  # Windows
        return int(peak)
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def held(pid: int) -> int:
    """Memory that a process uses now, in bytes; 0 if it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def available_memory() -> int:
    """Memory available to new processes, in bytes."""
    return int(psutil.virtual_memory().available)


def _fields(path: Path) -> dict[str, str]:
    """The `name: value` lines of a file, the last one for each name; empty if there is no such file."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
