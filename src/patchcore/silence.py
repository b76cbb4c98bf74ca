"""Silence of other packages: in the log, on standard error, towards servers."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def logs(*names: str) -> Iterator[None]:
    """Nothing below errors is logged by these loggers; and the root logger's level stays what it was."""
    loggers = [*map(logging.getLogger, names), logging.getLogger()]  # OpenVINO sets the root's where it fails
    levels = [one.level for one in loggers]
    for one in loggers[:-1]:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


@contextmanager
def logs_and_warnings(*names: str) -> Iterator[None]:
    """As `logs`, and without warnings: for libraries that tell of their own insides."""
    with logs(*names), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def imported(name: str) -> Any:
    """`openvino` or `nncf`, without the telemetry that reports to a server unless told not to. Errors: ImportError."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    finally:
        if sys.modules.get("openvino_telemetry", sys) is None:
            sys.modules.pop("openvino_telemetry", None)
