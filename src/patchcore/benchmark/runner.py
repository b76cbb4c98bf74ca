"""Run cells, each in its own process, as many at once as memory allows, and none of them twice."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from patchcore.benchmark.cells import Cell, Options
from patchcore.benchmark.journal import Journal, Row
from patchcore.benchmark.machine import available_memory, held
from patchcore.benchmark.measure import to_json
from patchcore.benchmark.published import Published
from patchcore.errors import UsageError

FIRST = 2_000_000_000  # bytes that a cell is assumed to need until one has been measured
_LEAST = 500_000_000  # bytes that a fit is given at least


@dataclass
class Outcome:
    """The rows of finished cells in the order of the cells, the errors of failed cells, and published results."""

    rows: list[Row] = field(default_factory=list)
    errors: list[tuple[Cell, str]] = field(default_factory=list)
    published: tuple[Published, ...] = ()


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    log: IO[bytes]


def run(
    cells: Sequence[Cell], folder: Path, jobs: int = 1, on_end: Callable[[Cell, Row], object] | None = None
) -> Outcome:
    """Run the cells that have no row yet in `folder`/results.jsonl, at most `jobs` at once.

    `on_end` is called for every cell that ends, with its row, or with a row that has only `error`. A failed cell
    does not stop the others; its output is kept in `folder`/logs, and the next run tries it again.
    Errors: StoreError; UsageError if another process is using the folder.
    """
    with alone(folder):
        return _run(cells, folder, jobs, on_end)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the folder for this process and thread. Errors: UsageError if another one holds it.

    The operating system releases the lock however the process ends, so a killed run leaves no lock behind.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / ".running"
    lock = FileLock((folder / ".lock").absolute(), is_singleton=True)  # the caller of `run` may hold it already
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            who = holder.read_text("utf-8")
        except OSError:
            who = "another process"
        raise UsageError(
            f"{folder} is in use by {who}. Wait until it ends, stop it, or choose another output folder: two runs in "
            "one folder would overwrite each other's results."
        ) from None
    try:
        if lock.lock_counter == 1:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder.write_text(f"process {os.getpid()} on {platform.node()}, since {since}", "utf-8")
        yield
    finally:
        if lock.lock_counter == 1:
            holder.unlink(missing_ok=True)
        lock.release()


def _run(cells: Sequence[Cell], folder: Path, jobs: int, on_end: Callable[[Cell, Row], object] | None) -> Outcome:
    journal = Journal(folder / "results.jsonl")
    errors: dict[str, str] = {}
    waiting = [cell for cell in cells if cell.key not in journal.rows]
    running: list[_Running] = []
    try:
        while waiting or running:
            if waiting and len(running) < jobs and has_room(waiting[0], running, journal):
                cell = waiting.pop(0)
                running.append(_start(replace(cell, options=shared(cell.options, jobs)), folder))
                continue
            ended = [one for one in running if one.process.poll() is not None]
            for one in ended:
                running.remove(one)
                row = _row_of(one)
                if "error" in row:
                    errors[one.cell.key] = row["error"]
                else:
                    about = {"set": list(one.cell.assignments), "jobs": jobs, "key": one.cell.key}
                    row = journal.append({**one.cell.names, **row, **about})
                if on_end is not None:
                    on_end(one.cell, row)
            if not ended:
                time.sleep(0.02)
    finally:
        for one in running:  # interrupted
            one.process.kill()
            _close(one)
    rows = [journal.rows[cell.key] for cell in cells if cell.key in journal.rows]
    return Outcome(rows, [(cell, errors[cell.key]) for cell in cells if cell.key in errors])


def finished(cells: Sequence[Cell], folder: Path) -> list[Row]:
    """The rows of the cells that have finished before. Errors: StoreError."""
    rows = Journal(folder / "results.jsonl").rows
    return [rows[cell.key] for cell in cells if cell.key in rows]


def shared(options: Options, jobs: int) -> Options:
    """The options of one of `jobs` processes, with its share of the threads and of the memory for a fit."""
    if jobs == 1:
        return options
    import torch

    threads = options.threads or max(1, torch.get_num_threads() // jobs)
    memory = max(available_memory() // 2 // jobs, _LEAST) if options.memory is None else options.memory
    return replace(options, threads=threads, memory=memory)


def has_room(cell: Cell, running: Sequence[_Running], journal: Journal) -> bool:
    """Whether one more cell still fits into memory when all running cells reach their peaks."""
    if not running:
        return True
    growth = sum(max(0, need(one.cell, journal) - held(one.process.pid)) for one in running)
    return need(cell, journal) + growth <= available_memory()


def need(cell: Cell, journal: Journal) -> int:
    """Bytes that a cell is assumed to need: the highest peak so far with its recipe, otherwise with any recipe."""
    peaks = {key: row["peak_memory_mb"] * 1e6 for key, row in journal.rows.items() if row.get("peak_memory_mb")}
    alike = [peak for key, peak in peaks.items() if journal.rows[key]["recipe"] == cell.recipe_name]
    return int(max(alike or [*peaks.values(), FIRST]))


def _start(cell: Cell, folder: Path) -> _Running:
    (folder / "logs").mkdir(exist_ok=True)
    log = _log(cell, folder).open("wb")
    command = [sys.executable, "-m", "patchcore.benchmark.measure"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    assert process.stdin is not None
    with suppress(OSError):  # it has ended already; its log says why
        process.stdin.write(to_json(cell).encode() + b"\n")
        process.stdin.flush()  # stays open: the process ends when it closes
    return _Running(cell, process, log)


def _log(cell: Cell, folder: Path) -> Path:
    return folder / "logs" / f"{cell.key}.txt"


def _row_of(one: _Running) -> dict[str, Any]:
    """The row that a process has printed; if there is none, `error` says how the process ended."""
    assert one.process.stdout is not None
    answer, code = one.process.stdout.read(), one.process.returncode
    _close(one)
    log = Path(one.log.name)
    if code == 0 and answer:
        row: dict[str, Any] = json.loads(answer)
        if "error" not in row:
            log.unlink(missing_ok=True)
        return row
    if code >= 0 or code == -signal.SIGABRT:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        said = lines[-1] if lines else "it printed nothing"
        return {"error": f"its process ended with code {code}: {said} (full output: logs/{log.name})"}
    hint = "; the system may have run out of memory: try fewer --jobs" if code == -signal.SIGKILL else ""
    return {"error": f"its process was ended by {signal.Signals(-code).name}{hint} (logs/{log.name})"}


def _close(one: _Running) -> None:
    one.process.wait()
    one.log.close()
    for pipe in (one.process.stdin, one.process.stdout):
        if pipe is not None:
            with suppress(OSError):  # the process ended before it read its input
                pipe.close()
