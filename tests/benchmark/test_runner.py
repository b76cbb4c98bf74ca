"""Processes: one for each cell, none twice, and none left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from patchcore import UsageError
from patchcore.benchmark import runner
from patchcore.benchmark.cells import Options
from patchcore.benchmark.journal import Journal

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
GB = 1_000_000_000


def children(pid: int) -> set[int]:
    """The processes that a process has started."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found |= {int(child) for child in (task / "children").read_text().split()}
    return found


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_for(condition):
    end = time.monotonic() + 600  # never: a machine may be as slow as it likes, but not stand still
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return result


# Python runs this first. A cell that begins when another one has a row waits for ever before its work.
HOLD = """
import os, sys, threading
if "patchcore.benchmark.measure" in sys.orig_argv and os.path.exists({journal!r}):
    from patchcore.data import resolve
    resolve.detect = lambda path: threading.Event().wait()
"""


@linux
def test_a_killed_run_leaves_no_process_and_goes_on_where_it_was(tmp_path, category):
    path = category(tmp_path / "nuts" / "brown")
    fields = [f"--set={field}" for field in ("size=96", "resize=stretch", "ratio=0.01", "calibration=held_out")]
    command = [sys.executable, "-m", "patchcore", "benchmark", "--data", path, "--recipes=default", "--seeds=5,6"]
    command = [*map(str, command), *fields, "-o", str(tmp_path / "out"), "--json"]
    journal = tmp_path / "out" / "results.jsonl"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HOLD.format(journal=str(journal)), "utf-8")
    places = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet, env={**os.environ, "PYTHONPATH": places}) as process:
        wait_for(lambda: journal.is_file() and journal.read_bytes().endswith(b"\n"))
        (child,) = wait_for(lambda: children(process.pid))
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not alive(child))
    first = journal.read_bytes()
    assert first.count(b"\n") == 1
    journal.write_bytes(first + b'{"dataset": "nu')  # it could have been writing
    assert not (tmp_path / "out" / "results.csv").exists()

    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 cells: 1 category, recipes default; 1 of them finished before" in done.stderr
    assert "[1/1] nuts brown default seed 6:" in done.stderr
    assert journal.read_bytes().startswith(first)
    rows = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    assert [row["seed"] for row in rows] == [5, 6]
    assert [json.loads(line) for line in done.stdout.splitlines()] == rows
    scores = [[row[name] for name in ("pixel_auroc", "pixel_f1_max", "aupro_30")] for row in rows]
    assert scores[0] != scores[1]  # a bank drawn from another seed
    assert list((tmp_path / "out" / "logs").iterdir()) == []


@linux
def test_a_process_that_is_killed_fails_its_cell_and_no_other(tmp_path, category, cell):
    cells = [cell(category(tmp_path / "brown")), cell(tmp_path / "nowhere")]

    def kill():
        (child,) = wait_for(lambda: children(os.getpid()) - before)
        os.kill(child, signal.SIGKILL)

    before = children(os.getpid())
    thread = threading.Thread(target=kill)
    thread.start()
    ended = []
    outcome = runner.run(cells, tmp_path / "out", on_end=lambda cell, row: ended.append((cell.source.category, row)))
    thread.join()
    assert outcome.rows == []
    (first, why), (second, other) = outcome.errors
    assert (first, second) == tuple(cells)
    assert "ended by SIGKILL; the system may have run out of memory: try fewer --jobs" in why
    assert "nowhere: expected a folder of images, a dataset root, or a .csv table" in other
    assert ended == [("brown", {"error": why}), ("nowhere", {"error": other})]
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_what_is_finished_is_not_run_again(tmp_path, cell, row, monkeypatch):
    one, other = cell(tmp_path / "brown"), cell(tmp_path / "green")
    (tmp_path / "out").mkdir()
    journal = Journal(tmp_path / "out" / "results.jsonl")
    for this, value in ((other, 0.8), (one, 0.9)):
        journal.append({**row(this.source.category, value), "key": this.key})
    content = journal.path.read_bytes()

    def refuse(*arguments, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    outcome = runner.run([one, other], tmp_path / "out")
    assert [row["image_auroc"] for row in outcome.rows] == [0.9, 0.8]
    assert runner.finished([one], tmp_path / "out") == outcome.rows[:1]
    assert journal.path.read_bytes() == content


def other_run(folder, code):
    """Another process that has the folder, and says so on its output."""
    start = "import sys\nfrom pathlib import Path\nfrom patchcore.benchmark.runner import alone\n"
    code = f"{start}with alone(Path(sys.argv[1])):\n{code}"
    command = [sys.executable, "-c", code, folder]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_runs_do_not_write_into_one_folder(tmp_path, cell, row):
    one = cell(tmp_path / "brown")
    journal = Journal(tmp_path / "results.jsonl")
    journal.append({**row("brown", 0.8), "key": one.key})
    with other_run(tmp_path, "    print('have it', flush=True)\n    input()") as process:
        assert process.stdout.readline() == "have it\n"
        said = rf"is in use by process {process.pid} on .*, since 20.* Wait until it ends, stop it, or choose another"
        with pytest.raises(UsageError, match=said):
            runner.run([one], tmp_path)
        with runner.alone(tmp_path / "other"):  # another folder is another matter
            pass
        process.communicate("\n")
    assert len(runner.run([one], tmp_path).rows) == 1
    with runner.alone(tmp_path):  # who has the folder may run cells in it
        assert len(runner.run([one], tmp_path).rows) == 1
        assert (tmp_path / ".running").is_file()
    assert not (tmp_path / ".running").exists()


def test_the_lock_of_a_killed_run_is_in_nobody_s_way(tmp_path):
    with other_run(tmp_path, "    print('have it', flush=True)\n    input()") as process:
        process.stdout.readline()
        process.kill()
    assert (tmp_path / ".running").is_file()  # what it left behind holds nothing
    with runner.alone(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / ".running").read_text()


def test_a_cell_waits_until_there_is_memory_for_it(tmp_path, cell, row, monkeypatch):
    journal = Journal(tmp_path / "results.jsonl")
    small, large, new = cell(tmp_path, "small"), cell(tmp_path, "large"), cell(tmp_path, "new")
    assert runner.need(new, journal) == runner.FIRST
    journal.append(row("a", 1.0, "small", peak_memory_mb=1000.0))
    journal.append(row("b", 1.0, "small", peak_memory_mb=1500.0))
    journal.append(row("a", 1.0, "large", peak_memory_mb=6000.0))
    assert runner.need(small, journal) == 1.5 * GB
    assert runner.need(large, journal) == runner.need(new, journal) == 6 * GB

    running = [SimpleNamespace(cell=large, process=SimpleNamespace(pid=1))]
    monkeypatch.setattr(runner, "held", lambda pid: 2 * GB)  # so it grows by another 4
    for available, fits in ((5.4 * GB, False), (5.6 * GB, True)):
        monkeypatch.setattr(runner, "available_memory", lambda available=available: available)
        assert runner.has_room(small, running, journal) is fits
    monkeypatch.setattr(runner, "available_memory", lambda: 1)
    assert runner.has_room(large, [], journal)  # one always runs


def test_processes_share_threads_and_memory(monkeypatch):
    import torch

    monkeypatch.setattr(runner, "available_memory", lambda: 24 * GB)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert runner.shared(Options(), 1) == Options()
    assert runner.shared(Options(), 3) == Options(threads=2, memory=4 * GB)
    assert runner.shared(Options(threads=5, memory="1GB"), 3) == Options(threads=5, memory="1GB")
    assert runner.shared(Options(), 1000) == Options(threads=1, memory=GB // 2)
