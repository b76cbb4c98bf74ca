"""CSV tables of images."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from patchcore.data.layouts import Layout
from patchcore.data.sample import GOOD, GOOD_WORDS, Dataset, Sample
from patchcore.errors import DataError, counted, nearest_name
from patchcore.files.text import plain_cell

log = logging.getLogger(__name__)
_COLUMNS = ("path", "label", "mask", "split", "part")
_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}

# Labels of good parts. Capitals, blanks, hyphens and underscores make no difference.
GOOD_LABELS = GOOD_WORDS | {"0"}
# Words that some mean for good and some for defective ones, or for nothing known. What is in no list is a defect.
_UNCLEAR = "true false yes no y n t f x positive negative nan none null na n/a - -- ? unknown unlabeled unlabelled"
UNCLEAR_LABELS = frozenset(_UNCLEAR.split()) | {
    *("accept", "accepted", "acceptable", "clean", "correct", "defect free", "defectfree", "fine", "free", "healthy"),
    *("i.o.", "io", "in order", "intact", "no anomaly", "no defect", "no defects", "nominal", "non defective", "o.k."),
    *("undamaged", "valid", "without defect"),
}
_ADVICE = (
    f"Write one of {', '.join(sorted(GOOD_LABELS - {'0'}))} or 0 for a good part, the kind of defect (scratch, nok, "
    "...) for a defective one, and nothing where it is unknown."
)


def holds(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and path.is_file()


def rows(path: Path, needed: Sequence[str] = ()) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The names of the columns, in small letters, and the rows that are not empty with the numbers of their lines.

    UTF-8, or UTF-16 with its mark; commas, semicolons or tabs between values, whichever give the `needed` columns.
    Values are without blanks around them, and without the apostrophe before what a spreadsheet would take for a
    formula. Errors: DataError.
    """
    try:
        content = path.read_bytes()
        marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        errors = "surrogateescape" if content.startswith(_RESULTS) else "strict"
        text = content.decode("utf-16" if marked else "utf-8-sig", errors)
        read = {mark: list(_lines(text, mark)) for mark in ",;\t"}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table in UTF-8 ({error}). Save it as `CSV UTF-8`.") from error
    heads = {mark: [name.strip().casefold() for name in found[0][1]] if found else [] for mark, found in read.items()}
    mark = next((mark for mark, head in heads.items() if head and set(needed) <= set(head)), ",")
    columns = heads[mark]
    if twice := next((name for name in columns if name and columns.count(name) > 1), None):
        raise DataError(f"{path}: there are two columns {twice!r}; expected each name once.")
    found = []
    for number, values in read[mark][1:]:
        values = [plain_cell(value.strip()) for value in values]
        if not any(values):
            continue
        while len(values) > len(columns) and not values[-1]:
            values.pop()
        if len(values) != len(columns):
            raise DataError(
                f"{path}, line {number}: {counted(len(values), 'value')} for {counted(len(columns), 'column')} "
                f"({', '.join(columns)}). Quote a value that holds a {_NAMES[mark]}, and write every value, even empty."
            )
        found.append((number, dict(zip(columns, values, strict=True))))
    return columns, found


_RESULTS = b"path,score,normalised,threshold,"  # of `patchcore predict -o`: names that are no UTF-8 stay so
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}


def _lines(text: str, mark: str) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, the first of them the header, with the numbers of their lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    found = [(reader.line_num, values) for values in reader if values]
    if found and re.fullmatch(r"sep=.?", "".join(found[0][1]), re.IGNORECASE):  # a remark of spreadsheets to themselves
        found = found[1:]
    return found


