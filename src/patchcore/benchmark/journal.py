"""results.jsonl: one line for each finished cell, safe on disk even if the run is killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from patchcore.errors import StoreError
from patchcore.files import contents, from_json, writing
from patchcore.files.text import json_line

Row = dict[str, Any]
_LARGEST = 1 << 28  # bytes: rows of some hundred thousand cells


class Journal:
    """The rows of finished cells, by key. A line that was only partly written is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        content = self._content()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = from_json(line)
                self.rows.setdefault(row["key"], row)
            except (ValueError, KeyError, TypeError):
                raise StoreError(
                    f"{path}, line {number}: not a row of a benchmark. Remove the file, or choose another output."
                ) from None
        if len(whole) < len(content):  # killed while writing the last row
            os.truncate(path, len(whole))

    def _content(self) -> bytes:
        try:
            return contents(self.path, _LARGEST)
        except FileNotFoundError:
            return b""
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self.path} cannot be read: {error}. Expected the rows of a benchmark; choose another output."
            ) from None

    def append(self, row: Row) -> Row:
        """Append the row of a finished cell, and wait until it is on disk."""
        line = json_line(row)
        with writing(self.path, self.path.parent), self.path.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        clean: Row = from_json(line)  # as the next run reads it
        self.rows[clean["key"]] = clean
        return clean
