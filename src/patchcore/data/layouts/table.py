"""CSV tables of images."""

from __future__ import annotations

import csv
from pathlib import Path

from patchcore.data.layouts import Layout
from patchcore.data.sample import GOOD, Dataset, Sample
from patchcore.errors import DataError, counted, nearest_name

_COLUMNS = frozenset({"path", "label", "mask", "split", "part"})


def holds(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and path.is_file()


def rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The names of the columns, and the rows with the numbers of their lines. Errors: DataError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            return columns, [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table in UTF-8 ({error}).") from error


def read(path: Path) -> Dataset:
    columns, lines = rows(path)
    if "path" not in columns:
        raise DataError(f"{path}: the columns are {', '.join(columns) or 'none'}; expected at least `path`.")
    for column in columns:
        if column not in _COLUMNS and (meant := nearest_name(column, _COLUMNS - set(columns))):
            raise DataError(f"{path}: there is a column {column!r}.{meant}")
    train, test, rest = [], [], []
    for number, row in lines:
        split, label = (row.get("split") or "").strip(), (row.get("label") or "").strip()
        if "split" in columns and split not in ("train", "test"):
            raise DataError(f"{path}, line {number}: the split is {split!r}; expected train or test.")
        kind = (GOOD if label in ("0", GOOD) else label) if label else None
        if not (row["path"] or "").strip():
            raise DataError(f"{path}, line {number}: there is no path.")
        mask = path.parent / row["mask"] if row.get("mask") else None
        if mask is not None and not mask.is_file():
            raise DataError(f"{path}, line {number}: there is no mask {mask}.")
        sample = Sample(row["path"], path.parent / row["path"], kind, mask, (row.get("part") or "").strip() or None)
        if split != "test" and kind in (GOOD, None):
            train.append(sample)
        if split != "train" and kind is not None:
            test.append(sample)
        if split == "train" and kind not in (GOOD, None):
            rest.append(sample)
    without = f", {counted(len(rest), 'training row')} left out for a label other than {GOOD!r}" if rest else ""
    return Dataset(
        f"CSV table, {len(train)} good to train on, {len(test)} labelled to test on{without}", train, test, rest
    )


LAYOUT = Layout(0, holds, read)
