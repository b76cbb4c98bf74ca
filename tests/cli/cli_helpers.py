"""What the tests of the commands share beside fixtures."""

import json
from typing import Any

# The recipe of the `small_recipe` fixture.
SMALL = [
    f"--set={field}"
    for field in ("backbone=efficientnet_lite0", "size=128", "resize=stretch", "ratio=0.05", "min_rows=1", "gate=none")
]


def lines(text: str) -> list[dict[str, Any]]:
    """JSON objects, one per line, and nothing else."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]
