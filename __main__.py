"""What `python -m patchcore` runs beside a folder `patchcore` that is this repository, if nothing is installed."""

import sys
from pathlib import Path

sys.exit(
    f"patchcore is not installed in {sys.executable}, and the folder {Path(__file__).parent} is only its repository. "
    "Install it (pip install FOLDER), or run the program `patchcore` of the environment that has it, for example "
    ".venv/bin/patchcore after `make demo`."
)
