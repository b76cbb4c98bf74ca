"""Text: names from the file system and strings from files, as they are printed, written as JSON and put into CSV."""

from __future__ import annotations

import csv
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# What spreadsheets take for a formula, and what they may strip before they look. Both begin with an apostrophe, too,
# where the text itself does, so that `plain_cell` gives every text back.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def shown(text: object, *, lines: bool = False) -> str:
    """Text for a terminal: what would move its cursor, change its colours or the order of letters is written out.

    `lines`: the text has several lines of its own.
    """
    return "".join(one if lines and one == "\n" else _letter(one) for one in str(text))


def _letter(one: str) -> str:
    if one.isprintable() or (kind := unicodedata.category(one)) == "Zs":
        return one
    if kind == "Cf" and one in "\u200c\u200d":  # joiners, which scripts and emoji need
        return one
    return one.encode("unicode_escape").decode() if kind != "Cs" or not "\udc80" <= one <= "\udcff" else _byte(one)


def _byte(one: str) -> str:
    """A byte of a name that is no UTF-8."""
    return f"\\x{ord(one) - 0xDC00:02x}"


def json_line(data: Mapping[str, Any], *, sort: bool = False) -> str:
    """JSON on one line, which is UTF-8 whatever is in it.

    A byte of a file name that is no UTF-8, such as FC, is written as `\\udcfc`: Python's `json.loads` and `os.fsencode`
    make the name of it again. NaN and infinity, which JSON has not, become null.
    """
    text = json.dumps(finite(data), ensure_ascii=False, sort_keys=sort, allow_nan=False)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def finite(value: Any) -> Any:
    """The same for JSON: NaN and infinity, which it has not, become null."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """A CSV table in UTF-8, its texts as `cell` makes them. A file name that is no UTF-8 keeps its bytes."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([cell(value) for value in row] for row in rows)


def cell(value: object) -> object:
    """A value for a CSV table: text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def plain_cell(text: str) -> str:
    """The text that `cell` has written."""
    return text[1:] if _ESCAPED.match(text) else text
