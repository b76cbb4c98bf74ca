"""What figures were measured on, and how much memory there is."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, threads, versions and date. No host names, no paths."""
    import torch

    import patchcore

    named = _fields(Path("/proc/cpuinfo"))
    return {
        "processor": named.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "patchcore": patchcore.__version__,
        **{name: metadata.version(name) for name in ("torch", "timm", "numpy")},
        "date": time.strftime("%Y-%m-%d"),
    }


def peak_memory() -> int | None:
    """The most bytes that this process has held so far; None where the system does not say."""
    if text := _fields(Path("/proc/self/status")).get("VmHWM"):  # getrusage begins with what the parent held
        return _bytes(text)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def held(pid: int) -> int:
    """Bytes that a process holds now; 0 where the system does not say, or it has ended."""
    return _bytes(_fields(Path(f"/proc/{pid}/status")).get("VmRSS", "0"))


def available_memory() -> int | None:
    """Bytes that new processes can take; None where the system does not say."""
    text = _fields(Path("/proc/meminfo")).get("MemAvailable")
    return None if text is None else _bytes(text)


def _bytes(text: str) -> int:
    """`1234 kB`."""
    return int(text.split()[0]) * 1024


def _fields(path: Path) -> dict[str, str]:
    """The lines `name: value` of a file; the last one of a name. Nothing where there is no such file."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
