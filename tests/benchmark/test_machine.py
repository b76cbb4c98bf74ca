"""Memory, and what figures were measured on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from patchcore.benchmark.machine import available_memory, held, machine

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")


def test_the_machine_is_named_without_places():
    about = machine()
    assert about["cores"] == os.cpu_count()
    assert about["processor"]
    assert {"threads", "python", "patchcore", "torch", "timm", "numpy", "date"} <= set(about)
    assert not any(str(Path.home()) in str(value) or os.uname().nodename == value for value in about.values())


@linux
def test_the_peak_stays_when_memory_is_given_back():
    # In a process of its own: a large one has free memory that a block can come from.
    code = (
        "import os, numpy as np\n"
        "from patchcore.benchmark.machine import held, peak_memory\n"
        "block = np.ones(150_000_000, np.uint8)\n"
        "with_block = held(os.getpid())\n"
        "del block\n"
        "print(with_block, peak_memory(), held(os.getpid()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with_block, peak, after = map(int, done.stdout.split())
    assert peak >= with_block - 10_000_000
    assert after < with_block - 100_000_000


@linux
def test_the_peak_is_the_process_s_own_and_not_that_of_the_one_that_started_it():
    block = np.ones(300_000_000, np.uint8)
    code = "from patchcore.benchmark.machine import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1_000_000 < int(done.stdout) < block.nbytes


def test_a_process_that_has_gone_holds_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert held(process.pid) == 0
    assert available_memory() > 0
