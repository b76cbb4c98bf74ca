"""results.jsonl: one line for each finished cell, safe on disk even if the run is killed."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from patchcore.errors import StoreError

Row = dict[str, Any]


class Journal:
    """The rows of finished cells, by key. A line that was only partly written is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self.rows.setdefault(row["key"], row)
            except (ValueError, KeyError, TypeError):
                raise StoreError(
                    f"{path}, line {number}: not a row of a benchmark. Remove the file, or choose another output."
                ) from None
        if len(whole) < len(content):  # killed while writing the last row
            os.truncate(path, len(whole))

    def append(self, row: Row) -> Row:
        """Append the row of a finished cell, and wait until it is on disk."""
        clean: Row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with self.path.open("ab") as file:
            file.write(json.dumps(clean, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows[clean["key"]] = clean
        return clean
