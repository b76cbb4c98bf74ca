"""Time of `import patchcore` and `patchcore --help`, each in a fresh process.

python benchmarks/startup.py [--runs 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from common import machine, seconds, summary, write_json

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import patchcore": [sys.executable, "-c", "import patchcore"],
    "patchcore --help": [sys.executable, "-m", "patchcore", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.runs):
        for name, command in COMMANDS.items():
            times[name].append(seconds(lambda c=command: subprocess.run(c, check=True, stdout=subprocess.DEVNULL)))
    print(json.dumps(machine()))
    for name, values in times.items():
        s = summary(values)
        print(f"{name:18} {1000 * s['median']:6.0f} ms ({1000 * s['min']:.0f}-{1000 * s['max']:.0f})")
    write_json(options.json, {"machine": machine(), "seconds": {n: summary(v) for n, v in times.items()}})


if __name__ == "__main__":
    main()
