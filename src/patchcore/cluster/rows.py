"""Rows: results on the disk as they come, and those of a run that was stopped."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypeAlias

from pydantic import JsonValue

from patchcore.errors import MissingExtraError, StoreError, UsageError
from patchcore.files import appearing, writing
from patchcore.files.text import cell, json_line, plain_cell
from patchcore.measure.row import COLUMNS

Row: TypeAlias = dict[str, JsonValue]
_HEAD = (*COLUMNS, "regions", "error")
_NUMBERS = ("score", "normalised", "threshold", "lower_threshold", "p_value", "seconds")
_PARTS = "part-{:06d}.parquet"


class Rows(Protocol):
    """A file of results. Each row names its image (`path`); a row that was written in part does not count."""

    def known(self) -> dict[str, str]:
        """The images that have a row, and the error in it or an empty string."""
        ...

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows, and wait until they are on the disk."""
        ...


def rows_at(path: str | Path, model: str) -> Rows:
    """What writes JSON lines, CSV or a folder of Parquet files, by the path's extension.

    `model`: the SHA-256 of the model; rows that are there must be of the same. Errors: UsageError, StoreError.
    """
    path = Path(path)
    kinds: dict[str, Callable[[Path], Rows]] = {".jsonl": Lines, ".csv": Table, ".parquet": Parquet}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"out is {str(path)!r}; expected a path that ends in .jsonl, .csv or .parquet.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"out is {str(path)!r}, whose folder does not exist. Create it first.")
    _same_model(path, model)
    return kind(path)


def _same_model(path: Path, model: str) -> None:
    """Errors: UsageError if the rows that are there come from another model."""
    note = path.with_name(f".{path.name}.model")
    if path.exists() and note.exists():
        with suppress(OSError):
            if (other := note.read_text("ascii").strip()) != model:
                raise UsageError(
                    f"{path} has results of another model (SHA-256 {other[:12]}..., now {model[:12]}...). Give another "
                    "file, or delete it."
                )
    elif path.exists():
        raise UsageError(f"{path} exists, and nothing says which model its rows are of. Give another file.")
    with appearing(note) as temporary:
        temporary.write_text(model, "ascii")


class Lines:
    """JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _cut(path)

    def known(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        found = {}
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    found[str(row["path"])] = str(row.get("error") or "")
                except (ValueError, KeyError, TypeError):
                    raise _foreign(self._path, number) from None
        return found

    def add(self, rows: Sequence[Row]) -> None:
        _append(self._path, b"".join(json_line(row).encode() + b"\n" for row in rows))


class Table:
    """A CSV table; what is no text or number in a row is JSON in its cell."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _cut(path)

    def known(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        with self._path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            if not reader.fieldnames or not {"path", "error"} <= set(reader.fieldnames):
                raise _foreign(self._path, 1)
            return {plain_cell(row["path"]): plain_cell(row["error"] or "") for row in reader}

    def add(self, rows: Sequence[Row]) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._path.exists() or not self._path.stat().st_size:
            writer.writerow(_HEAD)
        for row in rows:
            writer.writerow([cell(_flat(row.get(name))) for name in _HEAD])
        _append(self._path, text.getvalue().encode("utf-8", "surrogateescape"))


class Parquet:
    """A folder of Parquet files, each whole, in the order of their names: what Ray, Spark, pandas and DuckDB read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._arrow, self._parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        except ImportError:
            raise MissingExtraError("pyarrow", "cluster", "Writing Parquet") from None
        path.mkdir(exist_ok=True)
        text, number = self._arrow.string(), self._arrow.float64()
        kinds = {name: number if name in _NUMBERS else text for name in (*COLUMNS, "reason", "error", "row")}
        self._schema = self._arrow.schema(list(kinds.items()))  # `row` is the whole of it, in JSON

    def known(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for part in self._files():
            try:
                table = self._parquet.read_table(part, columns=["path", "error"])
            except Exception as error:
                raise StoreError(f"{part}: no results of patchcore ({error}). Give another place.") from error
            found |= {str(path): error or "" for path, error in zip(*table.to_pydict().values(), strict=True)}
        return found

    def _files(self) -> list[Path]:
        return sorted(self._path.glob("part-*.parquet"))

    def add(self, rows: Sequence[Row]) -> None:
        lines = [{**{name: _flat(row.get(name)) for name in self._schema.names}, "row": json_line(row)} for row in rows]
        table = self._arrow.Table.from_pylist(lines, schema=self._schema)
        with appearing(self._path / _PARTS.format(len(self._files()))) as temporary:
            self._parquet.write_table(table, temporary)


def _flat(value: JsonValue) -> JsonValue:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _append(path: Path, data: bytes) -> None:
    with writing(path, path.parent), path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _cut(path: Path) -> None:
    """Take away a last line that was written in part."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, 2)
        end = size
        while end:
            begin = max(0, end - 65536)
            file.seek(begin)
            if (at := file.read(end - begin).rfind(b"\n")) >= 0:
                end = begin + at + 1
                break
            end = begin
        if end < size:
            file.truncate(end)


def _foreign(path: Path, line: int) -> StoreError:
    return StoreError(f"{path}, line {line}: not a row of results of patchcore. Give another file.")