def read(path: Path) -> Dataset:
    columns, lines = rows(path, ("path",))
    if "path" not in columns:
        raise DataError(f"{path}: the columns are {', '.join(columns) or 'none'}; expected at least `path`.")
    for column in columns:
        if column not in _COLUMNS and (meant := nearest_name(column, set(_COLUMNS) - set(columns))):
            raise DataError(f"{path}: there is a column {column!r}.{meant}")
    results = "decision" in columns and "label" not in columns  # of `patchcore predict -o`: verdicts are no labels
    labels = {_plain(row.get("label", "")) for _, row in lines}
    train, test, rest = list[Sample](), list[Sample](), list[Sample]()
    seen: dict[str, tuple[int, Sample, str]] = {}
    for number, row in lines:
        where = f"{path}, line {number}"
        # What `predict -o` has written has the paths that it was given, relative to where it ran.
        root = Path() if results and not _place(path.parent, row["path"]).exists() else path.parent
        sample, split = _sample(where, root, row, labels), _split(where, columns, row)
        place = os.path.normpath(str(sample.image))
        if place in seen:
            before, first, first_split = seen[place]
            if (first.kind, first.mask, first.part, first_split) != (sample.kind, sample.mask, sample.part, split):
                raise DataError(f"{where}: {sample.name} is in line {before} too, with other values. Keep one of them.")
            continue
        seen[place] = number, sample, split
        if split != "test" and sample.kind in (GOOD, None) and not results:
            train.append(sample)
        if split != "train" and sample.kind is not None:
            test.append(sample)
        if results or (split == "train" and sample.kind not in (GOOD, None)):
            rest.append(sample)
    if len(lines) > len(seen):
        again = counted(len(lines) - len(seen), "row")
        log.warning("%s: %s of an image that an earlier row has; each counts once.", path, again)
    if results:
        return Dataset(
            f"results of `patchcore predict`, {counted(len(rest), 'image')} without labels", train, test, rest
        )
    without = f", {counted(len(rest), 'training row')} left out for a label other than {GOOD!r}" if rest else ""
    return Dataset(
        f"CSV table, {len(train)} good to train on, {len(test)} labelled to test on{without}", train, test, rest
    )


def _sample(where: str, root: Path, row: dict[str, str], labels: set[str]) -> Sample:
    if not row["path"]:
        raise DataError(f"{where}: there is no path.")
    kind = _kind(where, row.get("label", ""), labels)
    mask = _place(root, row["mask"]) if row.get("mask") else None
    if mask is not None and not mask.is_file():
        raise DataError(f"{where}: there is no mask {mask}.")
    return Sample(row["path"], _place(root, row["path"]), kind, mask, row.get("part") or None)


def _place(root: Path, name: str) -> Path:
    """Where a file of a table lies; one that Windows has named, with backslashes, too."""
    path = root / name
    return root / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def _split(where: str, columns: Sequence[str], row: dict[str, str]) -> str:
    if "split" not in columns:
        return ""
    if (split := _SPLITS.get(row["split"].casefold())) is None:
        raise DataError(
            f"{where}: the split is {row['split']!r}; expected train or test. Images to set the threshold with belong "
            "in a table of their own: `calibration`."
        )
    return split


def _plain(label: str) -> str:
    """A label as it is compared: `1.0`, and `1,0`, which programs make of 1, is 1; without marks that nobody sees."""
    plain = re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", re.sub("[\u200b-\u200f\u2060\ufeff]", "", label.casefold()))
    return re.sub(r"^(-?\d+)[.,]0*$", r"\1", plain)


def _kind(where: str, label: str, labels: set[str]) -> str | None:
    """`good`, the kind of defect, or None if nothing is said. Errors: DataError for what can be read in two ways."""
    if not label:
        return None
    plain = _plain(label)
    if plain in GOOD_LABELS:
        return GOOD
    number = re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?%?", label.replace(" ", "").casefold())
    if plain in UNCLEAR_LABELS or (number and not plain.isdecimal()):
        raise DataError(f"{where}: the label is {label!r}, which can be read in more than one way. {_ADVICE}")
    if number and not labels & GOOD_LABELS:
        raise DataError(
            f"{where}: the label is {label!r}, and no row has 0 or a word for a good part: it cannot be told what "
            f"{label} stands for. {_ADVICE}"
        )
    return plain if number else label


LAYOUT = Layout(0, holds, read)
