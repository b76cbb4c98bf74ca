"""Session: a connection to Ray, or a Ray of our own over this machine's cores."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from patchcore.errors import MissingExtraError, UsageError
from patchcore.silence import logs_and_warnings

_OWN_STORE = 1_000_000_000  # bytes that a Ray of our own may keep in shared memory; what is more it puts on the disk
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "GOMP_SPINCOUNT": "1000"}
_HEARD = ("ray", "ray.data", "ray.tune", "ray.rllib", "ray.train", "ray.serve")


def engine() -> ModuleType:
    """Ray, which reports to nobody. Errors: MissingExtraError."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return import_module("ray")
    except ImportError as error:
        if error.name != "ray":
            raise
        raise MissingExtraError("ray", "cluster", "patchcore.cluster") from None


@contextmanager
def session(address: str | None, workers: int | None, *, dashboard: bool = False) -> Iterator[int]:
    """Ray is there until the end; how many workers there are to be.

    `address`: of a running cluster, as `ray.init` takes it (`auto`, `HOST:PORT`, `ray://...`); None: a Ray that ends
    with the session, unless the caller has started one, which is used and left alone. `workers`: None for one for each
    core that the cluster has. Errors: UsageError, MissingExtraError.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}; it must be at least 1.")
    ray = engine()
    ours = not ray.is_initialized()
    if ours:
        own = {"object_store_memory": _OWN_STORE, "include_dashboard": dashboard} if address is None else {}
        try:
            ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
        except Exception as error:  # Ray has no class of its own for what may go wrong here
            if address is None:
                raise UsageError(
                    f"Ray cannot be started on this machine: {str(error).splitlines()[0]} If the machine is very busy, "
                    "try again, or start it before, by `ray start --head`, and give --cluster auto, or address='auto'."
                ) from error
            raise UsageError(
                f"address is {address!r}, where no Ray answers ({str(error).splitlines()[0]}). Start one with "
                "`ray start --head`, give its address, or leave it out for a Ray of this machine alone."
            ) from None
    try:
        cores = int(ray.cluster_resources().get("CPU", 0))
        if workers is not None and workers > cores:
            raise UsageError(f"workers is {workers}; the cluster has {cores} cores, one for each worker.")
        yield workers or max(1, cores)
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def quiet_data() -> Iterator[ModuleType]:
    """Ray Data, which keeps the order of its input in what is begun here, without bars and remarks on its insides."""
    with logs_and_warnings(*_HEARD):
        data = import_module("ray.data")
        context = data.DataContext.get_current()
        options, names = context.execution_options, ("enable_progress_bars", "print_on_execution_start")
        before = {name: getattr(context, name) for name in names}, options.preserve_order
        context.enable_progress_bars = context.print_on_execution_start = False
        options.preserve_order = True
        try:
            yield data
        finally:
            options.preserve_order = before[1]
            for name, value in before[0].items():
                setattr(context, name, value)
